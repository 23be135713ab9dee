"""python tests/host/bring.py: the ComfyUI that the nodes are tested on, if there is none yet; `make test` calls it.

Where none can be had, one line says what is then not tested, and that is no error.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from client import OWN_COMFYUI, find_comfyui

PINNED = "v0.33.0"
SOURCE = "https://github.com/Comfy-Org/ComfyUI"
# As requirements-dev.txt has torch. The other two are needed at import only: their own choice of torch is left out.
TORCH = "torch==2.13.0"
BESIDE_TORCH = ("torchvision==0.28.0", "torchaudio==2.11.0")
CONNECT_SECONDS, CLONE_SECONDS = 20, 600


def run(*command: str, seconds: int | None = None) -> str | None:
    """Run a command; what went wrong, in a line, or None."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1] if done.returncode else None


def clone(place: Path) -> str | None:
    """Put the pinned version there, whole or not at all; what went wrong, or None."""
    if (place / "main.py").is_file():
        return None
    unfinished = place.with_name(place.name + ".unfinished")
    fault = run("git", "ls-remote", "--exit-code", SOURCE, PINNED, seconds=CONNECT_SECONDS)
    if fault is None:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        command = ("git", "clone", "--quiet", "--depth", "1", "--branch", PINNED, SOURCE, str(unfinished))
        fault = run(*command, seconds=CLONE_SECONDS)
    if fault is None:
        unfinished.rename(place)
    return fault


def environment(place: Path) -> str | None:
    """An environment of its own, with ComfyUI's requirements and the pack's; what went wrong, or None."""
    own = place / ".venv"
    python = str(own / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    wanted = (place / "requirements.txt").read_text().splitlines()
    others = place / "requirements-without-torch.txt"
    others.write_text(
        "\n".join(line for line in wanted if line.split("=")[0] not in ("torch", "torchvision", "torchaudio"))
    )
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pack = str(Path(__file__).parents[2] / "requirements.txt")
    return (
        run(sys.executable, "-m", "venv", str(own))
        or run(*pip, TORCH)
        or run(*pip, "--no-deps", *BESIDE_TORCH)
        or run(*pip, "-r", str(others), "-r", pack)
    )


def main() -> None:
    if not isinstance(find_comfyui(), str):
        return
    if os.environ.get("COMFYUI_PATH"):  # what the user has chosen is not replaced
        fault: str | None = f"COMFYUI_PATH: {find_comfyui()}"
    else:
        print(
            f"ComfyUI {PINNED}, to test the nodes on, comes into {OWN_COMFYUI} (once; COMFYUI_PATH names another) ..."
        )
        fault = clone(OWN_COMFYUI) or environment(OWN_COMFYUI)
    if fault:
        print(f"NOT TESTED: the nodes (tests/host), since there is no ComfyUI: {fault}")


if __name__ == "__main__":
    main()
