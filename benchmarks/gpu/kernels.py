"""The attention kernels at hand, under the names of mova.model.attention; PyTorch's one by one."""

import contextlib
import functools
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mova.model import attention
from mova.model.attention import Attention

from . import bound, clock
from .place import DTYPE, Place

CHOICE = "sdpa"  # what PyTorch chooses
SLOW = "sdpa, memory-efficient"  # where there are others
INEXACT = {"sage", "comfy_kitchen int8"}


@dataclass(frozen=True)
class Kernel:
    """An attention, and the only backend that PyTorch may take for it."""

    name: str
    attention: Attention
    backend: SDPBackend | None = None
    exact: bool = True

    def alone(self) -> Any:
        """A context in which PyTorch takes no other backend, or fails."""
        return contextlib.nullcontext() if self.backend is None else sdpa_kernel(self.backend)


def kitchen_int8(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """ComfyUI's own attention in 8 bits, not exact; from Turing on."""
    import comfy_kitchen

    q, k, v = (attention.split_heads(x, heads).transpose(1, 2) for x in (q, k, v))
    return comfy_kitchen.int8_attention(q, k, v).transpose(1, 2).flatten(2)


def at_hand(place: Place) -> list[Kernel]:
    """All kernels that could run on the device, those that people have first."""
    found = [
        Kernel(CHOICE, attention.sdpa),
        Kernel("sdpa, cuDNN", attention.sdpa, SDPBackend.CUDNN_ATTENTION),
        Kernel("sdpa, flash", attention.sdpa, SDPBackend.FLASH_ATTENTION),
    ]
    names = attention.available(place.device, DTYPE)
    others = {name: attention.KERNELS[name].attention for name in names if name != CHOICE}
    if place.on_gpu and importlib.util.find_spec("comfy_kitchen") is not None:
        others["comfy_kitchen int8"] = kitchen_int8
    found += [Kernel(name, kernel, exact=name not in INEXACT) for name, kernel in others.items()]
    return [*found, Kernel(SLOW, attention.sdpa, SDPBackend.EFFICIENT_ATTENTION)]


def seconds(place: Place, kernel: Kernel, length: int, heads: int) -> float:
    """One self-attention of so many of the video tower's heads over so many tokens."""
    width = heads * place.small.model.video_dit.head_dim
    q, k, v = (torch.randn(1, length, width, device=place.device, dtype=DTYPE) for _ in range(3))
    with kernel.alone():
        return clock.median_seconds(place, lambda: kernel.attention(q, k, v, heads), budget=0.5, most=5)


def fits(place: Place, kernel: Kernel) -> None:
    """Run the kernel on each of the model's pairs of lengths. Raises what it raises where one is not for it."""
    video, audio = bound.tokens(place.small)
    towers = {video: place.small.model.video_dit, audio: place.small.model.audio_dit}
    with kernel.alone():
        for length, tower in towers.items():
            for other in (audio, video, bound.TEXT_TOKENS):
                q, k = (torch.zeros(1, n, tower.dim, device=place.device, dtype=DTYPE) for n in (length, other))
                kernel.attention(q, k, k, tower.num_heads)


@functools.cache
def fastest(place: Place) -> Kernel:
    """The kernel, of the exact ones, that takes the least time for a clip of the small size; PyTorch's choice if none
    is clearly faster.
    """
    times = {}
    length, heads = bound.tokens(place.small)[0], place.small.model.video_dit.num_heads
    for kernel in at_hand(place):
        if not kernel.exact or kernel.name == SLOW:
            continue
        try:
            fits(place, kernel)
            times[kernel] = seconds(place, kernel, length, heads)
        except Exception:  # a kernel that is not for this device
            continue
    best = min(times, key=times.__getitem__)
    choice = next(kernel for kernel in times if kernel.name == CHOICE)
    return choice if times[choice] < 1.03 * times[best] else best
