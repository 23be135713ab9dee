"""Norm and rotary embedding in fewer passes: by the host's kernels, or by Triton."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.ops
import comfy.quant_ops
import torch
from torch import Tensor, nn

from ...mova.errors import MovaError
from ...mova.model.attention import split_heads
from ...mova.model.elementwise import NormAndRotate, gelu_linear, in_rows_, norm_and_rotate_
from ...mova.model.kernels import choose_norms
from ...mova.model.recording import recorded
from ...mova.model.rope import Rotation
from .replaced import is_replaced


def kitchen_norm_and_rotate_(x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
    """elementwise.norm_and_rotate_, turned in one pass by comfy_kitchen, as the host's Wan is."""
    # The compiler makes one pass of it itself, and the kernels have no gradients.
    if rotation is None or torch.compiler.is_compiling() or recorded(x):
        return norm_and_rotate_(x, norm, heads, rotation)
    kitchen, turn = comfy.quant_ops.ck, rotation
    apply = kitchen.apply_rope_split_half1 if turn.halves else kitchen.apply_rope1

    def part(x: Tensor, rows: slice) -> Tensor:
        return apply(split_heads(norm(x), heads), turn.matrices(rows, x.shape[1])).flatten(2)

    return in_rows_(x, part)


@contextmanager
def host_weight(norm: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """The weight of one of the host's norms, where x is: fetched and patched as for its own forward."""
    weight, bias, stream = comfy.ops.cast_bias_weight(norm, x, offloadable=True)
    try:
        yield weight
    finally:
        comfy.ops.uncast_bias_weight(norm, weight, bias, stream)


def triton_norm_and_rotate_(x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
    """elementwise.norm_and_rotate_ in one pass."""
    return norm_and_rotate_(x, norm, heads, rotation) if is_replaced(norm) else one_pass()(x, norm, heads, rotation)


@functools.cache
def one_pass() -> NormAndRotate:
    """Made when it is first used: few have triton."""
    from ...mova.model.triton_kernels import in_one_pass

    return in_one_pass(host_weight)


def host_gelu_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """elementwise.gelu_linear; in int8 the GELU is part of the kernel that quantises the input, where there is one.

    As the host's Wan does it (from v0.30 on), but for layers in which a pack is at work.
    """
    fused = getattr(comfy.ops, "linear_input_act", None)
    int8 = getattr(getattr(layer, "weight", None), "_layout_cls", None) == "TensorWiseINT8Layout"
    if fused is None or not int8 or is_replaced(layer) or recorded(x):
        return gelu_linear(layer, x)
    return fused(layer, x, "gelu_tanh")


NORMS: dict[str, NormAndRotate] = {
    "torch": norm_and_rotate_,
    "comfy_kitchen": kitchen_norm_and_rotate_,
    "triton": triton_norm_and_rotate_,
}


def check(name: str) -> None:
    """Raises MovaError if those kernels cannot run here."""
    kitchen = getattr(comfy.quant_ops, "ck", None)  # the host goes without where it cannot be imported
    if name == "comfy_kitchen" and not hasattr(kitchen, "apply_rope_split_half1"):
        raise MovaError("This ComfyUI's comfy_kitchen has no kernels for rotary embedding; choose torch.")
    if name == "triton":
        choose_norms(name, comfy.model_management.get_torch_device())
