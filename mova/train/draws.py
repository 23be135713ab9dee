"""What chance decides in a training step. Each draw follows from the seed and the step alone, so that a run that goes
on from any step is the run that it would have been."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cache import Item
from .losses import train_timesteps
from .schedule import expert_range, timestep_index
from .settings import Settings

VALIDATED_AT = (0.1, 0.5, 0.9)  # of an expert's part of the timesteps


@dataclass(frozen=True)
class Draw:
    """A clip and a timestep; the noises are drawn when they are needed."""

    clip: int
    timestep: float
    without_caption: bool
    noise_seed: int


def generator(*words: object) -> torch.Generator:
    """One on the processor, whose numbers are the same everywhere."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "big"))


def draw(settings: Settings, clips: int, share: float, step: int, part: int) -> Draw:
    """For part `part` of a step: clips go round in a new order each time. share: schedule.boundary_share."""
    count = step * settings.accumulation + part
    order = torch.randperm(clips, generator=generator(settings.seed, "round", count // clips))
    chance = generator(settings.seed, "step", step, part)
    r, dropped = torch.rand(2, generator=chance).tolist()
    index = timestep_index(r, expert_range(settings.expert_of(step), share))
    seed = int(torch.randint(2**62, (), generator=chance))
    return Draw(int(order[count % clips]), float(train_timesteps()[index]), dropped < settings.caption_dropout, seed)


def noises(item: Item, seed: object) -> tuple[Tensor, Tensor]:
    """Standard normal, of the shapes of a clip's latents."""
    chance = generator("noise", seed)
    return torch.randn(item.video.shape, generator=chance), torch.randn(item.audio.shape, generator=chance)


def fixed_timesteps(expert: str, share: float) -> Sequence[float]:
    """Those that the validation loss is measured at."""
    table = train_timesteps()
    return [float(table[timestep_index(r, expert_range(expert, share))]) for r in VALIDATED_AT]
