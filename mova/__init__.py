"""MOVA: joint video and audio generation. The model and all it needs, free of ComfyUI."""

from . import schedule
from .audio_vae import AudioVAE
from .config import PRESETS, AudioVAEConfig, MovaConfig
from .errors import Cancelled, MovaError
from .joint import JointModel

__all__ = ["PRESETS", "AudioVAE", "AudioVAEConfig", "Cancelled", "JointModel", "MovaConfig", "MovaError", "schedule"]
