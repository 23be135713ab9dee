"""Frames and sound for clips, and what is in a folder."""

import math

import torch


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
