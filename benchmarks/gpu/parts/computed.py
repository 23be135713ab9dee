"""What docs/benchmarks.md says without a GPU: activation memory and FLOPs, worked out on fake tensors."""

import functools

from peak_memory import measure

from mova.model.kernels import LOW_MEMORY, Kernels
from mova.model.presets import Preset

from .. import bound
from ..place import Place
from ..task import Figures, Task

LAYERS = 2  # from which on the peak is the same


def computed(preset: Preset, kernels: Kernels) -> Figures:
    peak, _, _ = measure(preset, kernels, layers=LAYERS)
    work = bound.of_forward(preset)
    return {
        "peak GiB": peak,
        "products TFLOP": work.products / 1e12,
        "attention TFLOP": work.scores / 1e12,
        f"step s at {bound.RATE / 1e12:.0f} TFLOP/s": 2 * sum(work) / bound.RATE,
    }


def tasks(place: Place) -> list[Task]:
    ways = {"": Kernels(), ", low memory": LOW_MEMORY}
    return [
        Task(f"{preset.width}x{preset.height}, {preset.frames} frames{name}", functools.partial(computed, preset, way))
        for preset in (place.small, place.large)
        for name, way in ways.items()
    ]
