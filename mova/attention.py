"""Attention kernels behind one signature, so that the model does not know which one runs."""

import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import MovaError

# (q [B, L, heads * d], k [B, S, heads * d], v [B, S, heads * d], heads) -> [B, L, heads * d], no mask, scale 1/sqrt(d).
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * d] -> [B, L, heads, d], without a copy."""
    return x.unflatten(2, (heads, -1))


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """PyTorch's own kernels: exact, everywhere."""
    q, k, v = (split_heads(x, heads).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def xformers(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """xformers' memory-efficient attention: exact, CUDA only."""
    import xformers.ops

    out: Tensor = xformers.ops.memory_efficient_attention(*(split_heads(x, heads) for x in (q, k, v)))
    return out.flatten(2)


def sage(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """SageAttention: 8-bit scores, so faster and not exact; CUDA and half precision only."""
    import sageattention

    out: Tensor = sageattention.sageattn(*(split_heads(x, heads) for x in (q, k, v)), tensor_layout="NHD")
    return out.flatten(2)


KERNELS: dict[str, tuple[Attention, str | None]] = {
    "sdpa": (sdpa, None),
    "xformers": (xformers, "xformers"),
    "sage": (sage, "sageattention"),
}


def available() -> list[str]:
    """Names of the kernels that can run here."""
    cuda = torch.cuda.is_available()
    return [name for name, (_, package) in KERNELS.items() if package is None or (cuda and installed(package))]


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def choose(name: str = "auto", dtype: torch.dtype = torch.bfloat16) -> Attention:
    """The kernel called `name`; "auto" takes the best exact one that is available (never SageAttention).

    Raises MovaError if that kernel cannot run here or not in `dtype`.
    """
    usable = available()
    if name == "auto":
        name = "xformers" if "xformers" in usable else "sdpa"
    if name not in KERNELS:
        raise MovaError(f"There is no attention called {name!r}; choose auto, {', '.join(KERNELS)}.")
    if name not in usable:
        raise MovaError(
            f"Attention {name!r} needs a CUDA device and the package {KERNELS[name][1]}; "
            f"install it, or choose one of {', '.join(usable)}."
        )
    if name == "sage" and dtype not in (torch.float16, torch.bfloat16):
        raise MovaError("Attention 'sage' works in half precision only; choose the dtype bf16, or attention sdpa.")
    return KERNELS[name][0]
