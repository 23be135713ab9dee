"""python tests/host/many_runs.py: a thousand runs of the shipped workflows on one ComfyUI, and how its memory grows.

Small models, a CPU; each run has a seed of its own, so that it is really sampled. After some runs to get warm the
memory is read, and then time and again: each time when the host has been told to let go of models and results (/free),
and of its list of runs, of which it keeps 10,000. Exits with 1 if the memory has grown by more than 2 %. Linux.

--core sends a workflow of core nodes alone: how much of it is the host's.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from client import Server, find_comfyui  # noqa: E402
from fuzz_watch import status_bytes  # noqa: E402
from graphs import Graph, ref  # noqa: E402
from small_workflows import FEWER_STEPS, NAMES, shipped, small_server  # noqa: E402

MOST = 0.02  # of the memory behind the runs that warm up
LEFT = ("temp", "output/mova_runs")  # folders in which nothing may pile up
MIB = 1 << 20


@dataclass
class Reading:
    """What the server holds after so many runs."""

    runs: int
    memory: int  # bytes: VmRSS
    files: int  # open ones, sockets among them
    threads: int


def read(server: Server, runs: int) -> Reading:
    """Once the host has freed what it can."""
    server.post("/history", {"clear": True})
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(2)  # the host does so behind the answer
    process = Path(f"/proc/{server.process.pid}")
    threads = len(os.listdir(process / "task"))
    return Reading(runs, status_bytes(server.process.pid, "VmRSS"), len(os.listdir(process / "fd")), threads)


def of_core_nodes(seed: int) -> dict[str, Any]:
    """A clip of one colour."""
    graph = Graph()
    frames = ref(graph.add("EmptyImage", width=48, height=32, batch_size=9, color=seed % 2**24))
    video = ref(graph.add("CreateVideo", images=frames, fps=24.0))
    graph.add("SaveVideo", video=video, filename_prefix="core", format="mp4", codec="h264")
    return graph.nodes


def run(server: Server, number: int, core: bool) -> None:
    """One workflow to its end, and its clip away again: the disk is not what is looked at."""
    name = NAMES[number % len(NAMES)]
    workflow = of_core_nodes(number) if core else shipped(name, number, FEWER_STEPS)
    result = server.run(workflow)
    if result.error is not None:
        raise SystemExit(f"run {number} ({name}) failed: {result.error}{''.join(result.traceback)}")
    for output in result.outputs.values():
        for entry in output.get("images", []):
            (server.base / entry["type"] / entry["subfolder"] / entry["filename"]).unlink()


def growth(readings: list[Reading]) -> float:
    """By how much of the first reading the largest of the later ones is above it."""
    return max(reading.memory for reading in readings[1:]) / readings[0].memory - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="after those that warm up")
    parser.add_argument("--warm", type=int, default=100, help="runs before the first reading")
    parser.add_argument("--every", type=int, default=50, help="runs between two readings")
    parser.add_argument("--core", action="store_true", help="a workflow of core nodes alone, to compare with")
    given = parser.parse_args()
    found = find_comfyui()
    if isinstance(found, str):
        print(found)
        return 2
    readings = []
    with small_server(found) as server:
        for number in range(given.warm + given.runs):
            if number >= given.warm and (number - given.warm) % given.every == 0:
                readings.append(read(server, number))
                print(told(readings[-1], readings[0]), flush=True)
            run(server, number, given.core)
        readings.append(read(server, given.warm + given.runs))
        print(told(readings[-1], readings[0]))
        left = [path for place in LEFT for path in (server.base / place).rglob("*") if path.is_file()]
    grew = growth(readings)
    most = f"the memory grew by {100 * grew:.2f} % at the most"
    print(f"{given.runs} runs after {given.warm}: {most}; left behind: {left or 'nothing'}")
    return int(grew > MOST or bool(left))


def told(reading: Reading, first: Reading) -> str:
    more = 100 * (reading.memory / first.memory - 1)
    files, threads = f"{reading.files} open files", f"{reading.threads} threads"
    return f"{reading.runs:5} runs: {reading.memory / MIB:.1f} MiB ({more:+.2f} %), {files}, {threads}"


if __name__ == "__main__":
    sys.exit(main())
