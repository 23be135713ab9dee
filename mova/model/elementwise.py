"""Element-wise work on whole token sequences: norms, rotary embedding, GELU.

Tensors of a whole token sequence are large (0.41 GiB each at 640x352x193 in bf16), so this is done in place, but where
gradients are recorded.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import split_heads
from .recording import held, recorded
from .rope import Rotation

# Numbers that work done in several passes takes at a time: as float32, what a pass reads and writes (2 x 16 MiB) stays
# in the cache of a large GPU, and its temporaries are small beside a token tensor. Layers with large weights see all
# rows at once, so that offloaded or quantised weights are fetched only once.
NUMBERS = 2**22

# (x [B, L, D], RMSNorm over D, heads, rotation of each head or None) -> x, normalised and turned in place.
NormAndRotate = Callable[[Tensor, nn.Module, int, Rotation | None], Tensor]
# (layer, x, which may be overwritten) -> layer(tanh-GELU of x)
GeluLinear = Callable[[nn.Module, Tensor], Tensor]


def in_rows_(x: Tensor, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Replace x [B, L, D] by function(rows of x, which rows they are), some rows at a time, in place.

    Where gradients are recorded x stays as it is.
    """
    step = max(1, NUMBERS // (x.shape[0] * x.shape[2]))
    if recorded(x):
        parts = enumerate(x.split(step, dim=1))  # whose gradient is one concatenation; slices' is a sum of whole x
        done = [function(part, slice(i * step, i * step + step)).to(x.dtype) for i, part in parts]
        return done[0] if len(done) == 1 else torch.cat(done, dim=1)
    if torch.compiler.is_compiling():  # which writes out each turn of the loop: a few larger ones, not 53
        step = max(step, -(-x.shape[1] // 4))
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
    """tanh-GELU of x, in place (torch.nn.functional has it only with a new tensor)."""
    return torch.ops.aten.gelu_(x, approximate="tanh")


def gelu_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of the tanh-GELU of x, which is overwritten where no gradients are recorded."""
    return layer(F.gelu(x, approximate="tanh") if recorded(x) else gelu_(x))


def add_gated(x: Tensor, update: Tensor, gate: Tensor | None = None) -> Tensor:
    """x + update * gate (None: 1), in place where no gradients are recorded."""
    if held(x):
        return x + update if gate is None else torch.addcmul(x, update, gate)
    return x.add_(update) if gate is None else x.addcmul_(update, gate)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift for x [B, L, D] and shift, scale [B, 1, D]: an affine LayerNorm a sample."""
    scale = scale + 1
    samples = [F.layer_norm(x[i : i + 1], x.shape[-1:], scale[i, 0], shift[i, 0], eps) for i in range(len(x))]
    return samples[0] if len(samples) == 1 else torch.cat(samples)
