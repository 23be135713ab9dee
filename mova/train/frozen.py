"""Linear layers that are not trained: their matrices lie in RAM, in bf16 or fp8, and are fetched for each use."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint.formats import QUANTISED
from ..checkpoint.quantize import encode
from ..errors import MovaError
from ..model.joint import JointModel

if TYPE_CHECKING:  # it takes a while to import
    from .shards import Shard, Shards

BASES = {"bf16": None, "fp8": "fp8_e4m3_scaled"}  # the format of the matrices that a format takes
PART = "high_noise"  # of a release, by whose rules matrices are quantised: both experts' are the same
MATRICES = re.compile(r"((audio_dit\.)?blocks\.\d+\.((self|cross)_attn\.[qkvo]|ffn\.[02])|.*\.inner\.[qkvo])")

Stored = Mapping[str, Tensor]  # of a matrix, as encodings has it: "" the matrix, "_scale" its scale


class Frozen(nn.Module):
    """A Linear whose matrix is nobody's parameter. What is stored of it stays where it is when the model is moved."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.empty(out_features, device="meta"), requires_grad=False)
        self.stored: dict[str, Tensor] = {}  # as Stored; in RAM
        self.shard: Shard | None = None  # the matrix, if it is divided among processes
        self.brought: dict[str, Tensor] = {}  # the same where it is used, while it is there (streaming.Ring)

    @property
    def lora_device(self) -> torch.device:
        """Where a LoRA of this layer belongs."""
        return self.bias.device

    def matrix(self, like: Tensor) -> Tensor:
        """[out, in] on the device and in the dtype of some tokens."""
        parts = self.brought or {name: part.to(like.device) for name, part in self.stored.items()}
        if "_scale" in parts:
            return QUANTISED["fp8_e4m3_scaled"].decode(parts).to(like.dtype)
        return parts[""].to(like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return Product.apply(x, self)


class Product(torch.autograd.Function):
    """x W^T + bias. The matrix is not kept for its gradient to x, but fetched again."""

    @staticmethod
    def forward(context: Any, x: Tensor, layer: Frozen) -> Tensor:
        context.layer = layer
        return F.linear(x, layer.matrix(x), layer.bias.to(x.dtype))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ context.layer.matrix(gradient), None


def freeze(model: JointModel) -> None:
    """Put a Frozen in the place of each layer with a large matrix. The model is still without weights."""
    layers = [(name, module) for name, module in model.named_modules() if MATRICES.fullmatch(name)]
    for name, layer in layers:
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, Frozen(layer.in_features, layer.out_features))


def is_frozen(model: JointModel, name: str) -> bool:
    """Whether a tensor of the state dict is the matrix of a Frozen."""
    return name.endswith(".weight") and MATRICES.fullmatch(name.removesuffix(".weight")) is not None


def store(model: JointModel, name: str, tensor: Tensor, base: str, shards: "Shards | None" = None) -> None:
    """Give a Frozen its matrix, called by its name in the state dict. base: one of BASES; shards: to divide it with.

    Raises MovaError for an unknown base, or a matrix of another shape.
    """
    if base not in BASES:
        raise MovaError(f"There is no base called {base!r}; choose {' or '.join(BASES)}.")
    chosen = BASES[base]
    kept = {name: tensor} if chosen is None else encode(chosen, name, tensor, PART)
    if len(kept) == 1:  # also one whose sides the format cannot divide, or of the audio tower
        kept = {name: tensor}
    keep(model, name, {part.removeprefix(name): stored for part, stored in kept.items()}, shards)


def keep(model: JointModel, name: str, parts: Stored, shards: "Shards | None" = None) -> None:
    """Give a Frozen its matrix as it is stored. Raises MovaError if it is of another shape."""
    layer: Any = model.get_submodule(name.removesuffix(".weight"))
    if parts[""].shape != (layer.out_features, layer.in_features):
        shape = list(parts[""].shape)
        raise MovaError(f"The tensor {name} has the shape {shape}; use weights that belong to the model.")
    layer.stored = {part: stored.detach() for part, stored in parts.items()}
    if shards is not None:
        layer.shard = shards.divide(layer.stored.pop(""))
