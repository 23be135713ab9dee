"""python host_launch.py SITE COMFYUI/main.py ARGUMENTS: ComfyUI with carried packages; it ends with who started it."""

import contextlib
import ctypes
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # of Linux
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
launch = Path(__file__).resolve().parents[2] / "tests/host/launch.py"
_, site, *sys.argv = sys.argv
sys.argv.insert(0, str(launch))
sys.path.append(site)  # what is installed goes before; the first entry is replaced by launch.py
runpy.run_path(str(launch), run_name="__main__")
