"""Every command opens a release by the same door: what one of them refuses, none of them takes."""

import json
import threading

import huggingface_hub
import pytest
from hub import Hub

from mova.__main__ import main

# What another library would hang on, take gigabytes for, fetch and run code by, or compute nonsense with.
EDITS = {
    "a million layers": ("text_encoder/config.json", {"num_layers": 1_000_000}),
    "an attention from the hub": ("text_encoder/config.json", {"attn_implementation": "kernels-community/x"}),
    "a billion labels": ("text_encoder/config.json", {"num_labels": 2**30}),
    "code of its own": ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}),
    "a deviation of zero": ("video_vae/config.json", {"latents_std": [0.0] * 16}),
}


@pytest.fixture
def edited(copy, request):
    name, values = EDITS[request.param]
    path = copy / name
    changed = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.unlink()  # others may share the file
    path.write_text(json.dumps(changed), encoding="utf-8")
    (copy / "tokenizer" / "spiece.model").write_bytes(b"\n")
    return copy, path.name, next(iter(values))


def told(capsys, *arguments):
    """The one line that a command ends with, within seconds."""
    done = []
    thread = threading.Thread(target=lambda: done.append(main([*map(str, arguments)])), daemon=True)
    thread.start()
    thread.join(60)
    assert done == [1], "it hangs, or takes the file"
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.fixture(autouse=True)
def no_signals(monkeypatch):
    monkeypatch.setattr("mova.__main__.signal.signal", lambda *_: None)  # which only the main thread may set


CASES = [
    (edit, command)
    for edit in EDITS
    for command in ("info", "generate", "convert", "download")
    if (edit, command) != ("code of its own", "download")  # which fetches nothing of the tokenizer's but spiece.model
]


@pytest.mark.parametrize(("edited", "command"), CASES, indirect=["edited"])
def test_a_dangerous_configuration_is_refused_by_every_command(edited, command, tmp_path, capsys, monkeypatch):
    folder, file, name = edited
    out = tmp_path / "out"
    out.mkdir()
    if command == "download":
        with Hub(folder).running() as hub:
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
            template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            line = told(capsys, command, hub.repository, out)
    else:
        given = {
            "info": (folder,),
            "generate": ("--checkpoint", folder, "--prompt", "rain", "--out", out / "a.mp4", "--steps", 1),
            "convert": (folder, out),
        }
        line = told(capsys, command, *given[command])
    assert file in line and name in line
    assert not [path for path in out.rglob("*") if path.suffix in (".safetensors", ".mp4")]
