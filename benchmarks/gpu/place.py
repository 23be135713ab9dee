"""Where and what is measured: the one place that names the device, the model's and the clips' sizes."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mova import PRESETS
from mova.model.presets import Preset

DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Place:
    """A part's surroundings. Rehearsed, everything is as measured, but small and on the CPU."""

    device: torch.device
    small: Preset  # 640x352, 193 frames, released sizes
    large: Preset  # 1280x720
    rehearsed: bool
    deadline: float  # of time.monotonic()
    carried: Path | None = None  # folder with what gpu_carry.sh has put together, unpacked

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.deadline - time.monotonic()


def find(rehearse: bool, seconds: float, carried: Path | None = None, broken: bool = False) -> Place:
    """The place for a part that may take so many seconds. broken: on a device where nothing can be computed."""
    deadline = time.monotonic() + seconds
    if rehearse:
        from mova.tools import tiny

        small, large = (Preset(size, 64, 9, 24.0, model=tiny.CONFIG, audio_vae=tiny.AUDIO_VAE) for size in (64, 96))
        return Place(torch.device("meta" if broken else "cpu"), small, large, True, deadline, carried)
    if not torch.cuda.is_available():
        raise RuntimeError("no GPU that this PyTorch can use; --rehearse does without one")
    device = torch.device("meta" if broken else "cuda:0")
    return Place(device, PRESETS["MOVA-360p"], PRESETS["MOVA-720p"], False, deadline, carried)
