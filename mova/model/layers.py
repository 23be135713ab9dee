"""What both towers and the bridge are built of.

Tensors of a whole token sequence are large (0.41 GiB each at 640x352x193 in bf16), so each is dropped as soon as it has
been used.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import is_short, over_queries_, split_heads
from .elementwise import modulated_norm
from .kernels import Kernels
from .recording import recorded
from .rope import Rotation, Turn, from_wan


def timestep_sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Timesteps [B] in 0..1000 -> [B, dim] float32: cosines, then sines (sinusoidal_embedding_1d)."""
    # Apple's MPS, Intel's Arc and DirectML have no float64, and nobody knows what others have.
    position = timestep if timestep.device.type in ("cpu", "cuda", "meta") else timestep.cpu()
    exponent = -torch.arange(dim // 2, dtype=torch.float64, device=position.device) / (dim // 2)
    angle = torch.outer(position.double(), 10000.0**exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1).float().to(timestep.device)


def linear_as(layer: nn.Module, x: Tensor, cast: bool) -> Tensor:
    """A Linear in the precision of x, whatever its weights are stored in (those of a host's layers: see cast_inputs).

    The published code runs the timestep layers in float32 on bf16 weights, which torch's Linear would refuse.
    """
    if isinstance(layer, nn.Linear) and cast and layer.weight.dtype != x.dtype:
        return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
    return layer(x)


def patches(transformer_options: dict[str, Any] | None, name: str) -> list[Callable[[dict[str, Any]], Any]]:
    """What packs have plugged into ComfyUI's models under that name ("attn1_patch", "attn2_patch", "double_block")."""
    return (transformer_options or {}).get("patches", {}).get(name, [])


def over_input_(layer: nn.Module, x: Tensor, blocks: int) -> Tensor:
    """layer(x) of a long sequence x [B, L, D] written over x, so many blocks of rows at a time: no tensor beside it."""
    watched = layer._forward_hooks or layer._forward_pre_hooks  # by who may keep what they see
    if blocks == 1 or is_short(x) or watched or recorded(x):
        return layer(x)
    for rows in x.view(1, -1, x.shape[2]).chunk(blocks, dim=1):
        rows.copy_(layer(rows))
    return x


class CrossAttention(nn.Module):
    """Attention from x to a context of another width, with RMSNorm over the full width of q and k."""

    # Attributes that node packs read of ComfyUI's Wan.
    window_size = (-1, -1)
    qk_norm = True
    # How it works when a pack calls it as it would ComfyUI's Wan: by transformer_options. A host puts its own here.
    kernels_of: Callable[[dict[str, Any] | None], Kernels] = staticmethod(lambda _: Kernels())

    def __init__(self, dim: int, context_dim: int, heads: int, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.dim, self.num_heads, self.head_dim, self.eps = dim, heads, dim // heads, eps
        self.q = operations.Linear(dim, dim, **factory)
        self.k = operations.Linear(context_dim, dim, **factory)
        self.v = operations.Linear(context_dim, dim, **factory)
        self.o = operations.Linear(dim, dim, **factory)
        self.norm_q = operations.RMSNorm(dim, eps=eps, **factory)
        self.norm_k = operations.RMSNorm(dim, eps=eps, **factory)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        transformer_options: dict[str, Any] | None = None,
        context_img_len: int | None = None,
        *,
        kernels: Kernels | None = None,
        rotation: Rotation | None = None,
        context_rotation: Rotation | None = None,
    ) -> Tensor:
        """x [B, L, dim], context [B, S, context_dim] -> [B, L, dim]. Without the names after *, called as Wan's."""
        kernels = kernels or self.kernels_of(transformer_options)
        return self.attend(x, *self.keys_and_values(context, kernels, context_rotation), kernels, rotation)

    def keys_and_values(self, context: Tensor, kernels: Kernels, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        """What x attends to of the context [B, S, context_dim]: each [B, S, dim]."""
        k = kernels.norm_and_rotate_(self.k(context), self.norm_k, self.num_heads, rotation)
        return k, self.v(context)

    def attend(self, x: Tensor, k: Tensor, v: Tensor, kernels: Kernels, rotation: Rotation | None) -> Tensor:
        """x [B, L, dim] -> [B, L, dim]."""
        q = kernels.norm_and_rotate_(self.q(x), self.norm_q, self.num_heads, rotation)
        out = kernels.attention(q, k, v, self.num_heads)
        del q, k, v
        return self.o(out)


class SelfAttention(CrossAttention):
    """Attention of x to itself, behind a modulated LayerNorm."""

    def __init__(self, dim: int, heads: int, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(dim, dim, heads, eps, operations, **factory)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        freqs: Turn | Tensor,
        transformer_options: dict[str, Any] | None = None,
        *,
        modulation: tuple[Tensor, Tensor] | None = None,
        kernels: Kernels | None = None,
    ) -> Tensor:
        """x [B, L, dim], shift and scale [B, 1, dim] -> [B, L, dim]. The norm is done here, so that it can be dropped.

        Without the names after *, called as Wan's: x is already modulated, and freqs are matrices (rope.to_wan).
        """
        rotation = from_wan(freqs) if isinstance(freqs, Tensor) else freqs.whole()
        kernels = kernels or self.kernels_of(transformer_options)
        normed = x if modulation is None else modulated_norm(x, *modulation, self.eps)
        q = kernels.norm_and_rotate_(self.q(normed), self.norm_q, self.num_heads, rotation)
        k = kernels.norm_and_rotate_(self.k(normed), self.norm_k, self.num_heads, rotation)
        del rotation  # of a grid: made here
        # Without modulation x is the caller's.
        v = self.v(normed) if modulation is None else over_input_(self.v, normed, kernels.value_blocks)
        del normed
        after = patches(transformer_options, "attn1_patch")
        if after:
            out = kernels.attention(q, k, v, self.num_heads)
        else:
            out = over_queries_(kernels.attention, q, k, v, self.num_heads, kernels.head_groups)
        for patch in after:
            heads = {"q": split_heads(q, self.num_heads), "k": split_heads(k, self.num_heads)}
            out = patch({"x": out, **heads, "transformer_options": transformer_options})
        del q, k, v
        return self.o(out)
