"""What docs/benchmarks.md says without a GPU: activation memory and FLOPs, worked out on fake tensors."""

from peak_memory import measure

from mova.config import Preset

from .. import bound
from ..place import Place
from ..task import Figures, Task


def computed(preset: Preset) -> Figures:
    peak, _, _ = measure(preset)
    work = bound.of_forward(preset)
    return {
        "peak GiB": peak,
        "products TFLOP": work.products / 1e12,
        "attention TFLOP": work.scores / 1e12,
        f"step s at {bound.RATE / 1e12:.0f} TFLOP/s": 2 * sum(work) / bound.RATE,
    }


def tasks(place: Place) -> list[Task]:
    return [
        Task(f"{preset.width}x{preset.height}, {preset.frames} frames", lambda preset=preset: computed(preset))
        for preset in (place.small, place.large)
    ]
