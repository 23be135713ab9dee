"""A clip to train on, read from its file: frames at the release's rate and size, and sound of just their length."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import torch
from torch import Tensor

from ..clip import decoding
from ..clip.decoding import File, alike, channels_of, decoded
from ..clip.pick import whole_length
from ..clip.resample import resample
from ..clip.stretch import Source, Wanted, take
from ..errors import MovaError
from ..files import reason
from ..sampling.conditioning import audio_samples
from .samples import Sample

QUIET = 1e-4  # of full scale: nothing is heard
WHOLE = (0.0, math.inf)


@dataclass(frozen=True)
class Shapes:
    """What clips are made to fit: each takes the size whose shape is nearest to its own, and the longest length that
    it fills. sizes: (width, height) in pixels; lengths: frames, 4 k + 1; fps: frames a second."""

    sizes: Sequence[tuple[int, int]]
    lengths: Sequence[int]
    fps: float = 24.0


@dataclass(frozen=True)
class Clip:
    """frames float32 [F, H, W, 3] in 0..1; waveform float32 [1, N] at the audio VAE's rate, None without any sound."""

    frames: Tensor
    waveform: Tensor | None
    notices: Sequence[str]


class Heard:
    """A source that remembers whether it had sound."""

    def __init__(self, source: Source) -> None:
        self.source, self.silent = source, False
        self.rate, self.seconds = source.rate, source.seconds
        self.shown, self.size, self.picture = source.shown, source.size, source.picture

    def sound(self, start: float, seconds: float) -> tuple[Tensor | None, int]:
        waveform, rate = self.source.sound(start, seconds)
        self.silent = waveform is None
        return waveform, rate


def nearest_size(given: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size of the nearest shape to the given width and height; of several, the first."""
    shape = math.log(given[0] / given[1])
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - shape))


def read_clip(sample: Sample, shapes: Shapes, rate: int) -> Clip:
    """The sample's clip, its sound at `rate` samples a second; MovaError if it cannot be read, or is too short."""
    return clip_of(File(sample.video), sample, shapes, rate)


def clip_of(
    source: Source,
    sample: Sample,
    shapes: Shapes,
    rate: int,
    window: tuple[float, float] = WHOLE,
    each: Callable[[], None] = lambda: None,
) -> Clip:
    """As read_clip, of any source. window: what a trim has left of it, in seconds; each: called before each frame."""
    heard, begin = Heard(source), window[0] + sample.start
    with closing(heard.shown(begin)) as frames:
        first = next(frames, None)
        if first is None:
            raise MovaError(f"has no frame from {sample.start:g} s on")
        width, height = nearest_size(heard.size(first.frame), shapes.sizes)
    longest = max(shapes.lengths)
    if sample.seconds < math.inf:
        longest = min(longest, int(sample.seconds * shapes.fps + 1e-6))
    stretch = take(heard, Wanted(sample.start, max(1, longest), width, height, shapes.fps, window), each)
    count = whole_length(min(longest, len(stretch.frames)))
    fitting = [length for length in shapes.lengths if length <= count]
    if not fitting:
        raise MovaError(
            f"has {count} frames at {shapes.fps:g} a second, and the shortest to train on is {min(shapes.lengths)}"
        )
    length = max(fitting)
    samples = audio_samples(length, shapes.fps, rate)
    waveform: Tensor | None = stretch.waveform
    old, silent = stretch.sample_rate, heard.silent
    if sample.audio is not None:
        waveform, old = other_sound(sample.audio, sample.start, length / shapes.fps)
        silent = False
    cropped = [notice for notice in stretch.notices if "cropped away" in notice]
    return Clip(
        stretch.frames[:length], None if silent or waveform is None else mono(waveform, old, rate, samples), cropped
    )


def mono(waveform: Tensor, old: int, rate: int, samples: int) -> Tensor | None:
    """[channels, N] at the old rate -> [1, samples] at the new one; None if nothing is heard."""
    mixed = resample(waveform.float().nan_to_num().mean(dim=0, keepdim=True), old, rate)[:, :samples]
    if not mixed.numel() or mixed.abs().max() < QUIET:
        return None
    return torch.nn.functional.pad(mixed, (0, samples - mixed.shape[1])).clamp(-1, 1)


def other_sound(path: Path, start: float, seconds: float) -> tuple[Tensor, int]:
    """[channels, N] from a file of its own, and its rate. Raises MovaError if there is none at that time."""
    parts, rate, at = [], 0, 0
    try:
        with av.open(str(path.absolute()), metadata_errors="replace", container_options=decoding.LOCAL) as container:
            stream = next((one for one in container.streams.audio if one.codec_context is not None), None)
            for part in alike(decoded(container, stream)) if stream is not None else ():
                samples, rate = channels_of(part), part.sample_rate
                begin, end = round(start * rate) - at, round((start + seconds) * rate) - at
                at += samples.shape[1]
                if end <= 0:
                    break
                parts.append(torch.from_numpy(samples[:, max(0, begin) : end].copy()))
    except (OSError, av.FFmpegError) as error:
        raise MovaError(f"its sound {path.name} cannot be read ({reason(error)})") from error
    if not rate or not sum(part.shape[1] for part in parts):
        raise MovaError(f"its sound {path.name} has nothing from {start:g} s on")
    return torch.cat(parts, dim=1), rate
