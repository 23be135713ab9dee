"""What both towers and the bridge are built of.

Tensors of a whole token sequence are large (0.41 GiB each at 640x352x193 in bf16), so each is dropped as soon as it has
been used, and element-wise work is done in place.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, sdpa, split_heads
from .rope import Rotation, from_wan

# Rows that element-wise work takes at a time: its temporaries stay small beside a whole token tensor. Layers with large
# weights see all rows at once, so that offloaded or quantised weights are fetched only once.
ROWS = 4096


def in_rows_(x: Tensor, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Replace x [B, L, D] by function(rows of x, which rows they are), some rows at a time, in place."""
    step = ROWS
    if torch.compiler.is_compiling():  # which writes out each turn of the loop: a few larger ones, not 44
        step = max(ROWS, -(-x.shape[1] // 4))
    for start in range(0, x.shape[1], step):
        rows = slice(start, start + step)
        x[:, rows] = function(x[:, rows], rows)
    return x


def norm_and_rotate_(x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
    """RMSNorm over the full width of x [B, L, D], then the rotary embedding of each head, in place."""

    def part(x: Tensor, rows: slice) -> Tensor:
        x = norm(x)
        return x if rotation is None else rotation(split_heads(x, heads), rows).flatten(2)

    return in_rows_(x, part)


def gelu_(x: Tensor) -> Tensor:
    """tanh-GELU of x [B, L, D], in place."""
    return in_rows_(x, lambda x, _: F.gelu(x, approximate="tanh"))


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift for x [B, L, D] and shift, scale [B, 1, D]: an affine LayerNorm a sample."""
    scale = scale + 1
    samples = [F.layer_norm(x[i : i + 1], x.shape[-1:], scale[i, 0], shift[i, 0], eps) for i in range(len(x))]
    return samples[0] if len(samples) == 1 else torch.cat(samples)


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
    found: list[Callable[[dict[str, Any]], Any]] = (transformer_options or {}).get("patches", {}).get(name, [])
    return found


class CrossAttention(nn.Module):
    """Attention from x to a context of another width, with RMSNorm over the full width of q and k."""

    # Attributes that node packs read of ComfyUI's Wan.
    window_size = (-1, -1)
    qk_norm = True
    # What attends when a pack calls this as it would ComfyUI's Wan: by transformer_options. A host puts its own here.
    attention_of: Callable[[dict[str, Any] | None], Attention] = staticmethod(lambda _: sdpa)

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
        attention: Attention | None = None,
        rotation: Rotation | None = None,
        context_rotation: Rotation | None = None,
    ) -> Tensor:
        """x [B, L, dim], context [B, S, context_dim] -> [B, L, dim]. Without the names after *, called as Wan's."""
        attention = attention or self.attention_of(transformer_options)
        k = norm_and_rotate_(self.k(context), self.norm_k, self.num_heads, context_rotation)
        v = self.v(context)
        q = norm_and_rotate_(self.q(x), self.norm_q, self.num_heads, rotation)
        out = attention(q, k, v, self.num_heads)
        del q, k, v
        result: Tensor = self.o(out)
        return result


class SelfAttention(CrossAttention):
    """Attention of x to itself, behind a modulated LayerNorm."""

    def __init__(self, dim: int, heads: int, eps: float, operations: Any, **factory: Any) -> None:
        super().__init__(dim, dim, heads, eps, operations, **factory)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        freqs: Rotation | Tensor,
        transformer_options: dict[str, Any] | None = None,
        *,
        modulation: tuple[Tensor, Tensor] | None = None,
        attention: Attention | None = None,
    ) -> Tensor:
        """x [B, L, dim], shift and scale [B, 1, dim] -> [B, L, dim]. The norm is done here, so that it can be dropped.

        Without the names after *, called as Wan's: x is already modulated, and freqs are matrices (rope.to_wan).
        """
        rotation = from_wan(freqs) if isinstance(freqs, Tensor) else freqs
        attention = attention or self.attention_of(transformer_options)
        normed = x if modulation is None else modulated_norm(x, *modulation, self.eps)
        q = norm_and_rotate_(self.q(normed), self.norm_q, self.num_heads, rotation)
        k = norm_and_rotate_(self.k(normed), self.norm_k, self.num_heads, rotation)
        v = self.v(normed)
        del normed
        out = attention(q, k, v, self.num_heads)
        for patch in patches(transformer_options, "attn1_patch"):
            heads = {"q": split_heads(q, self.num_heads), "k": split_heads(k, self.num_heads)}
            out = patch({"x": out, **heads, "transformer_options": transformer_options})
        del q, k, v
        result: Tensor = self.o(out)
        return result
