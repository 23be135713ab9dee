"""MOVA: joint video and audio generation. The model and all it needs, free of ComfyUI."""

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Cancelled, MovaError
from .model.config import AudioVAEConfig, MovaConfig
from .model.presets import PRESETS

__all__ = [
    "PRESETS",
    "AudioVAE",
    "AudioVAEConfig",
    "Cancelled",
    "JointModel",
    "MovaConfig",
    "MovaError",
    "schedule",
    "train",
]

if TYPE_CHECKING:
    __version__: str
    from . import train
    from .model.audio_vae import AudioVAE
    from .model.joint import JointModel
    from .sampling import schedule
else:
    MODULES = {"AudioVAE": ".model.audio_vae", "JointModel": ".model.joint"}

    def __getattr__(name: str) -> object:
        """What needs torch, imported when it is first used: torch takes a second, which --help should not."""
        if name == "__version__":
            return version()
        if name == "schedule":
            return import_module(".sampling.schedule", __name__)
        if name == "train":
            return import_module(".train", __name__)
        if name in MODULES:
            return getattr(import_module(MODULES[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def version() -> str:
    """As pyproject.toml beside the package says; without it nobody has told."""
    try:
        text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "unknown"
