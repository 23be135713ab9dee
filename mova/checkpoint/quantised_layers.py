"""Which layers of a file are quantised, and how: found as ComfyUI finds them, in any of its three spellings.

By the file's metadata, by a mark beside each layer, or (older files) by the scales of fp8 matrices.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from .. import strict_json
from ..shorten import printable
from .formats import QUANTISED
from .weights import Weights

METADATA = "_quantization_metadata"
MARK = ".comfy_quant"  # of a quantised layer: a JSON object in bytes
OLD = "scaled_fp8"
# Beside the weights: what belongs to a quantised layer.
BESIDE = ("_scale", "_scale_2", ".scale_weight", ".scale_input", OLD, MARK)


def is_quantised(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether a file with tensors of these names has quantised layers."""
    return METADATA in metadata or OLD in names or any(name.endswith(MARK) for name in names)


def marked_format(mark: Tensor) -> str:
    """The host's name of a layer's format, from the mark beside it. Raises ValueError if it does not tell."""
    told = strict_json.parse(mark.cpu().contiguous().numpy().tobytes().decode())
    if not isinstance(told, dict) or not isinstance(told.get("format"), str):
        raise ValueError("it names no format")
    return str(told["format"])


def quantised_layers(weights: Weights) -> dict[str, str]:
    """The format of each quantised layer, "?" if the file does not tell; ours have the name that --dtype gives them."""
    found = listed_formats(weights.metadata.get(METADATA, "{}"))
    marks = [name for name in weights.tensors if name.endswith(MARK)]
    for name, tensor in weights.read(marks):
        try:
            found[name.removesuffix(MARK)] = marked_format(tensor)
        except ValueError:  # UnicodeDecodeError is one, too
            found[name.removesuffix(MARK)] = "?"
    if OLD in weights.tensors:
        old = [name.removesuffix(".scale_weight") for name in weights.tensors if name.endswith(".scale_weight")]
        found |= dict.fromkeys(old, "fp8 with one scale a matrix (the older spelling)")
    ours = {chosen.host_name: name for name, chosen in QUANTISED.items()}
    return {name: printable(ours.get(kind, kind)) for name, kind in found.items()}


def listed_formats(text: str) -> dict[str, str]:
    """The host's names of formats by layer, from a file's metadata; what makes no sense is left out."""
    try:
        listed = strict_json.parse(text)
    except ValueError:
        return {}
    layers = listed.get("layers") if isinstance(listed, dict) else None
    if not isinstance(layers, dict):
        return {}
    return {name: str(layer.get("format")) if isinstance(layer, dict) else "?" for name, layer in layers.items()}
