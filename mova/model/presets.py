"""The releases: what they are trained for."""

from dataclasses import dataclass, field

from .config import RELEASED, AudioVAEConfig, MovaConfig


@dataclass(frozen=True)
class Preset:
    """A release: its architecture and the clip size it was trained for."""

    width: int
    height: int
    frames: int = 193
    fps: float = 24.0
    model: MovaConfig = RELEASED
    audio_vae: AudioVAEConfig = field(default_factory=AudioVAEConfig)


PRESETS = {"MOVA-360p": Preset(640, 352), "MOVA-720p": Preset(1280, 720)}
