"""A video that is in memory already, as a source of a clip."""

import math
from collections.abc import Generator
from fractions import Fraction

import av
import torch
from torch import Tensor

from ..errors import MovaError
from . import decoding
from .fit import on_white
from .pick import Shown


class Frames:
    """Frames [F, H, W, 3 or 4] of floats in 0..1, `rate` a second, and [channels, N] of sound, or None, at its rate.

    `begin` is the time, in seconds, of what is there of a longer video.
    """

    def __init__(
        self,
        images: Tensor,
        rate: Fraction,
        waveform: Tensor | None = None,
        sample_rate: int = 0,
        begin: float = 0.0,
    ) -> None:
        self.images, self.waveform, self.sample_rate = images, waveform, sample_rate
        self.rate, self.begin = rate, begin
        self.seconds = begin + float(len(images) / rate)

    def shown(self, start: float) -> Generator[Shown[int], None, None]:
        """Numbers of frames; times are in seconds."""
        for index in range(max(0, math.floor((start - self.begin) * self.rate) - 1), len(self.images)):
            yield Shown(index, self.begin + float(index / self.rate), self.begin + float((index + 1) / self.rate))

    def size(self, frame: int) -> tuple[int, int]:
        """Width and height."""
        return self.images.shape[2], self.images.shape[1]

    def picture(self, frame: int, width: int, height: int) -> Tensor:
        """[height, width, 3], float32 in 0..1, or uint8 if it is scaled. Raises MovaError for NaN and infinity."""
        image = self.images[frame : frame + 1]
        if not image.isfinite().all():
            raise MovaError(f"Frame {frame} of the video holds NaN or infinite values; load another.")
        image = (on_white(image) if image.shape[-1] == 4 else image[..., :3])[0].float().cpu()
        if (width, height) == self.size(frame):
            return image
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy()
        return decoding.picture(av.VideoFrame.from_ndarray(pixels, format="rgb24"), width, height)

    def sound(self, start: float, seconds: float) -> tuple[Tensor | None, int]:
        """[channels, samples] of that time, float32, padded with silence, and the rate."""
        if self.waveform is None:
            return None, 0
        first, samples = round((start - self.begin) * self.sample_rate), round(seconds * self.sample_rate)
        part = self.waveform[:, first : first + samples].float().cpu()
        return torch.nn.functional.pad(part, (0, samples - part.shape[1])), self.sample_rate
