"""Layers that diffusers has fused before a LoRA was trained on them (SimpleTuner's fused_qkv_projections), taken apart.

A fused layer's outputs are those of the single layers, one after the other; its inputs are theirs.
"""

from collections.abc import Mapping

from torch import Tensor

from .names import BIAS, DIFF, DORA, UP

FUSED = {"to_qkv": ("q", "k", "v"), "to_kv": ("k", "v"), "to_added_kv": ("k_img", "v_img")}
# Parts with a row for each output, or (of LoKr's Kronecker product) for each of as many blocks of outputs.
BY_OUTPUT = (UP, DIFF, BIAS, DORA, "hada_w1_a", "hada_w2_a", "lokr_w1", "lokr_w1_a")


def taken_apart(layer: str, parts: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The parts of a change by single layer; of a layer that is not fused, or that cannot be split, as they are."""
    before, _, last = layer.rpartition(".")
    names = FUSED.get(last, ())
    rows = {part: tensor for part, tensor in parts.items() if part in BY_OUTPUT}
    if not names or any(len(tensor) % len(names) for tensor in rows.values()):
        return {layer: dict(parts)}
    split = {part: tensor.chunk(len(names)) for part, tensor in rows.items()}
    return {f"{before}.{name}": {**parts, **{part: split[part][i] for part in rows}} for i, name in enumerate(names)}
