"""A forward of the large size, worked out from a few layers: the whole takes a minute."""

from typing import Any

from torch import Tensor

from mova import JointModel
from mova.model.joint import Layer

from .. import bound, clock, expert, kernels
from ..kernels import Kernel
from ..place import Place
from ..task import Figures, Task
from ..variants import EAGER, VARIANTS
from .ceilings import product_rate

JOINT, ALONE = 2, 1  # layers that are measured: of both towers with the bridge, and of the video tower alone


def by_layer(place: Place, model: JointModel, given: expert.Inputs, moments: list[Any]) -> None:
    """One forward; before and after each layer a stamp."""

    def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        moments.append(clock.stamp(place))
        out = layer(video, audio)
        moments.append(clock.stamp(place))
        return out

    moments.clear()
    expert.checked(model(*given, run_layer=run_layer))


def scaled(place: Place, kernel: Kernel) -> Figures:
    """The layers that are there stand for all of their kind; the last of each kind is counted."""
    model = VARIANTS[EAGER](expert.build(place), place.large.model, kernel.attention)
    given, moments = expert.inputs(place, place.large), []
    layers, audio_layers = len(model.blocks), len(model.audio_dit.blocks)
    joint = min(JOINT, audio_layers)
    with kernel.alone(), expert.shortened(model, model.audio_dit, joint, ALONE):
        by_layer(place, model, given, moments)
        (whole,), peak = clock.timed(place, lambda: by_layer(place, model, given, moments), 1, model)
    times = [clock.between(place, *pair) for pair in zip(moments[::2], moments[1::2], strict=True)]
    both, alone = times[joint - 1], times[-1]
    ends = max(0.0, whole - sum(times))
    forward = ends + audio_layers * both + (layers - audio_layers) * alone
    work = sum(bound.of_forward(place.large))
    return {
        "kernel": kernel.name,
        "joint layer s": both,
        "video layer s": alone,
        "embeddings and head s": ends,
        "forward s, scaled": forward,
        "step s, scaled": 2 * forward,
        "times the bound at the measured product rate": forward * product_rate(place) / work,
        f"times the bound at {bound.RATE / 1e12:.0f} TFLOP/s": forward * bound.RATE / work,
        "peak GiB beside weights": peak,
    }


def tasks(place: Place) -> list[Task]:
    layers = place.large.model.video_dit.num_layers
    name = f"eager, fastest kernel, scaled from {JOINT + ALONE} of {layers} layers"
    return [Task(name, lambda: scaled(place, kernels.fastest(place)), 12)]
