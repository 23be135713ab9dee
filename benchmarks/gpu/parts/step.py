"""Time and memory of a step at the small size: each attention kernel, and each variant with the fastest of them."""

import functools
import traceback

import torch

from mova.errors import MovaError

from .. import bound, clock, expert, kernels
from ..kernels import Kernel
from ..place import Place
from ..task import Figures, Task
from ..variants import EAGER, SECONDS, VARIANTS
from .ceilings import product_rate

LIKELY, SLOW = 14.0, 26.0  # seconds that a warm-up and a step take on a GPU, and with the slowest kernel


@functools.cache
def weights(place: Place) -> tuple[expert.JointModel, expert.Inputs]:
    return expert.build(place), expert.inputs(place, place.small)


def step(place: Place, variant: str, kernel: Kernel) -> Figures:
    """Two forwards, one after the other, after a warm-up of one layer of each kind."""
    weighted, given = weights(place)
    model = VARIANTS[variant](weighted, place.small.model, kernel.attention)
    with kernel.alone():
        warm = clock.seconds(place, lambda: expert.warm_up(model, given))
        times, peak = clock.timed(place, lambda: expert.checked(model(*given)), 2, model)
    took, work = sum(times), 2 * sum(bound.of_forward(place.small))
    return {
        "step s": took,
        "forwards s": " and ".join(f"{each:.3f}" for each in times),
        "times the bound at the measured product rate": took * product_rate(place) / work,
        f"times the bound at {bound.RATE / 1e12:.0f} TFLOP/s": took * bound.RATE / work,
        "peak GiB beside weights": peak,
        "warm-up s": warm,
    }


def with_fastest(place: Place, variant: str) -> Figures:
    """A step with the fastest kernel; with PyTorch's choice where the two do not go together."""
    fastest = kernels.fastest(place)
    try:
        return {"kernel": fastest.name, **step(place, variant, fastest)}
    except Exception as error:
        if fastest.name == kernels.CHOICE or isinstance(error, torch.OutOfMemoryError | MovaError):
            raise
        traceback.print_exc()  # to gpu.log
    clock.make_room(place)
    return {"kernel": kernels.CHOICE, **step(place, variant, kernels.at_hand(place)[0])}


def tasks(place: Place) -> list[Task]:
    found = kernels.at_hand(place)
    rows = [
        Task(
            f"{EAGER}, {kernel.name}",
            lambda k=kernel: step(place, EAGER, k),
            SLOW if kernel.name == kernels.SLOW else LIKELY,
        )
        for kernel in found
    ]
    others = [
        Task(f"{variant}, fastest kernel", lambda v=variant: with_fastest(place, v), SECONDS.get(variant, LIKELY))
        for variant in VARIANTS
        if variant != EAGER
    ]
    return [*rows[:3], *others, *rows[3:]]  # the slow kernel is the last
