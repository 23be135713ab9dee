"""Installing the pack must change nothing in a working ComfyUI: ftfy and what that needs are all it may add."""

import json
import re
import subprocess
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACK = Path(__file__).parents[2]
MAY_ADD = {"ftfy", "wcwidth"}
NO_INDEX = re.compile(r"NewConnectionError|Max retries|ConnectionError|Temporary failure|timed out|Could not fetch URL")


def pip(python, *arguments):
    """Standard output of pip in ComfyUI's Python. Where no package index can be reached: skipped, and said loudly."""
    command = [python, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input", "--retries", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and NO_INDEX.search(done.stderr):
        warnings.warn("REQUIREMENTS NOT TESTED: no package index can be reached", stacklevel=2)
        pytest.skip("REQUIREMENTS NOT TESTED: no package index can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


def would_install(python, requirements, *options):
    """Names and versions of what `pip install -r requirements` would install."""
    report = pip(python, "install", "--dry-run", "--quiet", "--report", "-", *options, "-r", requirements)
    return {p["metadata"]["name"].lower(): p["metadata"]["version"] for p in json.loads(report)["install"]}


def installed(python):
    return {entry["name"].lower() for entry in json.loads(pip(python, "list", "--format", "json"))}


@pytest.fixture(scope="module")
def python(host_place):
    return host_place[1]


def test_the_requirements_change_no_package_that_comfyui_has(python):
    assert not set(would_install(python, PACK / "requirements.txt")) & installed(python)


def test_even_where_nothing_is_installed_the_requirements_bring_little(python):
    """What ComfyUI lacks before the first installation, and so what no version of it can be in conflict with."""
    assert set(would_install(python, PACK / "requirements.txt", "--ignore-installed")) <= MAY_ADD


def test_comfyui_itself_needs_none_of_it(host_place):
    """So that another version of it, in an environment shared with ComfyUI, is nobody's but the pack's."""
    lines = (host_place[0] / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = {Requirement(line).name.lower() for line in lines if line.strip() and not line.startswith("#")}
    assert "torch" in needed and not needed & MAY_ADD


def test_a_requirement_that_would_change_comfyui_is_found(python, tmp_path):
    """The first check can fail."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tqdm<4.60\n")
    assert set(would_install(python, requirements)) & installed(python) == {"tqdm"}


def test_the_registry_is_told_of_the_same_requirements():
    project = (PACK / "pyproject.toml").read_text(encoding="utf-8")
    (line,) = re.findall(r"^dependencies = (\[.*\])", project, re.MULTILINE)
    lines = (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == [line for line in lines if line and not line.startswith("#")]
