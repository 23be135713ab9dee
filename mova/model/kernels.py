"""How a tower's work is carried out. No choice here changes what is computed, but for rounding."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import MovaError, first_line
from .attention import Attention, sdpa
from .elementwise import GeluLinear, NormAndRotate, gelu_linear, norm_and_rotate_

# (a part of a layer, the token tensors it works on) -> what it returns. Training may do a part twice to save memory.
Piece = Callable[..., Tensor]


def at_once(part: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    return part(*tokens)


@dataclass(frozen=True, eq=False)
class Kernels:
    """What attends and normalises, and how much is done at a time."""

    attention: Attention = sdpa
    norm_and_rotate_: NormAndRotate = norm_and_rotate_
    gelu_linear: GeluLinear = gelu_linear
    head_groups: int = 8  # of self-attention: see attention.over_queries_
    # Blocks of rows. Of a layer whose weights are not where they are needed, or quantised, each block fetches them.
    value_blocks: int = 2
    mlp_blocks: int = 1
    piece: Piece = at_once


LOW_MEMORY = Kernels(value_blocks=6, mlp_blocks=2)


def choose_norms(name: str, device: torch.device) -> NormAndRotate:
    """Norm and rotary embedding by PyTorch ("torch"), or "triton" in one pass.

    Raises MovaError if there is no such choice, or it cannot run here.
    """
    if name == "torch":
        return norm_and_rotate_
    if name != "triton":
        raise MovaError(f"There are no element-wise kernels called {name!r}; choose torch or triton.")
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        raise MovaError(f"Triton needs an NVIDIA or AMD GPU and the package triton (here: {device}); choose torch.")
    try:  # Triton compiles on the spot, by what it finds there
        from .triton_kernels import in_one_pass

        norms, row = in_one_pass(), torch.ones(1, 1, 4, device=device, dtype=torch.bfloat16)
        norms(row, nn.RMSNorm(4, device=device, dtype=torch.bfloat16), 1, None).cpu()
    except Exception as error:
        raise MovaError(f"Triton does not work here ({first_line(error)}); choose torch.") from error
    return norms
