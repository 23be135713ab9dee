"""The ComfyUI that is measured, and how much of the device's memory it is left."""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .place import Place
from .task import NotMeasured

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOLERANCE = 2 * 2**30  # bytes that a server may keep for its libraries


def found(place: Place) -> tuple[Path, str]:
    """The carried ComfyUI with this Python, or the one that the tests would take."""
    if place.carried is not None and (place.carried / "ComfyUI/main.py").is_file():
        return place.carried / "ComfyUI", sys.executable
    sys.path.append(str(ROOT / "tests/host"))
    from client import find_comfyui

    there = find_comfyui()
    if isinstance(there, str):
        raise NotMeasured(f"no ComfyUI was carried, and {there}")
    return there


def folder(place: Place, size: int) -> Path:
    """A folder with room for so many bytes, in memory if there is such a one; it goes when this process ends."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and not place.rehearsed and shutil.disk_usage(memory).free > 1.2 * size
    made = tempfile.mkdtemp(prefix="comfyui-", dir=memory if roomy else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    if shutil.disk_usage(made).free < 1.1 * size:
        raise NotMeasured(f"no room for {size / 2**30:.0f} GiB in {memory} or {Path(made).parent}")
    return Path(made)


def start(place: Place, base: Path) -> Any:
    """A server (tests/host/client.py) on the device, without the browser's page."""
    comfyui, python = found(place)
    sys.path.append(str(ROOT / "tests/host"))
    import client

    client.START_SECONDS = client.RUN_SECONDS = max(1.0, place.left())
    page = base / "page"
    page.mkdir(parents=True, exist_ok=True)
    server = client.Server(comfyui, python, base, "--front-end-root", str(page))
    site = place.carried / "site" if place.carried else ""
    server.command[1:2] = [str(HERE / "host_launch.py"), str(site)]
    if place.on_gpu:
        server.command.remove("--cpu")
        os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    server.add_pack("comfyui-mova", ROOT)
    shutil.copy(HERE / "host_pack.py", base / "custom_nodes/benchmark.py")
    atexit.register(server.stop)
    return server.start(warm=False)


def free_bytes(place: Place) -> int:
    """Of the device's memory; on the CPU, of the machine's."""
    if place.on_gpu:
        return torch.cuda.mem_get_info(place.device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def emptied(place: Place, server: Any, idle: int) -> bool:
    """Have the server take its models off the device; whether about as much is free then as when it was idle."""
    try:
        told = server.run({"1": {"class_type": "BenchmarkFree", "inputs": {}}}).error
    except (OSError, RuntimeError):  # it is gone
        return False
    return told is None and (not place.on_gpu or free_bytes(place) > idle - TOLERANCE)


@contextlib.contextmanager
def held_to(place: Place, limit: int | None) -> Iterator[None]:
    """So many bytes of the device's memory are free for the server, beside what it holds when idle: the rest is taken
    by one plain allocation. None: all.
    """
    taken = None
    if limit is not None and place.on_gpu:
        if (rest := free_bytes(place) - limit) < 0:
            raise NotMeasured(f"only {free_bytes(place) / 2**30:.1f} GiB are free")
        taken = torch.empty(rest, dtype=torch.uint8, device=place.device)
    try:
        yield
    finally:
        del taken
        if place.on_gpu:
            torch.cuda.empty_cache()


@contextlib.contextmanager
def watched(place: Place) -> Iterator[list[float]]:
    """A list whose first entry is, after the block, the most GiB of the device's memory taken within it."""
    start, lowest, ended = free_bytes(place), [free_bytes(place)], threading.Event()
    peak: list[float] = []

    def watch() -> None:
        while not ended.wait(0.02):
            lowest[0] = min(lowest[0], free_bytes(place))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak.append((start - lowest[0]) / 2**30)
