"""A stretch of a video file: frames one after the other from a moment on, and the sound of that time, by PyAV."""

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Interpolation
from torch import Tensor

from ..errors import MovaError
from ..files import reason
from .pick import Shown

BEFORE = 0.5  # seconds that a decoder of sound is given to find its feet
# libswscale's ACCURATE_RND and FULL_CHR_H_INT, which not every PyAV names: without them all is about 1.3 of 255 darker.
# PyAV 18 also heeds where the file says that its halved colour lies, as players do: in H.264 half a pixel further left
# than PyAV 16 takes it for.
EXACT = 0x40000 | 0x2000
# A playlist must not fetch what it names from the network. As an option of streams, too, this would end the process in
# PyAV 16 where streams are found late (FLV).
LOCAL = {"protocol_whitelist": "file"}
APART = 0.05  # seconds by which a piece of sound may be out of place, as times in milliseconds are


class File:
    """A video file (a path, or a file object) as a source of a clip: `rate` and `seconds` are None if it does not say.

    Raises MovaError, also from its methods, if the file cannot be read.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        with opened(source) as container:
            stream = container.streams.video[0]
            self.rate: Fraction | None = stream.average_rate or stream.guessed_rate
            self.seconds = duration(container)

    def shown(self, start: float) -> Generator[Shown[av.VideoFrame], None, None]:
        """Frames from one that is shown at `start` or before; times are in seconds after the first frame."""
        if start > 0:
            with opened(self.source) as container:
                if sought(container, container.streams.video[0], origin(container) + start):
                    frames = shown_frames(container)
                    first = next(frames, None)
                    if first is not None and first.begin <= start + (first.end - first.begin) / 2:
                        yield first
                        yield from frames
                        return
        with opened(self.source) as container:  # from the start: there is nothing to leave out, or no index to trust
            yield from shown_frames(container)

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height, turned as the file says."""
        return (frame.height, frame.width) if quarters(frame) % 2 else (frame.width, frame.height)

    def picture(self, frame: av.VideoFrame, width: int, height: int) -> Tensor:
        """Uint8 [height, width, 3], scaled, and cut from the frame's centre."""
        return picture(frame, width, height)

    def sound(self, start: float, seconds: float) -> tuple[Tensor | None, int]:
        """[channels, samples] of that time, float32, and the rate; None and 0 if there is none."""
        with opened(self.source) as container:
            return read_sound(container, start, seconds)


@contextlib.contextmanager
def opened(source: Any) -> Iterator[av.container.InputContainer]:
    """The opened file, which has a picture; what cannot be read inside the block becomes a MovaError."""
    if hasattr(source, "seek"):
        source.seek(0)
    else:
        source = os.path.abspath(source)  # which is never taken for a URL
    try:
        with av.open(source, metadata_errors="replace", container_options=LOCAL) as container:
            if not container.streams.video:
                raise MovaError("The video has no picture, only sound; load another.")
            yield container
    except (OSError, av.FFmpegError) as error:
        raise MovaError(f"The video cannot be read ({reason(error)}); load another.") from error


def origin(container: av.container.InputContainer) -> float:
    """When the first frame is shown, in the file's own time: not at 0 in a stream that was cut out of a longer one."""
    stream = container.streams.video[0]
    return float((stream.start_time or 0) * (stream.time_base or 0))


def duration(container: av.container.InputContainer) -> float | None:
    """Seconds of the picture, if the file says."""
    stream = container.streams.video[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def shown_frames(container: av.container.InputContainer) -> Iterator[Shown[av.VideoFrame]]:
    """Frames from where the container is at, and when they are shown; one without a time follows the one before."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    zero, step = origin(container), float(1 / (stream.average_rate or stream.guessed_rate or 24))
    end = 0.0
    for frame in decoded(container, stream):
        begin = end if frame.time is None else frame.time - zero
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else step
        end = begin + lasts
        yield Shown(frame, begin, end)


def sought(container: av.container.InputContainer, stream: Any, time: float) -> bool:
    """Go to where decoding must begin for what is at `time`, in the file's own seconds; whether that was possible."""
    try:
        container.seek(int(time / stream.time_base), stream=stream)
    except (av.FFmpegError, TypeError):  # the latter: there is no time base
        return False
    return True


def decoded(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    """Frames of a stream; packets that are damaged are left out, as players do."""
    for packet in container.demux(stream):
        with contextlib.suppress(av.FFmpegError):
            yield from packet.decode()


def quarters(frame: av.VideoFrame) -> int:
    """Quarters of a turn, against the clock, after which the frame is upright."""
    return round(frame.rotation / 90) % 4


def picture(frame: av.VideoFrame, width: int, height: int) -> Tensor:
    """As File.picture."""
    turns = quarters(frame)
    across, down = (height, width) if turns % 2 else (width, height)
    size: dict[str, Any] = {"interpolation": Interpolation.BILINEAR | EXACT}  # of the halved colour
    if (across, down) != (frame.width, frame.height):
        scale = max(across / frame.width, down / frame.height)
        size["width"] = max(across, round(frame.width * scale))
        size["height"] = max(down, round(frame.height * scale))
        size["interpolation"] = Interpolation.LANCZOS | EXACT
    pixels = frame.to_ndarray(format="rgb24", dst_color_range=ColorRange.JPEG, **size)
    left, top = (pixels.shape[1] - across) // 2, (pixels.shape[0] - down) // 2
    cut = np.rot90(pixels[top : top + down, left : left + across], turns)
    return torch.from_numpy(np.ascontiguousarray(cut))


def alike(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Pieces of sound in packed float32, with the channels and the rate of the first also if the others' change."""
    target: dict[str, Any] = {}
    kind = resampler = None
    for frame in frames:
        target = target or {"layout": frame.layout, "rate": frame.sample_rate}
        if resampler is None or kind != (frame.format.name, frame.layout.name, frame.sample_rate):
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            resampler = av.AudioResampler(format="flt", **target)
        yield from resampler.resample(frame)


def channels_of(frame: av.AudioFrame) -> np.ndarray[Any, Any]:
    """Packed samples as [channels, samples]. Planar ones of 8 channels end the process: PyAV reads a ninth plane."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def read_sound(container: av.container.InputContainer, start: float, seconds: float) -> tuple[Tensor | None, int]:
    """As File.sound. Where the file's sound has gaps there is silence."""
    # A stream without a decoder has no codec, and would end the process.
    stream = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
    if stream is None:
        return None, 0
    start += origin(container)
    sought(container, stream, max(start - BEFORE, 0.0))
    made: np.ndarray[Any, Any] | None = None
    rate = at = 0
    heard = False
    for part in alike(decoded(container, stream)):
        samples = channels_of(part)
        if made is None:
            rate = part.sample_rate
            made = np.zeros((len(samples), round(seconds * rate)), np.float32)
        place = at if part.time is None else round((part.time - start) * rate)
        if not heard or abs(place - at) > APART * rate:
            at = place
        if at >= made.shape[1]:
            break
        inside = samples[:, max(-at, 0) : made.shape[1] - at]
        made[:, max(at, 0) : max(at, 0) + inside.shape[1]] = inside
        heard = heard or inside.shape[1] > 0
        at += samples.shape[1]
    return (torch.from_numpy(made), rate) if made is not None and heard else (None, 0)
