"""Attention kernels behind one signature, so that the model does not know which one runs."""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MovaError
from . import onednn
from .recording import recorded

# (q [B, L, heads * d], k [B, S, heads * d], v [B, S, heads * d], heads) -> [B, L, heads * d], no mask, scale 1/sqrt(d).
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * d] -> [B, L, heads, d], without a copy."""
    return x.unflatten(2, (heads, -1))


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """PyTorch's own kernels: exact, everywhere."""
    q, k, v = (split_heads(x, heads).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


# Bytes of a token tensor from which another one beside it counts.
LONG = 64 * 2**20


def is_short(x: Tensor) -> bool:
    """Whether x is done at once. In compiled code all are: there, writing into a part of a tensor copies all of it."""
    return x.numel() * x.element_size() < LONG or torch.compiler.is_compiling()


def over_queries_(attention: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, groups: int) -> Tensor:
    """attention(q, k, v, heads) of a long sequence written over q, a group of heads at a time: no tensor beside it."""
    if getattr(attention, "whole", False):  # one that may count its calls, or want all heads
        return attention(q, k, v, heads)
    groups = next(n for n in range(min(groups, heads), 0, -1) if heads % n == 0)
    if groups == 1 or is_short(q) or recorded(q, k, v):
        return attention(q, k, v, heads)
    width = q.shape[2] // groups
    for start in range(0, q.shape[2], width):
        part = ..., slice(start, start + width)
        q[part] = attention(q[part], k[part], v[part], heads // groups)
    return q


def xformers_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """xformers' memory-efficient attention: exact, CUDA only."""
    import xformers.ops

    return xformers.ops.memory_efficient_attention(*(split_heads(x, heads) for x in (q, k, v))).flatten(2)


def sage_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """SageAttention: 8-bit scores, so faster and not exact; CUDA and half precision only."""
    import sageattention

    return sageattention.sageattn(*(split_heads(x, heads) for x in (q, k, v)), tensor_layout="NHD").flatten(2)


def onednn_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Products by oneDNN, scores and softmax in float32: as exact as SDPA and faster, CPU only."""
    # Contiguous for each head: oneDNN has only a slow reference kernel for other layouts.
    queries, keys = (split_heads(x, heads).transpose(1, 2).float().contiguous().flatten(0, 1) for x in (q, k))
    queries *= (q.shape[2] // heads) ** -0.5
    values = split_heads(v, heads).permute(0, 2, 3, 1).contiguous().flatten(0, 1)
    out = torch.empty_like(q)
    by_head = split_heads(out, heads).transpose(1, 2)
    step = max(32, 2**20 // k.shape[1])  # some million scores at a time: they stay near the processor
    for i in range(len(queries)):
        for start in range(0, q.shape[1], step):
            rows = slice(start, start + step)
            scores = onednn.product(queries[i, rows], keys[i]).softmax(-1)
            by_head[i // heads, i % heads, rows] = onednn.product(scores.to(values.dtype), values[i])
    return out


class Kernel(NamedTuple):
    """An attention kernel, and what must be there for it to run."""

    attention: Attention
    device: str | None = None
    package: str | None = None
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)


KERNELS = {
    "sdpa": Kernel(sdpa),
    "onednn": Kernel(onednn_attention, "cpu", dtypes=(torch.float32, torch.bfloat16)),
    "xformers": Kernel(xformers_attention, "cuda", "xformers"),
    "sage": Kernel(sage_attention, "cuda", "sageattention", (torch.float16, torch.bfloat16)),
}


def available(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Names of the kernels that can run on this device and dtype."""

    def fits(name: str, kernel: Kernel) -> bool:
        installed = kernel.package is None or importlib.util.find_spec(kernel.package) is not None
        built = name != "onednn" or onednn.available()
        return installed and built and kernel.device in (None, device.type) and dtype in kernel.dtypes

    return [name for name, kernel in KERNELS.items() if fits(name, kernel)]


def runs(attention: Attention, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel really runs here: a package may be built for another torch, or for other GPUs."""
    x = torch.zeros(1, 16, 128, device=device, dtype=dtype)
    try:
        attention(x, x, x, 1).cpu()
    except Exception:  # whatever a broken build raises, from its import on
        return False
    return True


def choose(name: str, device: torch.device, dtype: torch.dtype) -> Attention:
    """The kernel called `name`; "auto" takes the fastest exact one that can run here (so never SageAttention).

    Raises MovaError if there is no such kernel, or it cannot run here.
    """
    usable = available(device, dtype)
    if name == "auto":
        fastest = [kernel for kernel in ("onednn", "xformers") if kernel in usable]
        name = next((kernel for kernel in fastest if runs(KERNELS[kernel].attention, device, dtype)), "sdpa")
    if name not in KERNELS:
        raise MovaError(f"There is no attention called {name!r}; choose auto, {', '.join(KERNELS)}.")
    if name not in usable:
        kernel = KERNELS[name]
        package = f" and the package {kernel.package}" if kernel.package else ""
        needs = " or ".join(str(dtype).removeprefix("torch.") for dtype in kernel.dtypes)
        raise MovaError(
            f"Attention {name!r} needs a {kernel.device} device{package}, in {needs}; choose {' or '.join(usable)}."
        )
    return KERNELS[name].attention
