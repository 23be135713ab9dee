"""Frames and sound as the encoders take them (H.264 with halved colour, AAC), whatever they were; changes are told."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import MovaError
from .resample import needed, resample

AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}

# What the channels of a sound are by their number, in the order of WAV and FLAC, in which files are read.
SPEAKERS = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}
# Shares of a speaker in left and right: ITU-R BS.775, which leaves the low-frequency channel out.
HALF_POWER = 0.5**0.5
SHARES = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (HALF_POWER, HALF_POWER),
    "BC": (0.5, 0.5),
    "LFE": (0.0, 0.0),
    **dict.fromkeys(("BL", "SL"), (HALF_POWER, 0.0)),
    **dict.fromkeys(("BR", "SR"), (0.0, HALF_POWER)),
}


@dataclass(frozen=True)
class Fitted:
    """Frames [F, H, W, 3] of even sides; a waveform [B, 1, 2 or 6 channels, N], or None, at one of AAC's rates."""

    frames: Tensor
    waveform: Tensor | None
    sample_rate: int
    notices: list[str]


def fit(frames: Tensor, waveform: Tensor | None, sample_rate: float, rate: Fraction) -> Fitted:
    """Frames and their sound as an MP4 can hold them, the sound of exactly their length.

    `frames` [F, H, W, 3 or 4] are uint8, or floats in 0..1; `waveform` [B, channels, N] is the sound of B clips that
    follow each other in them, at any rate; `rate` is in frames a second. Raises MovaError for what is no picture or no
    sound, or has values that are not numbers.
    """
    frames, notices = fit_frames(frames)
    if waveform is None:
        return Fitted(frames, None, 0, notices)
    if len(frames) % len(waveform):
        waveform = waveform[:1]  # not as many clips: the first sound is for all frames, as in ComfyUI's nodes
    count = len(frames) // len(waveform)
    # Cut before the work, for it may be an hour of music.
    waveform = waveform[..., : needed(float(count / rate), sample_rate, fitting_rate(sample_rate))]
    waveform, sample_rate, told = fit_sound(waveform, sample_rate)
    clips = fit_length(waveform, count, rate, sample_rate)
    # Fitted once more, so that roundings of the clips do not add up.
    whole = fit_length(torch.cat(tuple(clips), dim=-1)[None], len(frames), rate, sample_rate)
    return Fitted(frames, whole, sample_rate, notices + told)


def fit_length(waveform: Tensor, frames: int, fps: float | Fraction, sample_rate: int) -> Tensor:
    """Cut or zero-pad [..., samples] to exactly round(frames / fps * sample_rate) samples."""
    missing = round(frames / fps * sample_rate) - waveform.shape[-1]
    return torch.nn.functional.pad(waveform, (0, missing))  # a negative padding cuts


def fit_sound(waveform: Tensor, sample_rate: float) -> tuple[Tensor, int, list[str]]:
    """[..., channels, N] with channels and at a rate that AAC has, float32; the rate; what was done.

    The rate is AAC's next above, so that little is lost, and at most 96000. Raises MovaError for NaN and infinity.
    """
    check_sound(waveform, sample_rate)
    given, notices = int(sample_rate), []
    waveform = waveform.float()
    channels = waveform.shape[-2]
    if channels not in AAC_LAYOUTS:
        waveform = mixed_down(waveform)
        left_out = "; the low-frequency one is left out" if "LFE" in SPEAKERS.get(channels, "") else ""
        target = AAC_LAYOUTS[waveform.shape[-2]]
        notices.append(f"The {channels} channels of the sound are mixed down to {target}{left_out}.")
    fitting = fitting_rate(given)
    if fitting != given:
        notices.append(f"The sound is resampled from {given} to {fitting} Hz, which AAC has.")
        waveform = resample(waveform, given, fitting)
    return waveform, fitting, notices


