"""Time and memory of something that runs on the device."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from peakmem import PeakMem

from .place import Place

GIB = 2**30


def stamp(place: Place) -> Any:
    """A moment in the device's work; see between."""
    if not place.on_gpu:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(place: Place, start: Any, end: Any) -> float:
    """Seconds from one stamp to another."""
    if not place.on_gpu:
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1000


def seconds(place: Place, run: Callable[[], Any]) -> float:
    """What one run takes, on the device."""
    start = stamp(place)
    run()
    return between(place, start, stamp(place))


def median_seconds(place: Place, run: Callable[[], Any], budget: float = 1.0, most: int = 20) -> float:
    """The median of as many runs as fit into the budget (at most so many), after one that is not counted."""
    times = [seconds(place, run)]
    for _ in range(max(1, min(most, int(budget / max(times[0], 1e-4))))):
        times.append(seconds(place, run))
    return sorted(times[1:])[(len(times) - 1) // 2]


def timed(place: Place, run: Callable[[], Any], times: int, *weights: torch.nn.Module) -> tuple[list[float], float]:
    """Seconds of each of so many runs, and the most GiB that they take beyond what was there before.

    On the CPU, whose allocator does not count, the memory is that of one more run.
    """
    if place.on_gpu:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        took = [seconds(place, run) for _ in range(times)]
        return took, (torch.cuda.max_memory_allocated() - before) / GIB
    took = [seconds(place, run) for _ in range(times)]
    with PeakMem(*weights) as memory:
        run()
    return took, memory.peak / GIB


def make_room(place: Place) -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if place.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
