"""The releases: what they are trained for, and how they are run."""

import math
from dataclasses import KW_ONLY, dataclass, field

from .config import RELEASED, AudioVAEConfig, MovaConfig


@dataclass(frozen=True)
class Preset:
    """A release: its architecture, the clip size it was trained for, and its settings of a run."""

    width: int
    height: int
    frames: int = 193
    fps: float = 24.0
    _: KW_ONLY
    steps: int = 50
    guidance: float = 5.0
    shift: float = 5.0
    audio_shift: float = 5.0
    boundary: float = 0.9  # sigma below which the low-noise expert works
    model: MovaConfig = RELEASED
    audio_vae: AudioVAEConfig = field(default_factory=AudioVAEConfig)
    longest: int | None = None  # frames of the longest clips in training, if not `frames`


PRESETS = {"MOVA-360p": Preset(640, 352), "MOVA-720p": Preset(1280, 720)}
# Trained on from MOVA-360p at three sizes. Shifts: Prism's README, the least of each range; longest: its training's
# configurations there.
PRISM = {
    "Prism 720p": Preset(1280, 720, 205, shift=7.0, audio_shift=7.0, longest=289),
    "Prism 1080p": Preset(1920, 1072, 205, shift=9.0, audio_shift=7.0, longest=289),
    "Prism 2K": Preset(2560, 1440, 205, shift=13.0, audio_shift=7.0, longest=265),
}
# What a clip is where nobody says otherwise.
DEFAULT = PRESETS["MOVA-360p"]


def nearest_prism(width: int, height: int) -> Preset:
    """Of Prism's sizes the one of most nearly as many pixels."""
    return min(PRISM.values(), key=lambda preset: abs(math.log(preset.width * preset.height / (width * height))))
