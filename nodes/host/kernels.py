"""How the model's work is carried out in the host: its attention, or what is plugged in for it, and our own options."""

from dataclasses import dataclass, replace
from typing import Any

import comfy.ldm.modules.attention as host_attention
from torch import Tensor

from ...mova.model.elementwise import gelu_linear
from ...mova.model.joint import KernelsByPlace
from ...mova.model.kernels import LOW_MEMORY, Kernels, at_once
from .elementwise import NORMS, host_gelu_linear

ATTENTION_PATCHES = "attn1_patch", "attn2_patch"
OPTIONS = "mova_options"  # the key in transformer_options


@dataclass(frozen=True)
class Options:
    """What a node has chosen for a model."""

    elementwise: str = "torch"  # a key of NORMS
    low_memory: bool = False
    audio_memory: str = "exact"


@dataclass(frozen=True, eq=False)
class HostAttention:
    """The host's attention under these transformer_options.

    They are an attribute of that name because the host tells torch.compile to put no guards on what is called so.
    """

    transformer_options: dict[str, Any]

    @property
    def whole(self) -> bool:
        """Whether it must get all heads at once: with one plugged in, which may happen between two blocks."""
        return "optimized_attention_override" in self.transformer_options

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return host_attention.optimized_attention(q, k, v, heads, transformer_options=self.transformer_options)


def kernels_of(transformer_options: dict[str, Any] | None) -> Kernels:
    """How a module works under these options, also one that a pack calls itself."""
    given = transformer_options if transformer_options is not None else {}
    chosen: Options = given.get(OPTIONS, Options())
    kernels = LOW_MEMORY if chosen.low_memory else Kernels()
    # Named here also where they are the defaults, which torch.compile does not find again.
    norms, linear = NORMS[chosen.elementwise], gelu_linear if chosen.elementwise == "torch" else host_gelu_linear
    return replace(kernels, attention=HostAttention(given), norm_and_rotate_=norms, gelu_linear=linear, piece=at_once)


def kernels_by_place(transformer_options: dict[str, Any]) -> KernelsByPlace:
    """For each place an attention whose overrides can tell where they are: block_type is "audio" or "bridge" there.

    In the video tower it is "double", as in the host's Wan; q and k are of one shape in its self-attention only.
    Patches of attention are for the video alone.
    """
    plugged = transformer_options.get("patches", {})
    of_all = {name: functions for name, functions in plugged.items() if name not in ATTENTION_PATCHES}
    others = ({**transformer_options, "patches": of_all, "block_type": place} for place in ("audio", "bridge"))
    return KernelsByPlace(kernels_of(transformer_options), *map(kernels_of, others))


def options_of(kernels: Kernels) -> dict[str, Any]:
    """The transformer_options that its attention has."""
    return kernels.attention.transformer_options  # type: ignore[attr-defined]


def say_block(used: KernelsByPlace, index: int) -> None:
    """Tell every override in which layer it is."""
    for kernels in used:
        options_of(kernels)["block_index"] = index


def with_options(kernels: Kernels, transformer_options: dict[str, Any]) -> Kernels:
    """The same work with an attention under other options."""
    return replace(kernels, attention=HostAttention(transformer_options))
