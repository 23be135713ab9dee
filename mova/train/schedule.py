"""Which timestep a step is trained at, and how fast it learns: as the published trainers have it."""

import math

import torch

from ..sampling.schedule import TIMESTEPS
from .losses import train_timesteps

MIN_LR = 1e-6
EXPERT_OF_PARITY = ("video_dit", "video_dit_2")  # even steps train the high-noise expert


def boundary_share(boundary: float = 0.9) -> float:
    """The share of the timesteps that are the high-noise expert's: 0.358 for the released boundary."""
    return float((train_timesteps() >= boundary * TIMESTEPS).sum()) / TIMESTEPS


def expert_range(expert: str, share: float) -> tuple[float, float]:
    """The part of the timesteps, 0 (pure noise) to 1, that trains "video_dit" or "video_dit_2"."""
    return (0.0, share) if expert == EXPERT_OF_PARITY[0] else (share, 1.0)


def timestep_index(r: float, span: tuple[float, float]) -> int:
    """The place in the table of timesteps for a uniform number r in 0..1."""
    low, high = span
    return min(int(TIMESTEPS * (low + r * (high - low))), TIMESTEPS - 1)


def learning_rate(kind: str, step: int, lr: float, warmup: int, steps: int, least: float = MIN_LR) -> float:
    """The rate of a step, counted from 0. Linear over the warm-up, then half a cosine to the last step.

    kind: "cosine" runs from `least` up to lr and down to it (the published accelerate recipe), "low_resource" from 0
    and towards 0, never below `least` after the warm-up (its low-resource recipe), "constant" stays at lr.
    """
    progress = (step - warmup) / max(1, steps - warmup)
    if kind == "constant":
        return lr * min(1.0, (step + 1) / (warmup + 1))
    if kind == "low_resource":
        if step < warmup:
            return lr * (step / max(1, warmup))
        # Its cosine is one of float32, of a pi of five decimals.
        return max(least, lr * 0.5 * (1 + torch.cos(torch.tensor(progress * 3.14159)).item()))
    if step < warmup:
        return least + (lr - least) * step / warmup
    return least + (lr - least) * 0.5 * (1 + math.cos(math.pi * progress))


LR_SCHEDULES = ("cosine", "low_resource", "constant")
