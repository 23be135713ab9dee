"""Where one forward's time goes, by torch.profiler: products, attention, element-wise work, and the gaps between."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .. import clock, expert, kernels
from ..place import Place
from ..task import Figures, Task
from ..variants import COMPILED, VARIANTS
from .step import weights

# By the names of kernels on an NVIDIA GPU, and of operators on a CPU; the first that fits. torch.compile names a kernel
# of its own, which is element-wise work, by all that it was fused of.
KINDS = {
    "attention": r"^(?!triton_).*(attention|flash|fmha|sdpa|mha_|attn)",
    "matrix products": r"^(?!triton_).*(gemm|nvjet|xmma|cutlass|cublas|wgmma|splitk|convol|fprop|mm\b|linear)",
    "copies": r"^(memcpy|memset|aten::copy_|aten::fill_)",
    "element-wise": r".",
}
LONGEST = 8  # kernels that are listed by name


class Span(NamedTuple):
    """A kernel's run, in microseconds from the profile's start; its own time leaves out what it calls."""

    name: str
    start: float
    end: float
    own: float

    @property
    def kind(self) -> str:
        return next(kind for kind, pattern in KINDS.items() if re.search(pattern, self.name.lower()))


def spans(place: Place, run: Callable[[], Any]) -> list[Span]:
    """All kernels of a run, or on the CPU all operators."""
    activity = ProfilerActivity.CUDA if place.on_gpu else ProfilerActivity.CPU
    device = DeviceType.CUDA if place.on_gpu else DeviceType.CPU
    with profile(activities=[activity]) as found:
        clock.seconds(place, run)
    times = [(event.name, event.time_range, event) for event in found.events() if event.device_type == device]
    if not times:
        raise RuntimeError("the profiler has seen no kernels")
    return [
        Span(name, at.start, at.end, at.end - at.start if place.on_gpu else event.self_cpu_time_total)
        for name, at, event in times
    ]


def busy(found: list[Span]) -> float:
    """Microseconds in which at least one was running."""
    total, until = 0.0, float("-inf")
    for span in sorted(found, key=lambda span: span.start):
        total += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return total


def breakdown(found: list[Span]) -> dict[str, float]:
    """Milliseconds of each kind, of the gaps, and of the whole."""
    whole = max(span.end for span in found) - min(span.start for span in found)
    by_kind = Counter(dict.fromkeys(KINDS, 0.0))
    for span in found:
        by_kind[span.kind] += span.own
    return {
        **{kind: time / 1e3 for kind, time in by_kind.items()},
        "gaps": (whole - busy(found)) / 1e3,
        "whole": whole / 1e3,
    }


def profiled(place: Place, variant: str) -> Figures:
    kernel = kernels.fastest(place)
    weighted, given = weights(place)
    model = VARIANTS[variant](weighted, place.small.model, kernel.attention)
    with kernel.alone():
        expert.warm_up(model, given)
        found = spans(place, lambda: model(*given))
    times = breakdown(found)
    figures: Figures = {"kernel": kernel.name, "kernels": len(found), "whole ms": times.pop("whole")}
    for kind, time in times.items():
        figures |= {f"{kind} ms": time, f"{kind} %": 100 * time / figures["whole ms"]}
    by_name = Counter()
    for span in found:
        by_name[span.name] += span.own
    longest = (f"{name[:60]} {time / 1e3:.0f} ms" for name, time in by_name.most_common(LONGEST))
    return {**figures, "longest": "; ".join(longest)}


def tasks(place: Place) -> list[Task]:
    """Not the compiled ones: compiling takes too long to do it twice."""
    return [Task(name, lambda v=name: profiled(place, v), 14) for name in VARIANTS if name != COMPILED]
