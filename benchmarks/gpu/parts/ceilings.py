"""Ceilings: a large matrix product, a copy within the device's memory, and each attention kernel by itself."""

import functools

import torch

from .. import bound, clock, kernels
from ..kernels import Kernel
from ..place import DTYPE, Place
from ..task import Figures, Task


@functools.cache
def product_rate(place: Place) -> float:
    """FLOP/s of a large matrix product in bf16 on random data."""
    side = 256 if place.rehearsed else 8192
    a, b = (torch.randn(side, side, device=place.device, dtype=DTYPE) for _ in range(2))
    return 2 * side**3 / clock.median_seconds(place, lambda: a @ b, budget=0.3)


def product(place: Place) -> Figures:
    return {"TFLOP/s": product_rate(place) / 1e12}


def copy(place: Place) -> Figures:
    """Bytes read and written."""
    size = 2**20 if place.rehearsed else 2**32
    source, target = (torch.randint(256, (size,), device=place.device, dtype=torch.uint8) for _ in range(2))
    return {"TB/s": 2 * size / clock.median_seconds(place, lambda: target.copy_(source), budget=0.3) / 1e12}


def attention(place: Place, kernel: Kernel, length: int, heads: int) -> Figures:
    took = kernels.seconds(place, kernel, length, heads)
    flops = 4 * heads * place.small.model.video_dit.head_dim * length**2
    return {"ms": took * 1e3, "TFLOP/s": flops / took / 1e12}


def tasks(place: Place) -> list[Task]:
    found = [
        Task("bf16 matrix product, 8192 x 8192 x 8192", lambda: product(place)),
        Task("copy in memory, read and written", lambda: copy(place)),
    ]
    heads = place.small.model.video_dit.num_heads
    for preset, some in ((place.small, heads), (place.large, max(1, heads // 4))):
        length = bound.tokens(preset)[0]
        found += [
            Task(
                f"{kernel.name}: {length} tokens, {some} heads",
                functools.partial(attention, place, kernel, length, some),
            )
            for kernel in kernels.at_hand(place)
        ]
    return found
