"""Bringing a ComfyUI to test on: whole or not at all, and one line where it cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

import bring
import client
import pytest

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


@pytest.fixture
def instead(tmp_path, monkeypatch):
    """Has git take a folder of our own for ComfyUI's address."""
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{source}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", bring.SOURCE)
    return source


def test_the_pinned_version_is_cloned(instead, tmp_path):
    for name in ("main.py", "requirements.txt"):
        (instead / name).write_text("")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", bring.PINNED]):
        subprocess.run([*GIT, *command], cwd=instead, check=True)
    place = tmp_path / "own/ComfyUI"
    assert bring.clone(place) is None
    assert (place / "main.py").is_file() and [path.name for path in place.parent.iterdir()] == ["ComfyUI"]
    assert bring.clone(place) is None, "nothing is cloned twice"


def test_where_it_cannot_be_had_one_line_says_so_and_it_is_no_error(instead, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    home.pop("COMFYUI_PATH", None)
    script = "import bring, pathlib, client; bring.OWN_COMFYUI = client.OWN_COMFYUI = pathlib.Path('own/ComfyUI'); "
    done = subprocess.run(
        [sys.executable, "-c", script + "bring.main()"],
        env={**home, "PYTHONPATH": str(Path(bring.__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "NOT TESTED" in line]
    assert len(lines) == 1 and "the nodes (tests/host)" in lines[0]
    assert not (tmp_path / "own/ComfyUI").exists()


def test_a_comfyui_that_cannot_run_does_not_hide_the_one_that_was_brought(tmp_path, monkeypatch):
    """People have one in ~/comfy whose Python is elsewhere: its requirements are not found."""
    home, brought = tmp_path / "comfy/ComfyUI", tmp_path / "own/ComfyUI"
    for place in (home, brought):
        (place / ".venv/bin").mkdir(parents=True)
        (place / "main.py").write_text("")
        (place / ".venv/bin/python").write_text("")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(client, "OWN_COMFYUI", brought)
    monkeypatch.setattr(client, "can_run_comfyui", lambda python: python.startswith(str(brought)))
    assert client.find_comfyui() == (brought, str(brought / ".venv/bin/python"))
    monkeypatch.setattr(client, "can_run_comfyui", lambda python: False)
    assert "lack requirements" in client.find_comfyui()
