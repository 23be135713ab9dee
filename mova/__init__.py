"""MOVA: joint video and audio generation. The model and all it needs, free of ComfyUI."""

from importlib import import_module
from typing import TYPE_CHECKING

from .config import PRESETS, AudioVAEConfig, MovaConfig
from .errors import Cancelled, MovaError

__version__ = "0.1.0"  # as in pyproject.toml
__all__ = ["PRESETS", "AudioVAE", "AudioVAEConfig", "Cancelled", "JointModel", "MovaConfig", "MovaError", "schedule"]

if TYPE_CHECKING:
    from . import schedule
    from .audio_vae import AudioVAE
    from .joint import JointModel
else:
    MODULES = {"AudioVAE": ".audio_vae", "JointModel": ".joint"}

    def __getattr__(name: str) -> object:
        """What needs torch, imported when it is first used: torch takes a second, which --help should not."""
        if name == "schedule":
            return import_module(".schedule", __name__)
        if name in MODULES:
            return getattr(import_module(MODULES[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
