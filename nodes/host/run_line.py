"""What MOVA Joint Sampler says of a run: how much it is, the memory it expects, how long it still takes."""

import logging
import math
import time
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

import comfy.model_management
from torch import Tensor

from ...mova.sampling.audio_steps import counts
from ...mova.sampling.guidance_plan import GuidancePlan
from . import notice
from .audio_steps import sample_euler
from .estimate import as_needed
from .step_by_step import EULER

GIB = 1 << 30


def memory_line(model: Any, parts: Sequence[Tensor]) -> str:
    """What the host will keep free for a clip of these latents, and what is free now."""
    packed = [len(parts[0]), 1, sum(math.prod(part.shape[1:]) for part in parts)]
    wanted = model.model.memory_required(as_needed(model, packed))
    free = comfy.model_management.get_free_memory(model.load_device)
    return f"{wanted / GIB:.1f} GiB for the clip, {free / GIB:.1f} GiB free"


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class RunLine:
    """The line on the node; it is told of each step that is done. `sampler`: others than Euler may evaluate the model
    several times in a step."""

    def __init__(
        self,
        steps: int,
        plan: GuidancePlan,
        sampler: Any,
        memory: str,
        done: int = 0,
        audio_steps: int = 1,
        taught: Collection[int] = (),
    ) -> None:
        """taught: steps in which a teacher of the audio is asked."""
        count, alone = counts(plan, steps, audio_steps, done, taught)
        least = "" if getattr(sampler, "sampler_function", None) in (EULER, sample_euler) else "at least "
        self.steps = steps
        more = f", {alone} of the audio alone" if alone else ""
        asked = sum(step >= done for step in taught) if audio_steps > 1 else 0
        more += f", {asked} of its teacher" if asked else ""
        self.size = f"{least}{count} evaluation{'s' * (count != 1)}{more}; {memory}"
        self.begun = self.last = time.monotonic()
        self.took: list[float] = []
        first = f"{steps - done} step{'s' * (steps - done != 1)}, {self.size}"
        logging.info(f"[MOVA] {first}")
        notice.show_line(first)

    def step(self, done: int) -> None:
        """`done` of the run's steps are done. A median, since weights are loaded in the first step of each expert."""
        now = time.monotonic()
        self.took.append(now - self.last)
        self.last = now
        if done < self.steps:
            left = median(self.took) * (self.steps - done)
            notice.show_line(f"Step {done} of {self.steps}, about {clock(left)} left; {self.size}")
        else:
            notice.show_line(f"{self.steps} steps in {clock(now - self.begun)}; {self.size}")
