"""python tests/host/all_hosts.py [ARGUMENTS OF PYTEST]: the tests of tests/host on every ComfyUI that is found.

Looked for: COMFYUI_PATHS (folders, separated as PATH is), else ~/comfy*/ComfyUI and what `make comfyui` has brought.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from client import OWN_COMFYUI

ROOT = Path(__file__).parents[2]


def hosts() -> list[Path]:
    given = os.environ.get("COMFYUI_PATHS")
    places = map(Path, given.split(os.pathsep)) if given else [*Path.home().glob("comfy*/ComfyUI"), OWN_COMFYUI]
    return sorted((place for place in places if (place / "main.py").is_file()), key=version, reverse=True)


def version(place: Path) -> tuple[int, ...]:
    found = re.search(r'__version__ = "([\d.]+)"', (place / "comfyui_version.py").read_text())
    return tuple(map(int, found[1].split("."))) if found else (0,)


def main() -> int:
    found = hosts()
    if not found:
        print("There is no ComfyUI; run: make comfyui")
        return 1
    lines, failed = [], False
    for place in found:
        name = ".".join(map(str, version(place)))
        print(f"== ComfyUI {name} in {place}", flush=True)
        # What cannot be tested is no pass: a host that lacks requirements, a browser or a pack that is not there.
        strict = ["-W", "error:NOT TESTED", "-W", "error:GGUF NOT TESTED"]
        command = [sys.executable, "-m", "pytest", "tests/host", *strict, *sys.argv[1:]]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "COMFYUI_PATH": str(place)}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip(" =\n") or last
        failed |= process.wait() != 0
        lines.append(f"ComfyUI {name}: {last}")
    print("\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
