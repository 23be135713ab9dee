"""The model that a LoRA is trained for, as a run knows it before any weight of it is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..checkpoint.formats import PLAIN
from ..checkpoint.release import JOINT, Checkpoint
from ..model.config import MovaConfig
from ..model.joint import JointModel
from .cache import key_of, weights_key
from .experts import Tensors, load_experts
from .settings import Settings

if TYPE_CHECKING:
    from .shards import Shards

# (settings, device, called with what is being loaded, what divides matrices) -> frozen models, as of load_experts
Load = Callable[[Settings, torch.device, Callable[[str], None], "Shards | None"], dict[str, JointModel]]


@dataclass(frozen=True)
class Base:
    """Its sizes, what it is known again by, and what loads it."""

    config: MovaConfig
    boundary: float  # noise from which on the high-noise expert is trained
    weights: str  # a key of what the trained experts' files hold
    load: Load
    checkpoint: Checkpoint | None = None  # with which clips can be made on the way


def released(checkpoint: Checkpoint, settings: Settings) -> Base:
    """The experts of a checkpoint that a run with these settings trains."""
    keys = [weights_key(checkpoint.weights[part]) for part in (*settings.trained, *JOINT)]

    def read(part: str) -> Tensors:
        weights, prefix = checkpoint.weights[part], f"{part}." if part in JOINT else ""
        return ((prefix + name, tensor) for name, tensor in weights.read(weights.tensors))

    return Base(checkpoint.config, checkpoint.boundary, key_of(keys), loader(checkpoint.config, read), checkpoint)


def loader(config: MovaConfig, read: Callable[[str], Tensors]) -> Load:
    """What loads the experts that settings name. read: as load_experts has it."""

    def load(
        settings: Settings, device: torch.device, part: Callable[[str], None], shards: "Shards | None" = None
    ) -> dict[str, JointModel]:
        dtype = PLAIN[settings.dtype].dtype
        return load_experts(config, read, settings.trained, settings.base, dtype, device, part, shards)

    return load
