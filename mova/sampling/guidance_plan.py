"""Guidance that changes along a run: where in the schedule it counts, and scales for single steps.

Evaluations that nobody needs are not made: ordinary guidance over half of the steps saves a quarter of a run's.
"""

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..errors import MovaError
from ..shorten import short
from .guidance import Guidance

Span = tuple[
    float, float
]  # shares of the steps, 0 to 1: a step counts if it begins at the start or later, before the end
WHOLE: Span = (0.0, 1.0)
LONGEST = 1000  # of a list


@dataclass(frozen=True)
class Spans:
    """Where each guidance counts; elsewhere its scale is 1. audio: None follows the text's. per_step: scales of the
    text in the first steps, the last of them in all further ones; they take the place of Guidance.text.
    """

    text: Span = WHOLE
    audio: Span | None = None
    bridge: Span = WHOLE
    per_step: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, span in (("text", self.text), ("audio", self.audio or WHOLE), ("bridge", self.bridge)):
            if not 0 <= span[0] <= span[1] <= 1:  # false for NaN too
                raise MovaError(
                    f"The {name} guidance's range is {short(100 * span[0])} to {short(100 * span[1])} percent of the "
                    "steps; it must be from 0 to 100, the start not behind the end."
                )
        for scale in self.per_step:
            Guidance(scale)  # raises


@dataclass(frozen=True)
class GuidancePlan:
    """The guidance of each step of a run."""

    guidance: Guidance
    spans: Spans = field(default_factory=Spans)

    def at(self, step: int, steps: int) -> Guidance:
        """Of a step, 0-based."""
        given, spans, share = self.guidance, self.spans, step / steps
        text = spans.per_step[min(step, len(spans.per_step) - 1)] if spans.per_step else given.text
        audio = text if given.audio_text is None else given.audio_text
        text = text if holds(spans.text, share) else 1.0
        audio = audio if holds(spans.audio or spans.text, share) else 1.0
        bridge = given.bridge if holds(spans.bridge, share) else 1.0
        return replace(given, text=text, bridge=bridge, audio_text=None if audio == text else audio)

    def notice(self, steps: int) -> str | None:
        """What to tell of a list of scales that is longer than the run."""
        given = len(self.spans.per_step)
        if not 0 < steps < given:
            return None
        more = f"the last {given - steps} do not count" if given - steps > 1 else "the last does not count"
        return f"The guidance per step has {given} values, and the run {steps} step(s): {more}."

    def evaluations(self, steps: int, first: int = 0) -> int:
        """How many a run of Euler's makes from a step on."""
        return sum(len(self.at(step, steps).needed()) for step in range(first, steps))


def holds(span: Span, share: float) -> bool:
    return span[0] <= share < span[1]


def step_of(sigma: float, sigmas: Tensor) -> int:
    """The step of a run's schedule [steps + 1] that an evaluation at this sigma belongs to."""
    reached = int((sigmas[:-1] >= sigma * (1 - 1e-5)).sum())  # float32 on its way through timesteps
    return max(0, reached - 1)


def per_step(text: str) -> tuple[float, ...]:
    """Scales as they are written: "6, 4, 1". Raises MovaError for anything else."""
    try:
        found = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        found = (math.nan,)
    if len(found) > LONGEST:
        raise MovaError(f"The guidance per step has {len(found)} values; give one for each step, at most {LONGEST}.")
    if not all(map(math.isfinite, found)):
        raise MovaError(f"The guidance per step is {short(text)}; give numbers with commas between, such as 6, 4, 1.")
    return found
