"""Sigmas: how noisy the latents are at each step, from 1 (pure noise) to 0 (clean). The timestep is 1000 sigma."""

import torch
from torch import Tensor

from ..errors import MovaError
from ..shorten import short

TIMESTEPS = 1000  # that the model was trained with
MAX_STEPS = 1_000_000
MAX_SHIFT = 1e6  # all steps are near pure noise then; far above it, float32 overflows


def shifted(base: Tensor, shift: float | Tensor) -> Tensor:
    """Spend more steps at high noise: s x / (1 + (s - 1) x)."""
    return shift * base / (1 + (shift - 1) * base)


def sigmas(
    steps: int, shift: float = 5.0, denoise: float = 1.0, sigma_min: float = 0.0, extra_one_step: bool = True
) -> Tensor:
    """The released schedule: float32 [steps + 1], falling, the last 0.

    With denoise below 1 it starts at that (unshifted) noise level. With extra_one_step the base is cut into steps + 1
    points and the last is left out. Source: FlowMatchScheduler.set_timesteps of the published code. Raises MovaError
    for values out of range.
    """
    if steps < 1:
        raise MovaError(f"The number of steps is {short(steps)}; it must be at least 1 (50 is the release's).")
    if steps > MAX_STEPS:
        raise MovaError(f"The number of steps is {steps}; it must be at most {MAX_STEPS} (50 is the release's).")
    if not 0 < shift <= MAX_SHIFT:  # false for NaN too
        raise MovaError(f"The shift is {shift}; it must be above 0, and at most {MAX_SHIFT:g} (5 is the release's).")
    if not 0 < denoise <= 1:
        raise MovaError(f"Denoise is {denoise}; it must be above 0 and at most 1 (1 starts from pure noise).")
    start = sigma_min + (1.0 - sigma_min) * denoise
    base = torch.linspace(start, sigma_min, steps + extra_one_step)[:steps]
    return torch.cat([shifted(base, shift), torch.zeros(1)])


def is_boundary(value: float) -> bool:
    """Whether this is a sigma at which the low-noise expert can take over (from 0: never, to 1: at once)."""
    return 0 <= value <= 1  # False for NaN


def low_noise_start(video_sigmas: Tensor, boundary: float) -> int:
    """The first step of the low-noise expert: where the video timestep has fallen below 1000 * boundary."""
    timesteps = video_sigmas[:-1] * TIMESTEPS
    return int((timesteps >= boundary * TIMESTEPS).int().cumprod(0).sum())
