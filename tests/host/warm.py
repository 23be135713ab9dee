"""ComfyUI's Python with the libraries imported that each start would import: servers begin as forks of it.

Only other people's libraries, which know nothing of arguments or folders; ComfyUI and all packs are imported by each
server itself. A start takes a quarter of its time so.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = [
    *("torch", "torch._dynamo", "torchvision", "torchaudio", "torchsde", "transformers", "safetensors.torch"),
    *("scipy.integrate", "scipy.stats", "scipy.optimize", "numpy", "PIL.Image", "av", "einops", "kornia", "spandrel"),
    *("aiohttp.web", "sqlalchemy.orm", "alembic.command", "pydantic", "yaml", "psutil", "tqdm.auto", "requests"),
    *("transformers.models.clip", "torch.utils.flop_counter", "skimage", "av.video", "simpleeval", "comfy_kitchen"),
]
SCRIPT = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import contextlib, gc, importlib, json, os, runpy, signal
import launch
sys.meta_path.insert(0, launch.Finder())
for name in {LIBRARIES!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.collect()
gc.freeze()
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
print("ready", file=answers, flush=True)


def begin(request):
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    if "huggingface_hub.constants" in sys.modules:  # transformers' imports: what it took of another environment
        importlib.reload(sys.modules["huggingface_hub.constants"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]
    sys.path[0] = os.path.dirname(sys.argv[0])
    gc.enable()
    runpy.run_path(sys.argv[0], run_name="__main__")


for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        pid, status = os.waitpid(request["wait"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), file=answers, flush=True)
        continue
    child = os.fork()
    if not child:
        begin(request)
        break
    print(child, file=answers, flush=True)
"""


@functools.cache
def starter(python: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [python, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    atexit.register(process.kill)
    assert process.stdout.readline() == "ready\n", "ComfyUI's libraries could not be imported"
    return process


ONE_AT_A_TIME = threading.Lock()


def ask(python: str, request: dict) -> int | None:
    with ONE_AT_A_TIME:
        process = starter(python)
        print(json.dumps(request), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())


class Forked:
    """A process as subprocess.Popen has it, as far as servers need it."""

    def __init__(self, command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
        """command: Python, launch.py, main.py and its arguments."""
        assert Path(command[1]).name == "launch.py", "a start of another kind is to be cold"
        self.python, self.returncode = command[0], None
        request = {"arguments": command[2:], "log": str(log), "folder": str(folder), "environment": environment}
        self.pid = ask(self.python, request)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = ask(self.python, {"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (3600 if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("ComfyUI", timeout or 0)
            time.sleep(0.02)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def spawned(command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    """A server as users start it."""
    with open(log, "wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, cwd=folder, env=environment, start_new_session=True)


def forked(command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> "Forked | subprocess.Popen":
    """As a fork of starter, where there are forks."""
    begin = Forked if hasattr(os, "fork") else spawned
    return begin(command, log, folder, environment)
