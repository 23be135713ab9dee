"""The MP4 that comes out, and what it can hold."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..errors import MovaError
from ..files import check_name, reason, temporary_name, whole_file
from .fit import AAC_LAYOUTS, fit

BT709 = 1  # the number of BT.709 in H.264's three colour tags (matrix, primaries, transfer)


def check_output(path: Path, suffix: str = ".mp4") -> None:
    """Raise MovaError if a file with that suffix could not be written to `path`. Leaves nothing behind."""
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise MovaError(f"{path} cannot be the output's name; give a file name that ends in {suffix}.")
    if not os.path.isdir(path.parent):
        raise MovaError(f"The folder {path.parent} for the output {path.name!r} does not exist; create it first.")
    check_name(path)
    try:
        if path.is_dir():
            raise MovaError(f"{path} is a folder; give the name of a file in it.")
        # Both names are tried, and what is there is left alone: permission bits say nothing to root or on a network
        # drive, and Windows says of a name that is too long only that it is not there.
        for trial in [temporary_name(path)] + [path] * (not os.path.lexists(path)):
            trial.touch(exist_ok=False)
            trial.unlink(missing_ok=True)  # another process may take it for a leftover
        if suffix == ".mp4":
            av.codec.Codec("libx264", "w")
    except MovaError:
        raise
    except av.codec.codec.UnknownCodecError as error:
        raise MovaError(f"{path} cannot be written by this PyAV, which lacks libx264; install av from PyPI.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        shown = str(path).replace("\0", r"\0")
        raise MovaError(f"{shown} cannot be written ({reason(error)}); choose another folder or name.") from error


def write_clip(
    path: Path,
    frames: Tensor,
    fps: float,
    waveform: Tensor | None,
    sample_rate: int = 48000,
    settings: Mapping[str, Any] | None = None,
    crf: int = 17,
    tell: Callable[[str], None] = lambda notice: None,
    graph: Mapping[str, Any] | None = None,
) -> None:
    """Write an MP4 (H.264 and AAC) that is either complete or not there; an older file at `path` stays until then.

    `frames` is uint8 [F, H, W, 3], `waveform` float [channels, samples] in -1..1; it is cut or zero-padded to the
    length of the frames. What MP4 cannot hold (odd sides, transparency, other rates and channels) is made to fit, and
    what was done given to `tell`. `settings` goes into the file as JSON, where `read_clip_info` finds it. Raises
    MovaError if the values cannot be stored or the disk refuses them.
    """
    path = Path(path)
    rate = frame_rate(fps)
    if frames.dtype != torch.uint8:
        raise MovaError(f"A clip is written of frames in uint8, not {frames.dtype}; convert them first.")
    fitted = fit(frames, None if waveform is None else waveform[None], sample_rate, rate)
    for notice in fitted.notices:
        tell(notice)
    frames, sample_rate = fitted.frames, fitted.sample_rate
    waveform = None if fitted.waveform is None else fitted.waveform[0].clamp(-1, 1)
    with whole_file(path, (av.FFmpegError,)) as temporary:
        tags = {name: value for name, value in (("comment", settings), ("prompt", graph)) if value is not None}
        flags = "faststart" + "+use_metadata_tags" * ("prompt" in tags)  # else MP4 has no place for other names
        container = av.open(os.path.abspath(temporary), "w", format="mp4", options={"movflags": flags})
        try:
            container.metadata.update({name: settings_to_json(value) for name, value in tags.items()})
            encode(container, frames, rate, waveform, sample_rate, crf)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one that matters
                container.close()
            raise
        container.close()


def frame_rate(fps: float) -> Fraction:
    """The exact rate meant by `fps`: 23.976, 29.97, 59.94 and the like are n * 1000 / 1001.

    Raises MovaError unless it is between 1 and 1000.
    """
    if not 1 <= fps <= 1000:
        raise MovaError(f"A clip cannot have {fps} frames a second; choose a rate between 1 and 1000.")
    for base in (24, 30, 48, 60, 120):
        if abs(fps - base * 1000 / 1001) < 0.005:  # 23.98 is also in use
            return Fraction(base * 1000, 1001)
    return Fraction(fps).limit_denominator(100)


def encode(
    container: av.container.OutputContainer,
    frames: Tensor,
    rate: Fraction,
    waveform: Tensor | None,
    sample_rate: int,
    crf: int,
) -> None:
    """Encode frames [F, H, W, 3] and a waveform [channels, samples] of the same duration, side by side in time."""
    video = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
    video.height, video.width = frames.shape[1:3]
    video.pix_fmt = "yuv420p"
    context = video.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    context.time_base = 1 / rate
    if waveform is not None:
        layout = AAC_LAYOUTS[waveform.shape[0]]
        audio = container.add_stream("aac", rate=sample_rate, layout=layout)
        audio.bit_rate = max(192_000, 96_000 * len(waveform))
        samples = waveform.contiguous().numpy()
        ends = [round(index / rate * sample_rate) for index in range(1, len(frames))] + [samples.shape[1]]

    written = 0
    for index, picture in enumerate(frames):
        container.mux(video.encode(video_frame(picture, index, rate)))
        if waveform is not None and ends[index] > written:
            part = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, written : ends[index]]), "fltp", layout)
            part.sample_rate, part.time_base, part.pts = sample_rate, Fraction(1, sample_rate), written
            container.mux(audio.encode(part))
            written = ends[index]
    container.mux(video.encode(None))
    if waveform is not None:
        container.mux(audio.encode(None))


def video_frame(picture: Tensor, index: int, rate: Fraction) -> av.VideoFrame:
    """A uint8 [H, W, 3] picture as frame number `index` in YUV 4:2:0, BT.709, limited range."""
    rgb = av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")
    frame = rgb.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def settings_to_json(settings: Mapping[str, Any]) -> str:
    """JSON in plain UTF-8, readable in any player; what JSON has no form for (a path, a dtype) is written as text."""
    text = json.dumps(dict(settings), ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # an odd file name's lone surrogate: \udcXX is JSON
