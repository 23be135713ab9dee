"""Pictures and clips on disk: what the user brings in, and the MP4 that comes out."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import MovaError
from ..files import check_name, reason, temporary_name, whole_file

BT709 = 1  # the number of BT.709 in H.264's three colour tags (matrix, primaries, transfer)
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
AAC_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class ClipInfo:
    """What a clip holds. Without sound `audio_codec` is None and `sample_rate` and `channels` are 0."""

    frames: int
    width: int
    height: int
    fps: float
    duration_s: float
    video_codec: str
    audio_codec: str | None
    sample_rate: int
    channels: int
    settings: dict[str, Any]


def read_image(path: Path) -> Image.Image:
    """The picture as RGB, turned the way its EXIF says, transparency composed on white.

    Raises MovaError if there is no file, or it is not a whole picture of a size that can be opened safely.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise MovaError(f"{path} {no_file(path)}; give the path of a picture.")
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255 instead of scaling
            image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    except Image.DecompressionBombError as error:
        raise MovaError(f"{path} has too many pixels to be opened safely; make the picture smaller.") from error
    except UnidentifiedImageError as error:
        raise MovaError(f"{path} is not a picture that can be read; save it as PNG or JPEG.") from error
    except PermissionError as error:
        raise MovaError(f"{path} cannot be read ({reason(error)}); give yourself the right to read it.") from error
    except Exception as error:  # broken bytes make Pillow raise nearly anything, from OSError to struct.error
        raise MovaError(f"{path} is damaged or cut off; save or download the picture again.") from error


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
            trial.unlink()
        if suffix == ".mp4":
            av.codec.Codec("libx264", "w")
    except MovaError:
        raise
    except av.codec.codec.UnknownCodecError as error:
        raise MovaError(f"{path} cannot be written by this PyAV, which lacks libx264; install av from PyPI.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        shown = str(path).replace("\0", r"\0")
        raise MovaError(f"{shown} cannot be written ({reason(error)}); choose another folder or name.") from error


def fit_audio(waveform: Tensor, frames: int, fps: float, sample_rate: int) -> Tensor:
    """Cut or zero-pad [channels, samples] to exactly round(frames / fps * sample_rate) samples."""
    missing = round(frames / fps * sample_rate) - waveform.shape[-1]
    return torch.nn.functional.pad(waveform, (0, missing))  # a negative padding cuts


def write_clip(
    path: Path,
    frames: Tensor,
    fps: float,
    waveform: Tensor | None,
    sample_rate: int = 48000,
    settings: Mapping[str, Any] | None = None,
    crf: int = 17,
) -> None:
    """Write an MP4 (H.264 and AAC) that is either complete or not there; an older file at `path` stays until then.

    `frames` is uint8 [F, H, W, 3] with even H and W, `waveform` float [channels, samples] in -1..1 with one or two
    channels; it is cut or zero-padded to the length of the frames. `settings` goes into the file as JSON, where
    `read_clip_info` finds it. Raises MovaError if the values cannot be stored or the disk refuses them.
    """
    path = Path(path)
    rate = frame_rate(fps)
    check_frames(frames)
    if waveform is not None:
        check_waveform(waveform, sample_rate)
        waveform = fit_audio(waveform.float().clamp(-1, 1), len(frames), float(rate), sample_rate)
    with whole_file(path, (av.FFmpegError,)) as temporary:
        container = av.open(os.path.abspath(temporary), "w", format="mp4", options={"movflags": "faststart"})
        try:
            if settings is not None:
                container.metadata["comment"] = settings_to_json(settings)
            encode(container, frames, rate, waveform, sample_rate, crf)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one that matters
                container.close()
            raise
        container.close()


def read_clip_info(path: Path) -> ClipInfo:
    """What the MP4 at `path` holds, without decoding it. Raises MovaError if it is not a whole clip."""
    with opened_clip(path) as container:
        video, audio = container.streams.video[0], first_audio(container)
        fps = stream_fps(video)
        found = sum(packet.size > 0 and not packet.is_corrupt for packet in container.demux())
        refuse_if_cut_off(path, found, sum(stream.frames for stream in container.streams))
        return ClipInfo(
            frames=video.frames,
            width=video.width,
            height=video.height,
            fps=fps,
            duration_s=video.frames / fps,
            video_codec=video.codec_context.name,
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate=audio.rate if audio else 0,
            channels=audio.channels if audio else 0,
            settings=settings_from_json(container.metadata.get("comment", "")),
        )


def read_clip(path: Path) -> tuple[Tensor, Tensor | None, int, float]:
    """Decode the MP4 at `path`: frames uint8 [F, H, W, 3], waveform float32 [channels, samples] or None, rate, fps.

    The rate is in samples a second, 0 without sound. Raises MovaError if it is not a whole clip.
    """
    pictures, sounds = [], []
    with opened_clip(path) as container:
        video, audio = container.streams.video[0], first_audio(container)
        planar = av.AudioResampler(format="fltp")
        for frame in container.decode(video, audio) if audio else container.decode(video):
            if isinstance(frame, av.VideoFrame):
                pictures.append(torch.from_numpy(frame.to_ndarray(format="rgb24", dst_color_range=ColorRange.JPEG)))
            else:
                sounds += [torch.from_numpy(part.to_ndarray()) for part in planar.resample(frame)]  # type: ignore[arg-type]
        refuse_if_cut_off(path, len(pictures), video.frames)
        waveform = torch.cat(sounds, dim=1) if sounds else None
        return torch.stack(pictures), waveform, audio.rate if audio else 0, stream_fps(video)


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


def check_frames(frames: Tensor) -> None:
    """Raise MovaError unless `frames` is uint8 [F, H, W, 3] that H.264 with halved colour can hold."""
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.numel():
        raise MovaError(
            f"A clip needs frames of uint8 [F, H, W, 3] and at least one of them, not {frames.dtype} {[*frames.shape]}."
        )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise MovaError(f"Frames of {width}x{height} cannot be written as MP4; choose an even width and height.")


def check_waveform(waveform: Tensor, sample_rate: int) -> None:
    """Raise MovaError unless `waveform` is a [channels, samples] that AAC can hold."""
    if waveform.ndim != 2 or waveform.shape[0] not in AAC_LAYOUTS:
        raise MovaError(f"A clip needs sound of [1 or 2 channels, samples], not {[*waveform.shape]}; mix it first.")
    if sample_rate not in AAC_RATES:
        raise MovaError(f"AAC cannot hold sound of {sample_rate} samples a second; resample it to 48000.")
    if not waveform.isfinite().all():
        raise MovaError("The sound has values that are not numbers (NaN or infinite), so it cannot be written.")


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
        audio.bit_rate = 192_000
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


@contextlib.contextmanager
def opened_clip(path: Path) -> Iterator[av.container.InputContainer]:
    """The opened MP4 at `path`, which has a picture track; decoding errors inside the block become MovaError."""
    path = Path(path)
    if not os.path.isfile(path):
        raise MovaError(f"{path} {no_file(path)}; give the path of a clip.")
    try:
        # Only the MP4 reader: others (playlists) open further files by name. An absolute path is never taken for a URL.
        with av.open(os.path.abspath(path), format="mp4", metadata_errors="replace") as container:
            if not container.streams.video or not stream_fps(container.streams.video[0]):
                raise MovaError(f"{path} holds no moving picture; give the path of a clip.")
            yield container
    except (OSError, av.FFmpegError) as error:
        raise MovaError(f"{path} is not an MP4 clip that can be read ({reason(error)}); give another clip.") from error


def first_audio(container: av.container.InputContainer) -> av.AudioStream | None:
    """The sound track that players choose, if there is one."""
    return container.streams.audio[0] if container.streams.audio else None


def stream_fps(video: av.VideoStream) -> float:
    """Frames a second, 0 if the file does not say."""
    return float(video.average_rate or 0)


def refuse_if_cut_off(path: Path, found: int, promised: int) -> None:
    """Raise MovaError if the file has fewer readable pieces than its index promises (the index comes first)."""
    if found < promised:
        raise MovaError(f"{path} is cut off or damaged ({found} of {promised} pieces readable); copy the clip again.")


def settings_to_json(settings: Mapping[str, Any]) -> str:
    """JSON in plain UTF-8, readable in any player; what JSON has no form for (a path, a dtype) is written as text."""
    text = json.dumps(dict(settings), ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # an odd file name's lone surrogate: \udcXX is JSON


def settings_from_json(text: str) -> dict[str, Any]:
    """The settings in a clip's comment; empty if the comment is somebody else's."""
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def no_file(path: Path) -> str:
    """Why there is no file at `path`, to put behind its name."""
    return "is a folder" if os.path.isdir(path) else "does not exist"
