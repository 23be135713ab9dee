"""The LoRAs of a run without ComfyUI: which tensors of which part of a release they change, and those parts changed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.release import EXPERTS, JOINT
from ..checkpoint.weights import Weights
from ..errors import MovaError
from ..model.config import MovaConfig
from ..model.joint import JointModel
from ..model.shapes import expected_shapes
from ..model.stored_config import EXPERT_NAMES
from .experts import noted_expert
from .fit import fit, left_out
from .merge import Change, merged
from .names import BIAS, DIFF, UNNAMED
from .reading import Lora, read_lora

Changes = Mapping[str, Sequence[Change]]  # by the name of a tensor in its part
Plan = Mapping[str, Changes]  # by the part of a release


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA file, or the folder that a trainer wrote, and how strongly it is to act."""

    path: Path
    strength: float = 1.0

    def check(self) -> None:
        """Raise MovaError for a strength that is none."""
        if not math.isfinite(self.strength):
            raise MovaError(f"The strength of {self.path} is {self.strength}; give a number (1 is the LoRA's own).")

    def __str__(self) -> str:
        return f"{self.path.name}:{self.strength:g}"


def plan(choices: Sequence[LoraChoice], config: MovaConfig) -> tuple[Plan, list[str]]:
    """What the LoRAs change in each part of a release, in their order, and what the user should know of them.

    Each file is read here, mapped where it can be. Raises MovaError for one that is damaged or for another model.
    """
    changes: dict[str, dict[str, list[Change]]] = {}
    lines: list[str] = []
    shapes = expected_shapes(JointModel(config, device="meta")) if choices else {}
    for choice in choices:
        file = read_lora(choice.path)
        (fitted, without), told = fit(file, shapes), [file.scales()]
        video = list(EXPERTS.values())
        if UNNAMED in fitted and (noted := noted_expert(file)):
            video = [EXPERTS[noted[0]]]
            told.append(f"its {noted[1]} says {EXPERT_NAMES[noted[0]]}, so it is left out of the other expert")
        for module, layers in fitted.items():
            for part in video if module == UNNAMED else [module]:
                for name, lora in layers.items():
                    layer = name.removeprefix(f"{part}.") if part in JOINT else name
                    for tensor, change in tensors_of(layer, lora, name in shapes):
                        changes.setdefault(part, {}).setdefault(tensor, []).append((change, choice.strength))
        lines += [f"{choice.path.name}: {line}" for line in told + left_out(file, without.absent, without.misfits)]
    return changes, lines


def tensors_of(layer: str, lora: Lora, is_parameter: bool) -> Iterator[tuple[str, Lora]]:
    """The tensors of a layer that a LoRA changes, each with its change: weight and bias, or the parameter itself."""
    if is_parameter:
        yield layer, lora
        return
    parts = {part: tensor for part, tensor in lora.parts.items() if part != BIAS}
    if parts:
        yield f"{layer}.weight", Lora(lora.key, parts, lora.alpha)
    if BIAS in lora.parts:
        yield f"{layer}.bias", Lora(lora.key, {DIFF: lora.parts[BIAS]}, None)


def read_changed(
    weights: Weights, changes: Changes, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """As weights.read, with the changes: each such tensor is changed as it is read, in float32, and then cast."""
    yield from weights.read([name for name in weights.tensors if name not in changes], dtype, device)
    for name, tensor in weights.read([name for name in weights.tensors if name in changes]):
        yield name, merged(tensor, changes[name], dtype, device)
