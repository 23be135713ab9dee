"""Pictures and clips that the user brings in."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import torch
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .. import strict_json
from ..errors import MovaError
from ..files import reason
from .decoding import EXACT, channels_of


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


def read_clip_info(path: Path) -> ClipInfo:
    """What the MP4 at `path` holds, without decoding it. Raises MovaError if it is not a whole clip."""
    with opened_clip(path) as container:
        video, audio = container.streams.video[0], first_audio(container)
        fps = stream_fps(video)
        packets = [packet for packet in container.demux(video) if packet.size]
        if any(packet.is_corrupt for packet in packets):
            raise MovaError(f"{path} is damaged; copy the clip again.")
        # What is shown: a clip that was cut without encoding it anew keeps frames that an edit list passes over, and a
        # fragmented one has no count of them all.
        frames = sum(not packet.is_discard for packet in packets)
        return ClipInfo(
            frames=frames,
            width=video.width,
            height=video.height,
            fps=fps,
            duration_s=frames / fps,
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
    exact: dict[str, Any] = {"interpolation": Interpolation.BILINEAR | EXACT}
    with opened_clip(path) as container:
        video, audio = container.streams.video[0], first_audio(container)
        packed = av.AudioResampler(format="flt")
        for frame in container.decode(video, audio) if audio else container.decode(video):
            if isinstance(frame, av.VideoFrame):
                pixels = frame.to_ndarray(format="rgb24", dst_color_range=ColorRange.JPEG, **exact)
                pictures.append(torch.from_numpy(pixels))
            else:
                sounds += [torch.from_numpy(channels_of(part)) for part in packed.resample(frame)]  # type: ignore[arg-type]
        waveform = torch.cat(sounds, dim=1) if sounds else None
        return torch.stack(pictures), waveform, audio.rate if audio else 0, stream_fps(video)


@contextlib.contextmanager
def opened_clip(path: Path) -> Iterator[av.container.InputContainer]:
    """The opened MP4 at `path`, which has a picture track; decoding errors inside the block become MovaError."""
    path = Path(path)
    if not os.path.isfile(path):
        raise MovaError(f"{path} {no_file(path)}; give the path of a clip.")
    try:
        # Only the MP4 reader: others (playlists) open further files by name. An absolute path is never taken for a URL.
        with av.open(os.path.abspath(path), format="mp4", metadata_errors="replace") as container:
            if missing := missing_bytes(path):
                raise MovaError(f"{path} is cut off: its last {missing} bytes are missing; copy the clip again.")
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


def missing_bytes(path: Path) -> int:
    """How far the boxes that an MP4 is made of reach beyond its end (ISO/IEC 14496-12, 4.2)."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            if length < 8:  # 0 is a box to the end of the file; less than its own head none at all
                return 0
            at += length
    return at - size


def settings_from_json(text: str) -> dict[str, Any]:
    """The settings in a clip's comment; empty if the comment is somebody else's."""
    try:
        settings = strict_json.parse(text)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def no_file(path: Path) -> str:
    """Why there is no file at `path`, to put behind its name."""
    return "is a folder" if os.path.isdir(path) else "does not exist"
