"""Norm and rotary embedding in one pass, by Triton. Imported only where it is asked for."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from .elementwise import NormAndRotate, norm_and_rotate_
from .recording import recorded
from .rope import Rotation

# norm -> a context in which its weight is there, for tokens like x; a host fetches it from where it keeps weights.
WeightOf = Callable[[nn.Module, Tensor], contextlib.AbstractContextManager[Tensor]]


@triton.jit  # type: ignore[untyped-decorator]
def norm_rope_kernel(  # type: ignore[no-untyped-def]
    x_start,
    weight_start,
    table_start,
    length,
    repeats,
    eps,
    heads: tl.constexpr,
    half: tl.constexpr,  # of a head
    halves: tl.constexpr,  # turn the pairs (i, i + half) instead of (2 i, 2 i + 1)
    turn: tl.constexpr,
    heads_padded: tl.constexpr,
    half_padded: tl.constexpr,
):
    """One row of x [rows, heads, 2 * half] a program, as two tiles [heads, half]: the first and second of each pair."""
    row = tl.program_id(0)
    head, i = tl.arange(0, heads_padded)[:, None], tl.arange(0, half_padded)[None, :]
    inside = (head < heads) & (i < half)
    if halves:
        first, second = head * (2 * half) + i, head * (2 * half) + half + i
    else:
        first, second = head * (2 * half) + 2 * i, head * (2 * half) + 2 * i + 1
    x = x_start + row.to(tl.int64) * (2 * heads * half)  # three clips of 720p have more than 2^31 numbers
    a = tl.load(x + first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + second, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(tl.sum(a * a + b * b, axis=1), axis=0) / (2 * heads * half)
    scale = 1.0 / tl.sqrt(mean + eps)
    dtype = x_start.dtype.element_ty
    # Rounded in between, as in separate passes.
    a = (a * scale * tl.load(weight_start + first, mask=inside, other=0.0).to(tl.float32)).to(dtype)
    b = (b * scale * tl.load(weight_start + second, mask=inside, other=0.0).to(tl.float32)).to(dtype)
    if turn:
        table = table_start + (row % length) // repeats * (2 * half)
        if halves:  # [length / repeats, 2, half]
            cos = tl.load(table + i, mask=i < half, other=0.0)
            sin = tl.load(table + half + i, mask=i < half, other=0.0)
        else:  # complex numbers [length, half]
            cos = tl.load(table + 2 * i, mask=i < half, other=0.0)
            sin = tl.load(table + 2 * i + 1, mask=i < half, other=0.0)
        c, d = a.to(tl.float32), b.to(tl.float32)
        a, b = (c * cos - d * sin).to(dtype), (d * cos + c * sin).to(dtype)
    tl.store(x + first, a, mask=inside)
    tl.store(x + second, b, mask=inside)


@torch.library.custom_op("mova::norm_rope_", mutates_args={"x"})
def norm_rope_(
    x: Tensor, weight: Tensor, table: Tensor | None, heads: int, eps: float, halves: bool, repeats: int
) -> None:
    """RMSNorm of x [B, L, D] with weight [D], then the rotation by table (float32; as of rope.py), in place."""
    half = x.shape[2] // heads // 2
    padded = triton.next_power_of_2(heads), triton.next_power_of_2(half)
    turned = weight if table is None else table  # a kernel's argument has to be something
    # Triton starts kernels on the current device.
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        norm_rope_kernel[(x.shape[0] * x.shape[1],)](
            x, weight, turned, x.shape[1], repeats, eps, heads, half, halves, table is not None, *padded, num_warps=8
        )


@norm_rope_.register_fake
def _(x: Any, weight: Any, table: Any, heads: int, eps: float, halves: bool, repeats: int) -> None:
    """No values, nothing to do."""


def own_weight(norm: nn.Module, x: Tensor) -> contextlib.AbstractContextManager[Tensor]:
    weight: Any = norm.weight
    return contextlib.nullcontext(weight)


def in_one_pass(weight_of: WeightOf = own_weight) -> NormAndRotate:
    """What elementwise.norm_and_rotate_ does, read once and written once."""

    def fused(x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
        if torch.compiler.is_compiling() or recorded(x) or not x.is_contiguous():  # the compiler makes one pass itself
            return norm_and_rotate_(x, norm, heads, rotation)
        table, halves, repeats = None, False, 1
        if rotation is not None:
            halves, repeats = rotation.halves, rotation.repeats
            table = rotation.table if halves else torch.view_as_real(rotation.table)
        eps: Any = norm.eps
        with weight_of(norm, x) as weight:
            norm_rope_(x, weight, table, heads, eps, halves, repeats)
        return x

    return fused
