"""Exact, faster matrix products on the CPU.

PyTorch gives float32 products to MKL, which runs at half speed on AMD processors. oneDNN is reached through the
operator that torch.compile uses for it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recording import recorded


def available() -> bool:
    """Whether this build of torch has oneDNN and the operator."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., n] times weight [m, n] transposed, plus bias [m]; all contiguous, and of one dtype."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """torch's Linear, faster on the CPU where no gradients are recorded."""

    def forward(self, x: Tensor) -> Tensor:
        exact = x.dtype == torch.float32 and x.is_contiguous()  # bf16 products go to oneDNN as it is
        # The operator has no gradient, and would say so only by leaving it out.
        if exact and not (torch.is_grad_enabled() and recorded(x, self.weight)):
            return product(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class Operations:
    """What JointModel takes as `operations`."""

    Linear = Linear
    Conv1d, Conv3d = nn.Conv1d, nn.Conv3d
    LayerNorm, RMSNorm = nn.LayerNorm, nn.RMSNorm