def fitting_rate(sample_rate: float) -> int:
    """AAC's next rate above, or its highest."""
    return next((rate for rate in AAC_RATES if rate >= int(sample_rate)), AAC_RATES[-1])


def mixed_down(waveform: Tensor) -> Tensor:
    """3 to 8 channels [..., channels, N] as two, by ITU-R BS.775 and scaled to never clip; more, as their mean."""
    channels = waveform.shape[-2]
    if channels not in SPEAKERS:
        return waveform.mean(dim=-2, keepdim=True)
    shares = torch.tensor([SHARES[speaker] for speaker in SPEAKERS[channels].split()]).T.to(waveform)
    return shares / shares.sum(dim=1, keepdim=True) @ waveform


def check_sound(waveform: Tensor, sample_rate: float) -> None:
    """Raise MovaError unless `waveform` is [..., channels, N] of finite floats."""
    if waveform.ndim < 2 or not waveform.shape[-2]:
        raise MovaError(f"A clip needs sound of [channels, samples], not {[*waveform.shape]}; load another.")
    faulty = waveform.isfinite().logical_not_()
    count = int(faulty.sum())
    if count:
        first = int(faulty.flatten(0, -2).any(dim=0).nonzero()[0])
        raise MovaError(
            f"The sound holds NaN or infinite values ({count}, the first at {first / sample_rate:.3f} s); take another."
        )


def fit_frames(frames: Tensor) -> tuple[Tensor, list[str]]:
    """[F, H, W, 3 or 4] as [F, H, W, 3] of even sides, in the same dtype, and what was done.

    Only transparent frames are copied. Raises MovaError for other shapes, NaN and infinity.
    """
    check_frames(frames)
    notices = []
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        frames = even(even(frames, 1), 2)
        sizes = f"{width}x{height}", f"{frames.shape[2]}x{frames.shape[1]}"
        notices.append(f"The frames of {sizes[0]} are made {sizes[1]}: MP4 needs an even width and height.")
    if frames.shape[3] == 4:
        solid = 255 if frames.dtype == torch.uint8 else 1
        if bool((frames[..., 3] < solid).any()):
            frames = on_white(frames)
            notices.append("The frames are partly transparent, which MP4 has not; they are put on white.")
        frames = frames[..., :3]
    return frames, notices


def check_frames(frames: Tensor) -> None:
    """Raise MovaError unless `frames` is [F, H, W, 3 or 4], F at least 1, of uint8 or finite floats."""
    known = frames.dtype == torch.uint8 or frames.dtype.is_floating_point
    if not known or frames.ndim != 4 or frames.shape[-1] not in (3, 4) or not frames.numel():
        raise MovaError(
            "A clip needs frames of uint8 or floats [F, H, W, 3 or 4] and at least one of them, not "
            f"{frames.dtype} {[*frames.shape]}."
        )
    for number, frame in enumerate(frames) if frames.dtype.is_floating_point else ():
        if not frame.isfinite().all():
            raise MovaError(
                f"Frame {number} of {len(frames)} holds NaN or infinite values; take others, or decode them in bf16 or "
                "fp32."
            )


def even(frames: Tensor, axis: int) -> Tensor:
    """Without the last row or column if there is an odd number of them; a single one is doubled."""
    count = frames.shape[axis]
    return frames.repeat_interleave(2, dim=axis) if count == 1 else frames.narrow(axis, 0, count - count % 2)


def on_white(frames: Tensor) -> Tensor:
    """[F, H, W, 4] as [F, H, W, 3] of the same dtype, as on white paper."""
    solid = 255 if frames.dtype == torch.uint8 else 1
    made = torch.empty(*frames.shape[:3], 3, dtype=frames.dtype, device=frames.device)
    for picture, frame in zip(made, frames, strict=True):
        colours, opacity = frame[..., :3].float(), frame[..., 3:].float().clamp(0, solid) / solid
        mixed = colours * opacity + solid * (1 - opacity)
        picture.copy_(mixed.round() if solid == 255 else mixed)
    return made
