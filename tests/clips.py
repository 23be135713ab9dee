"""Frames and sound for clips, clips read back, and what is in a folder."""

import math

import av
import torch
from av.video.reformatter import ColorRange, Interpolation

from mova.clip.decoding import EXACT, channels_of
from mova.clip.reading import first_audio, opened_clip, stream_fps


def moving_frames(count, height=32, width=48):
    """Smooth frames, no two alike."""
    ramp = torch.linspace(0, 200, width).expand(count, height, width)
    steps = torch.linspace(0, 55, count)[:, None, None]
    return torch.stack([ramp + steps, ramp.flip(2), ramp * 0 + 4 * steps], dim=-1).to(torch.uint8)


def tone(samples, rate=48000, channels=1, hertz=440.0):
    """A sine at half of full scale; every further channel is softer, so that a swap of channels shows."""
    wave = 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate)
    return torch.stack([wave / (channel + 1) for channel in range(channels)])


def listing(folder):
    return sorted(item.name for item in folder.iterdir())


def read_clip(path):
    """Decode the MP4 at `path`: frames uint8 [F, H, W, 3], waveform float32 [channels, samples] or None, rate, fps.

    The rate is in samples a second, 0 without sound. Raises MovaError if it is not a whole clip.
    """
    pictures, sounds = [], []
    exact = {"interpolation": Interpolation.BILINEAR | EXACT}
    with opened_clip(path) as container:
        video, audio = container.streams.video[0], first_audio(container)
        packed = av.AudioResampler(format="flt")
        for frame in container.decode(video, audio) if audio else container.decode(video):
            if isinstance(frame, av.VideoFrame):
                pictures.append(
                    torch.from_numpy(frame.to_ndarray(format="rgb24", dst_color_range=ColorRange.JPEG, **exact))
                )
            else:
                sounds += [torch.from_numpy(channels_of(part)) for part in packed.resample(frame)]
        waveform = torch.cat(sounds, dim=1) if sounds else None
        return torch.stack(pictures), waveform, audio.rate if audio else 0, stream_fps(video)
