"""sh benchmarks/gpu_carry.sh DIR: what gpu.sh needs beside PyTorch on a machine without a network, in one archive.

ComfyUI's sources without its page, its templates and its largest tokenizers; the packages in gpu/carry.txt (the one
place of their versions); empty packages in place of those that are only imported. Then, on the other machine:
sh benchmarks/gpu.sh --carry DIR.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .carried import ARCHIVE

HERE = Path(__file__).parent
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
STUBS = ("av", "modelscope")
MOST = 55 * 2**20  # bytes of the archive, which may have to pass a gate of 64 MiB beside this repository

# Of ComfyUI: what is no part of the running server, and single files so large that they are tokenizers or samples.
UNUSED = {
    ".ci",
    ".git",
    ".github",
    ".venv",
    "venv",
    "blueprints",
    "input",
    "models",
    "output",
    "script_examples",
    "temp",
}
UNUSED |= {"custom_nodes", "tests", "tests-unit", "user"}
LARGEST = 300_000  # bytes
NOT_CUDA = "comfy_kitchen/backends/hip/_C"  # AMD's, 59 MB


def download(place: Path) -> None:
    """The wheels."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    subprocess.run([*command, "--dest", str(place), "--requirement", str(HERE / "carry.txt")], check=True)


def unpack(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site, [name for name in archive.namelist() if not name.startswith(NOT_CUDA)])


def sources(comfyui: Path) -> Iterator[Path]:
    """The files of ComfyUI that its server needs."""
    for path in sorted(comfyui.rglob("*")):
        inside = path.relative_to(comfyui)
        wanted = inside.parts[0] not in UNUSED and "__pycache__" not in inside.parts
        if wanted and path.is_file() and path.stat().st_size <= LARGEST:
            yield inside


def find_comfyui(given: Path | None) -> Path:
    """The folder that was given, or the one that the tests take."""
    if given is not None:
        return given
    sys.path.append(str(HERE.parents[1] / "tests/host"))
    from client import find_comfyui

    found = find_comfyui()
    if isinstance(found, str):
        raise SystemExit(found)
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; without it the one that the tests take")
    options = parser.parse_args()
    comfyui = find_comfyui(options.comfyui)
    options.folder.mkdir(parents=True, exist_ok=True)
    archive = options.folder / ARCHIVE
    with tempfile.TemporaryDirectory() as temporary:
        wheels, site = Path(temporary, "wheels"), Path(temporary, "site")
        download(wheels)
        for wheel in sorted(wheels.iterdir()):
            unpack(wheel, site)
        for name in STUBS:
            Path(site, name).mkdir()
            Path(site, name, "__init__.py").write_text((HERE / "stub.py").read_text())
        with tarfile.open(archive, "w:xz") as out:
            out.add(site, "site")
            for inside in sources(comfyui):
                out.add(comfyui / inside, Path("ComfyUI", inside))
    size = archive.stat().st_size
    print(f"{archive}: {size / 2**20:.1f} MiB, with the ComfyUI of {comfyui}")
    if size > MOST:
        raise SystemExit(f"That is more than {MOST / 2**20:.0f} MiB: leave something out (gpu/carry.txt, UNUSED).")


if __name__ == "__main__":
    main()
