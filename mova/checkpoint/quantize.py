"""Quantised model files that ComfyUI's own loaders read: which tensors are stored in which format, under which names.

A layer's matrix `x.weight` becomes `x.weight` in few bits and its scales `x.weight_scale` (and `_2`); the file's
metadata names the format of each layer, as ComfyUI's QUANTIZATION.md says. All else stays in bf16. docs/quantization.md
tells which layers do, and why, and why an int8 file holds one layer of each block in fp8.
"""

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import MovaError
from .encodings import absmax
from .formats import QUANTISED, Quantised
from .quantised_layers import METADATA

QUANTISED_PARTS = ("high_noise", "low_noise", "text_encoder")
LAYERS = {
    "expert": re.compile(
        r"(blocks\.\d+\.((self|cross)_attn\.[qkvo]|ffn\.[02])"  # not those of audio_dit
        r"|dual_tower_bridge\.(audio_to_video|video_to_audio)_conditioners\.\d+\.inner\.[qkvo])\.weight"
    ),
    "text_encoder": re.compile(
        r"encoder\.block\.\d+\.layer\.(0\.SelfAttention\.[qkvo]|1\.DenseReluDense\.w(i_0|i_1|o))\.weight"
    ),
}

# A hidden channel of an MLP can be so large, and its weights so small, that rounding to integers takes them away.
IN_FP8 = re.compile(r"blocks\.\d+\.ffn\.2\.weight")


def layout(
    format_name: str, tensor_name: str, shape: tuple[int, ...], part: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What is stored in place of a tensor: names -> (safetensors' name of the dtype, shape).

    `part` is "high_noise", "low_noise" or "text_encoder". Raises MovaError for an unknown format or part.
    """
    chosen = format_of(format_name, tensor_name)
    if not is_quantised(chosen, tensor_name, shape, part):
        return {tensor_name: ("BF16", tuple(shape))}
    rows, columns = shape
    return {tensor_name + suffix: size for suffix, size in chosen.sizes((rows, columns)).items()}


def encode(format_name: str, tensor_name: str, tensor: Tensor, part: str) -> dict[str, Tensor]:
    """The tensors that layout announces, on the CPU. Raises MovaError if a weight to be quantised is not finite."""
    chosen = format_of(format_name, tensor_name)
    if not is_quantised(chosen, tensor_name, tuple(tensor.shape), part):
        return {tensor_name: tensor.bfloat16()}
    if not torch.isfinite(absmax(tensor)):
        raise MovaError(f"{tensor_name} holds weights that are not finite numbers; download the checkpoint again.")
    return {tensor_name + suffix: stored for suffix, stored in chosen.encode(tensor).items()}


def decode(format_name: str, tensor_name: str, tensors: Mapping[str, Tensor], part: str) -> Tensor:
    """The float32 tensor that ComfyUI computes with, from what encode gave (other entries are ignored)."""
    chosen = format_of(format_name, tensor_name)
    if tensor_name + "_scale" not in tensors:
        return tensors[tensor_name].float()
    names = chosen.sizes((1, chosen.divisors[1]))
    return chosen.decode({suffix: tensors[tensor_name + suffix] for suffix in names})


def metadata(format_name: str, shapes: Mapping[str, tuple[int, ...]], part: str) -> dict[str, str]:
    """What the file's metadata must say for ComfyUI to know its layers; `shapes` are those of the source's tensors."""
    layers = {
        name.removesuffix(".weight"): {"format": chosen.host_name, **dict(chosen.settings)}
        for name, shape in shapes.items()
        if is_quantised(chosen := format_of(format_name, name), name, shape, part)
    }
    return {METADATA: json.dumps({"format_version": "1.0", "layers": layers})}


def error_bound(format_name: str) -> float:
    """How far a decoded weight is from its source at most, as a part of the largest weight in the same tensor."""
    return find(format_name).error


def find(format_name: str) -> Quantised:
    if format_name not in QUANTISED:
        raise MovaError(f"There is no format called {format_name!r}; choose one of {', '.join(QUANTISED)}.")
    return QUANTISED[format_name]


def format_of(format_name: str, tensor_name: str) -> Quantised:
    """How a file of that format stores this tensor, if it quantises it."""
    return (
        QUANTISED["fp8_e4m3_scaled"] if format_name == "int8" and IN_FP8.fullmatch(tensor_name) else find(format_name)
    )


def is_quantised(chosen: Quantised, tensor_name: str, shape: tuple[int, ...], part: str) -> bool:
    """Whether a tensor is a layer's matrix whose sides the format can divide into its blocks."""
    if part not in QUANTISED_PARTS:
        raise MovaError(f"There is no part called {part!r}; choose one of {', '.join(QUANTISED_PARTS)}.")
    pattern = LAYERS["text_encoder" if part == "text_encoder" else "expert"]
    return pattern.fullmatch(tensor_name) is not None and not any(
        side % divisor for side, divisor in zip(shape, chosen.divisors, strict=True)
    )
