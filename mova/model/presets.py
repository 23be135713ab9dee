"""The releases: what they are trained for, and how they are run."""

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
    boundary: float = 0.9  # sigma below which the low-noise expert works
    model: MovaConfig = RELEASED
    audio_vae: AudioVAEConfig = field(default_factory=AudioVAEConfig)


PRESETS = {"MOVA-360p": Preset(640, 352), "MOVA-720p": Preset(1280, 720)}
# What a clip is where nobody says otherwise.
DEFAULT = PRESETS["MOVA-360p"]
