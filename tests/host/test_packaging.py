"""What the Comfy registry gets: the files that .comfyignore leaves in; and what keeps a release from publication."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest and mypy need it there

PACK = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive's files, as the registry's tool collects them where there is no git."""
    spec = GitIgnoreSpec.from_lines((PACK / ".comfyignore").read_text(encoding="utf-8").splitlines())
    folder = tmp_path_factory.mktemp("archive") / "mova-from-the-registry"
    for root, folders, files in os.walk(PACK):
        place = Path(root).relative_to(PACK)
        folders[:] = [name for name in folders if not spec.match_file(f"{(place / name).as_posix()}/")]
        for name in files:
            if not spec.match_file((place / name).as_posix()):
                (folder / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(PACK / place / name, folder / place / name)
    return folder


def test_it_holds_the_pack_and_nothing_for_developers(archive):
    for part in (
        "mova",
        "nodes",
        "web/docs",
        "locales/zh",
        "workflows/api",
        "LICENSE",
        "README.md",
        "requirements.txt",
    ):
        assert (archive / part).exists(), part
    left_out = {
        "authoring",
        "tests",
        "benchmarks",
        "demos",
        ".github",
        ".ci",
        ".git",
        ".venv",
        "Makefile",
        "requirements-dev.txt",
    }
    assert not left_out & {path.name for path in archive.iterdir()}
    sizes = {path: path.stat().st_size for path in archive.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 3_500_000, sorted(sizes, key=sizes.get)[-5:]
    assert not [path for path in sizes if path.suffix in (".pyc", ".part", ".safetensors", ".mp4")]
    kinds = {path.suffix for path in (archive / "workflows").rglob("*") if path.is_file()}
    assert kinds == {".json", ".jpg"}, "what ships there is workflows and pictures"


def test_comfyui_loads_all_nodes_with_help_pages_and_translation_from_it(host_place, archive, tmp_path):
    from client import Server

    server = Server(*host_place, tmp_path)
    server.add_pack(archive.name, archive)
    try:
        server.start(warm=False)
        module = f"custom_nodes.{archive.name}"
        nodes = {name for name, info in server.get_json("/object_info").items() if info["python_module"] == module}
        assert nodes == {page.stem for page in (PACK / "web/docs").glob("*.md")}
        assert server.get(f"/extensions/{archive.name}/docs/MOVAJointSampler/zh.md")
        assert nodes <= set(server.get_json("/i18n")["zh"]["nodeDefs"])
    finally:
        server.stop()
    assert "[MOVA]" not in server.log.read_text()


def test_the_headless_runner_runs_from_it_in_any_folder(archive, tmp_path):
    # -I: as ComfyUI's portable Python does, it looks for modules neither in the current folder nor in PYTHONPATH.
    done = subprocess.run([sys.executable, "-I", archive, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "generate" in done.stdout, done.stderr


@pytest.fixture
def project():
    return tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_name_is_one_that_the_registry_takes(project):
    """docs.comfy.org/registry/specifications: short, letters and digits with single marks between, no "ComfyUI"."""
    assert re.fullmatch(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*", project["name"]) and len(project["name"]) < 100
    assert "comfy" not in project["name"]


def test_the_version_stands_in_one_place(project, archive):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import mova; print(mova.__version__)"
    for place in (PACK, archive):
        done = subprocess.run([sys.executable, "-I", "-c", code, place], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == project["version"]
    for file in (
        *PACK.glob("*.py"),
        *(file for part in ("mova", "nodes", "authoring") for file in PACK.glob(f"{part}/**/*.py")),
    ):
        assert f'"{project["version"]}"' not in file.read_text(encoding="utf-8"), file


def test_without_its_pyproject_the_version_is_not_known_and_nothing_breaks(tmp_path):
    shutil.copytree(PACK / "mova", tmp_path / "mova", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from mova import __version__; print(__version__)"
    done = subprocess.run([sys.executable, "-I", "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "unknown"


GITHUB = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "someone/mova",
    "COMFY_PUBLISHER_ID": "someone",
}
REPOSITORY = "https://github.com/someone/mova"


@pytest.fixture(scope="module")
def prepare_release():
    """What the workflow that publishes a release runs first."""
    spec = importlib.util.spec_from_file_location("prepare_release", PACK / ".github/prepare_release.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def pyproject(version="1.2.3", **comfy):
    return {"project": {"version": version}, "tool": {"comfy": comfy}}


def test_a_release_of_this_pack_gets_publisher_and_addresses_from_github_and_can_be_published(prepare_release):
    config = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    prepare_release.fill(config, GITHUB)
    assert config["tool"]["comfy"]["PublisherId"] == "someone"
    assert config["project"]["urls"] == {
        "Repository": REPOSITORY,
        "Documentation": f"{REPOSITORY}#readme",
        "Bug Tracker": f"{REPOSITORY}/issues",
    }
    assert not prepare_release.faults(config, f"v{config['project']['version']}", "key")


def test_what_pyproject_says_goes_before_what_github_says(prepare_release):
    config = pyproject(PublisherId="owner")
    config["project"]["urls"] = {"Repository": "https://example.org/mova", "Bug Tracker": ""}
    prepare_release.fill(config, GITHUB)
    assert config["tool"]["comfy"]["PublisherId"] == "owner"
    assert config["project"]["urls"]["Repository"] == "https://example.org/mova"
    assert config["project"]["urls"]["Bug Tracker"] == f"{REPOSITORY}/issues"


@pytest.mark.parametrize(
    ("github", "version", "tag", "key", "said"),
    [
        (GITHUB, "1.2.3", "v1.2.3", "key", None),
        ({**GITHUB, "COMFY_PUBLISHER_ID": ""}, "1.2.3", "v1.2.3", "key", "COMFY_PUBLISHER_ID.*Actions > Variables"),
        ({**GITHUB, "COMFY_PUBLISHER_ID": "@someone"}, "1.2.3", "v1.2.3", "key", "'@someone'.*Actions > Variables"),
        ({"COMFY_PUBLISHER_ID": "someone"}, "1.2.3", "v1.2.3", "key", "Repository"),
        (GITHUB, "1.2.3", "v1.2.3", "", "REGISTRY_ACCESS_TOKEN.*Actions > Secrets"),
        (GITHUB, "1.2.3", "v1.2.4", "key", r"v1\.2\.4.*1\.2\.3.*must agree"),
        (GITHUB, "1.2", "v1.2", "key", r"'1\.2' in pyproject\.toml"),
    ],
)
def test_a_release_that_cannot_be_published_is_told_why_in_one_sentence(
    prepare_release, github, version, tag, key, said
):
    config = pyproject(version)
    prepare_release.fill(config, github)
    found = prepare_release.faults(config, tag, key)
    assert len(found) == (said is not None), found
    assert all(re.search(said, fault) and fault.endswith(".") for fault in found), found
