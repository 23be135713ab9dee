"""Numbers of a whole run, from a node to the layers of the model: a new one is a line here, and where it acts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from ...mova import MovaError
from ...mova.model.bridge import Scale
from ...mova.sampling.schedule import MAX_SHIFT
from .checks import check_finite

PREFIX = "mova_"  # of their names in a conditioning


@dataclass(frozen=True)
class Settings:
    """What a conditioning says of the two towers: numbers that torch.compile must not take for constants.

    It would compile the model anew for each. (Nor can they be in transformer_options, whose first values it keeps.)
    """

    audio_shift_ratio: float = 1.0  # the audio's shift by the video's: see mova/sampling/audio_shift.py
    a2v_scale: float = 1.0  # what the bridge brings from audio to video
    v2a_scale: float = 1.0

    @classmethod
    def named(cls, values: Mapping[str, Any], prefix: str = "") -> "Settings":
        """From values by their names; those that are not there are 1."""
        return cls(**{field.name: float(values.get(prefix + field.name, field.default)) for field in fields(cls)})

    def entries(self) -> dict[str, float]:
        """As a conditioning holds them."""
        return {PREFIX + name: value for name, value in asdict(self).items()}

    def check(self) -> None:
        """Raise MovaError for a number that a link may bring, and no input of a node allows."""
        for name in ("a2v_scale", "v2a_scale"):
            check_finite(getattr(self, name), name)
        if not 0 < self.audio_shift_ratio <= MAX_SHIFT:  # false for NaN too
            raise MovaError(f"audio_shift_ratio is {self.audio_shift_ratio}; it must be above 0 (1: as the video's).")

    def held(self, compiled: bool, device: torch.device) -> tuple[Scale, Scale, Scale]:
        """The numbers; for compiled code as tensors, but for the scales that turn a direction of the bridge off."""
        ratio, scales = self.audio_shift_ratio, (self.a2v_scale, self.v2a_scale)
        if not compiled:
            return ratio, *scales
        a2v, v2a = (torch.tensor(scale, device=device) if scale else 0.0 for scale in scales)
        return torch.tensor(ratio, device=device), a2v, v2a
