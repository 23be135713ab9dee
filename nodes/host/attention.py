"""The host's attention, or what has been plugged in for it."""

from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.attention as host_attention
from torch import Tensor

from ...mova.joint import Attentions

ATTENTION_PATCHES = "attn1_patch", "attn2_patch"


@dataclass(frozen=True, eq=False)
class HostAttention:
    """The host's attention under these transformer_options.

    They are an attribute of that name because the host tells torch.compile to put no guards on what is called so.
    """

    transformer_options: dict[str, Any]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return host_attention.optimized_attention(q, k, v, heads, transformer_options=self.transformer_options)


def attention_of(transformer_options: dict[str, Any] | None) -> HostAttention:
    """What attends in a module that a pack calls itself."""
    return HostAttention(transformer_options if transformer_options is not None else {})


def attentions(transformer_options: dict[str, Any]) -> Attentions:
    """For each place an attention whose overrides can tell where they are: block_type is "audio" or "bridge" there.

    In the video tower it is "double", as in the host's Wan; q and k are of one shape in its self-attention only.
    Patches of attention are for the video alone.
    """
    plugged = transformer_options.get("patches", {})
    of_all = {name: functions for name, functions in plugged.items() if name not in ATTENTION_PATCHES}
    others = ({**transformer_options, "patches": of_all, "block_type": place} for place in ("audio", "bridge"))
    return Attentions(HostAttention(transformer_options), *map(HostAttention, others))


def say_block(used: Attentions, index: int) -> None:
    """Tell every override in which layer it is."""
    for attention in used:
        attention.transformer_options["block_index"] = index  # type: ignore[attr-defined]
