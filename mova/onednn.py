"""Exact, faster layers for the CPU: matrix products by oneDNN.

PyTorch gives float32 products to MKL, which runs at half speed on AMD processors, and multiplies bf16 attention in
float32. oneDNN has a fast kernel for each; both are reached through the operator that torch.compile uses for them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import split_heads

# Query rows whose scores are computed at a time: their [ROWS, L] scores stay near the processor.
ROWS = 512


def available() -> bool:
    """Whether this build of torch has oneDNN and the operator."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., n] times weight [m, n] transposed, plus bias [m]."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """torch's Linear for inference."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype == torch.float32:  # bf16 gets there without our help
            return product(x, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Operations:
    """What JointModel takes as `operations`."""

    Linear = Linear
    Conv1d, Conv3d = nn.Conv1d, nn.Conv3d
    LayerNorm, RMSNorm = nn.LayerNorm, nn.RMSNorm


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention with scores and softmax in float32, as PyTorch's own CPU kernel has them."""
    scale = (q.shape[2] // heads) ** -0.5
    out = torch.empty_like(q)
    by_head = [split_heads(x, heads) for x in (q, k, v, out)]
    for sample in range(len(q)):
        for head in range(heads):
            queries, keys, values, result = (x[sample, :, head] for x in by_head)
            # Contiguous: oneDNN has only a slow reference kernel for other layouts.
            queries, keys = queries.float().contiguous() * scale, keys.float().contiguous()
            values = values.t().contiguous()
            for rows in range(0, len(queries), ROWS):
                scores = product(queries[rows : rows + ROWS], keys).softmax(-1)
                result[rows : rows + ROWS] = product(scores.to(values.dtype), values)
    return out
