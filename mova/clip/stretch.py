"""A stretch of a given video as a clip: its frames at a steady rate, at the size they are used in, and their sound."""

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import MovaError
from ..sampling.conditioning import GRID, crop_notice
from .media import frame_rate
from .pick import Picked, Shown, pick, whole_length

SLOWEST, FASTEST = 1, 120  # frames a second that MOVA's nodes take
LARGEST = 16384  # pixels of a side
SILENT = 48000  # samples a second of a silence


class Source(Protocol):
    """Where a clip is taken from: decoding.File, or memory.Frames."""

    @property
    def rate(self) -> Fraction | None: ...
    @property
    def seconds(self) -> float | None: ...
    def shown(self, start: float) -> Generator[Shown[Any], None, None]: ...
    def size(self, frame: Any) -> tuple[int, int]: ...
    def picture(self, frame: Any, width: int, height: int) -> Tensor: ...
    def sound(self, start: float, seconds: float) -> tuple[Tensor | None, int]: ...


@dataclass(frozen=True)
class Wanted:
    """From `start` (seconds) at most `length` frames, in pixels and frames a second; 0 is the video's own.

    One side of 0 beside another that is given follows from the video's shape. `window` is what a trim has left of the
    video, begin and end in seconds; `start` counts from there.
    """

    start: float
    length: int
    width: int = 0
    height: int = 0
    fps: float = 0.0
    window: tuple[float, float] = (0.0, math.inf)

    def check(self) -> None:
        """Raise MovaError for what no video could give."""
        if not 0 <= self.start < math.inf:
            raise MovaError(f"start is {self.start}; give the seconds after which the stretch begins, 0 or more.")
        if self.length < 1:
            raise MovaError(f"length is {self.length}; give a number of frames, 1 or more.")
        for name, side in (("width", self.width), ("height", self.height)):
            if not 0 <= side <= LARGEST:
                raise MovaError(f"{name} is {side}; give pixels up to {LARGEST}, or 0 for the video's own.")
        if self.fps != 0 and not SLOWEST <= self.fps <= FASTEST:
            raise MovaError(
                f"fps is {self.fps}; give {SLOWEST} to {FASTEST} frames a second, or 0 for the video's own."
            )


@dataclass(frozen=True)
class Stretch:
    """Frames float32 [4 k + 1, H, W, 3] in 0..1; their sound float32 [channels, samples], of just their length."""

    frames: Tensor
    waveform: Tensor
    sample_rate: int
    fps: float
    notices: list[str]


def take(source: Source, wanted: Wanted, each: Callable[[], None] = lambda: None) -> Stretch:
    """The stretch of a source, of which no more is decoded than is needed; frames are bytes until all are there.

    `each` is called before each frame that is looked at. Raises MovaError if the source ends before the stretch begins.
    """
    wanted.check()
    begin, end = wanted.window
    start = begin + wanted.start
    rate, notices = steady_rate(source.rate, wanted.fps)
    sizes: list[tuple[int, int]] = []  # the video's and the clip's, once a frame has told

    def convert(frame: Any) -> Tensor:
        if not sizes:
            sizes.extend((source.size(frame), clip_size(source.size(frame), wanted)))
        return source.picture(frame, *sizes[1])

    lasts = math.inf if source.seconds is None else source.seconds  # files need not say so rightly

    def until_the_end(frames: Iterator[Shown[Any]]) -> Iterator[Shown[Any]]:
        nonlocal lasts
        seen = lasts
        for shown in frames:
            if shown.begin >= end:
                return
            each()
            yield shown
            seen = shown.end
        lasts = seen

    left = wanted.length if end == math.inf else math.ceil((end - start) * rate - 1e-6)
    with contextlib.closing(source.shown(start)) as frames:
        picked = pick(until_the_end(frames), start, rate, max(0, min(wanted.length, left)), convert)
    count = whole_length(len(picked.pictures))
    seconds = min(end, lasts) - begin
    if not count:
        raise MovaError(
            f"The video ends at {seconds:.2f} s, so there is no frame from {wanted.start:g} s on; begin earlier."
        )
    waveform, sample_rate = source.sound(start, float(count / rate))
    if waveform is None:
        waveform, sample_rate = torch.zeros(1, round(count / rate * SILENT)), SILENT
        notices.append("The video has no sound there; silence stands for it.")
    told = [f"{of_the_video(count, wanted.start, float(count / rate), seconds)}{scaled(*sizes)}."]
    told += changes(picked, rate, *sizes)
    return Stretch(as_floats(picked.pictures[:count]), waveform, sample_rate, float(rate), told + notices)


def steady_rate(own: Fraction | None, wanted: float) -> tuple[Fraction, list[str]]:
    """Frames a second of the clip: what is wanted, or the video's own as far as MOVA takes it; what is said of it."""
    if wanted:
        return frame_rate(wanted), []
    if own is None:
        return Fraction(24), ["The video does not say how many frames a second it has; 24 are taken."]
    if SLOWEST <= own <= FASTEST:
        return frame_rate(float(own)), []
    near = SLOWEST if own < SLOWEST else FASTEST
    return Fraction(near), [f"The video has {float(own):g} frames a second; MOVA takes it at {near}."]


def clip_size(given: tuple[int, int], wanted: Wanted) -> tuple[int, int]:
    """Width and height of the clip for a video of the given ones."""
    if not wanted.width and not wanted.height:
        return given
    width = wanted.width or on_grid(wanted.height * given[0] / given[1])
    height = wanted.height or on_grid(wanted.width * given[1] / given[0])
    return width, height


def on_grid(side: float) -> int:
    """The nearest side that MOVA takes."""
    return max(GRID, round(side / GRID) * GRID)


def as_floats(pictures: list[Tensor]) -> Tensor:
    """Pictures [H, W, 3] of bytes, or of floats in 0..1, as one float32 tensor; the list gives them up one by one."""
    made = torch.empty(len(pictures), *pictures[0].shape)
    for index, picture in enumerate(made):
        given, pictures[index] = pictures[index], made[0]
        picture.copy_(given)
        if given.dtype == torch.uint8:
            picture /= 255
    return made


def of_the_video(count: int, start: float, seconds: float, of: float) -> str:
    """How much of the video is used."""
    whole = f" of {of:.2f}" if of < math.inf else ""
    return f"{count} frame{'s' * (count > 1)} from {start:g} s on, {seconds:.2f}{whole} s"


def scaled(given: tuple[int, int], made: tuple[int, int]) -> str:
    """From which size to which."""
    return "" if given == made else f", scaled from {given[0]}x{given[1]} to {made[0]}x{made[1]}"


def changes(picked: Picked[Tensor], rate: Fraction, given: tuple[int, int], made: tuple[int, int]) -> list[str]:
    """What else to say of frames left out, repeated and cropped."""
    found, kept = len(picked.pictures), whole_length(len(picked.pictures))
    notices = []
    if found > kept:
        notices.append(f"A clip has 4 k + 1 frames: the last {found - kept} of {found} are left out.")
    if picked.repeated or picked.passed_over:
        notices.append(
            f"For {float(rate):.6g} frames a second {picked.repeated} are repeated, {picked.passed_over} passed over."
        )
    if cropped := crop_notice(*given, "video's", *made):
        notices.append(cropped)
    return notices
