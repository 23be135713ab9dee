"""Several steps of the audio in each step of the video, whose tokens are held meanwhile.

Few video steps are enough for the picture where a LoRA is distilled for them, and too few for the sound
(FlashML-org/FreeVideo, docs/Prism.md). The first of the audio's steps uses the joint evaluation; the others evaluate
the audio tower alone.
"""

from collections.abc import Container

import torch
from torch import Tensor

from ..errors import MovaError
from ..shorten import short
from .guidance import Guidance, Kind
from .guidance_plan import GuidancePlan
from .schedule import shifted

MOST = 64  # audio steps in a video step


def check_audio_steps(count: int) -> None:
    """Raise MovaError for a number of audio steps that makes no sense."""
    if not 1 <= count <= MOST:  # false for NaN too
        raise MovaError(f"audio_steps is {short(count)}; it must be from 1 (as the video) to {MOST}.")


def between(sigmas: Tensor, step: int, count: int, shift: float) -> Tensor:
    """The sigmas [count + 1] of the audio's steps in a step of a schedule [steps + 1], its own ends among them.

    Of the released schedule they are those of the same schedule with `count` times as many steps: even, before the
    shift is applied.
    """
    ends = sigmas[step : step + 2]
    if count == 1:
        return ends
    base = shifted(ends.double(), 1 / shift)
    inner = torch.linspace(float(base[0]), float(base[1]), count + 1, dtype=torch.float64)[1:-1]
    return torch.cat([ends[:1], shifted(inner, shift).to(sigmas), ends[1:]])


def together(guidance: Guidance) -> list[Kind]:
    """The evaluations of a step that are of both modalities: those that the video needs.

    What the audio needs beside them (its own guidance, where the video has none) it evaluates alone, against what one
    of these has kept of the video. With the bridge on in none of them there would be nothing: then it is all.
    """
    needed = of_video(guidance).needed()
    return needed if any(bridge for _, bridge in needed) else guidance.needed()


def of_video(guidance: Guidance) -> Guidance:
    """That of the video, which the audio follows."""
    return Guidance(guidance.text, guidance.bridge)


def shown(guidance: Guidance) -> Kind:
    """Which of the evaluations together a teacher is asked for: with text, if there is one."""
    return next(kind for kind in reversed(together(guidance)) if kind[1])


def apart(guidance: Guidance) -> Guidance:
    """That of the audio's own steps."""
    return Guidance(guidance.audio, guidance.bridge)


def counts(
    plan: GuidancePlan, steps: int, audio_steps: int, first: int = 0, taught: Container[int] = ()
) -> tuple[int, int]:
    """How many evaluations a run of Euler's makes from a step on: of both modalities, and of the audio alone.

    taught: steps in which a teacher (mova/model/teacher.py) is asked, once; there all audio steps are alone.
    """
    if audio_steps == 1:
        return plan.evaluations(steps, first), 0
    both = alone = 0
    for step in range(first, steps):
        guidance = plan.at(step, steps)
        mine, own = len(together(guidance)), len(apart(guidance).needed())
        both += mine
        alone += audio_steps * own if step in taught else len(guidance.needed()) - mine + (audio_steps - 1) * own
    return both, alone
