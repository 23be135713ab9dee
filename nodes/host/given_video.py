"""The host's VIDEO as a source of a clip."""

import math
from fractions import Fraction
from typing import Any

import comfy.model_management
from comfy_api.latest import InputImpl

from ...mova import MovaError
from ...mova.clip.decoding import File
from ...mova.clip.memory import Frames
from ...mova.clip.stretch import Source

looked_at = comfy.model_management.throw_exception_if_processing_interrupted  # to be called now and then


def source_of(video: Any, start: float, length: int, fps: float) -> tuple[Source, tuple[float, float]]:
    """A source, and what a trim has left of it: begin and end in seconds.

    A file is read by ours, no more of it than needed. If it is a file that a newer host is yet to crop or scale, only
    the host can do so: then it decodes the stretch from `start` on, of `length` frames at `fps` (0: the video's own).
    Raises MovaError if this is no VIDEO, or cannot be read.
    """
    if not hasattr(video, "get_components"):
        raise MovaError("There is no video in video; connect Load Video.")
    if not isinstance(video, InputImpl.VideoFromFile):
        return frames(video.get_components(), 0.0), (0.0, math.inf)
    if waiting_edits(video):
        seconds = (length + 1) / (fps or float(video.get_frame_rate())) + 1
        stretch = video.as_trimmed(start, seconds, strict_duration=False)
        return frames(stretch.get_components(), start), (0.0, math.inf)
    begin, seconds = video.get_active_trim_window()
    return File(video.get_stream_source()), (begin, begin + seconds if seconds else math.inf)


def waiting_edits(video: Any) -> bool:
    """Whether a file's frames are to be cropped or scaled before they are what the VIDEO shows."""
    if hasattr(video, "has_pending_frame_edits"):
        return bool(video.has_pending_frame_edits())
    return getattr(video, "_VideoFromFile__crop", None) is not None


def frames(components: Any, begin: float) -> Frames:
    """Frames and sound that the host has in memory, `begin` seconds into the video."""
    rate, audio = Fraction(components.frame_rate), components.audio
    if audio is None:
        return Frames(components.images, rate, begin=begin)
    return Frames(components.images, rate, audio["waveform"][0], int(audio["sample_rate"]), begin)
