"""Steps in which the model is not asked: its last velocities are used again where they are expected to change little.

How much a velocity changes for a change of its latent is taken from the last two evaluations, as EasyCache does
(arXiv 2507.02860), but for video and audio apart: the packed latent is nearly all video, and would decide for both.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor


class Choice(Enum):
    """What is done in a step."""

    COMPUTE = "computed"
    AUDIO = "audio alone computed"
    REUSE = "reused"


@dataclass
class Part:
    """One modality of one conditioning: what was seen and computed last, and how much change is expected since."""

    seen: Tensor | None = None  # latent of the last step
    latent: Tensor | None = None  # of the last evaluation
    velocity: Tensor | None = None
    rate: float | None = None  # change of the velocity for a change of the latent
    expected: float = 0.0  # relative change of the velocity since the last evaluation

    def move(self, latent: Tensor) -> float:
        """Go on to a step's latent; returns the change expected of the velocity since it was computed."""
        if self.rate is None or self.seen is None or self.velocity is None:
            self.seen = latent
            return float("inf")
        self.expected += self.rate * size(latent - self.seen) / size(self.velocity)
        self.seen = latent
        return self.expected

    def computed(self, latent: Tensor, velocity: Tensor) -> None:
        if self.latent is not None and self.velocity is not None:
            moved = size(latent - self.latent)
            self.rate = size(velocity - self.velocity) / moved if moved else None
        self.latent, self.velocity, self.expected = latent, velocity, 0.0


def size(tensor: Tensor) -> float:
    """Mean height; what waits for the device once."""
    return max(float(tensor.float().abs().mean()), 1e-12)


@dataclass
class StepCache:
    """Thresholds of relative change: up to the video's and the audio's, a step is not computed. 0: always.

    audio_alone: where the video may be reused and the audio not, the audio is computed alone.
    """

    video: float
    audio: float
    audio_alone: bool = False
    parts: dict[Hashable, tuple[Part, Part]] = field(default_factory=dict)
    step: tuple[float, Choice] | None = None  # the timestep at work, and what its first conditioning has decided
    counts: dict[Choice, int] = field(default_factory=lambda: dict.fromkeys(Choice, 0))

    def begin(self) -> None:
        """A run, or an expert's part of one, of which nothing is known."""
        self.parts.clear()
        self.step = None

    def choose(self, who: Hashable, timestep: float, video: Tensor, audio: Tensor) -> Choice:
        """What to do for a conditioning. The first in a step decides for all; one without a past is computed."""
        parts = self.parts.setdefault(who, (Part(), Part()))
        within = [part.move(latent) for part, latent in zip(parts, (video, audio), strict=True)]
        if self.step is None or self.step[0] != timestep:
            self.step = timestep, self.decide(*within)
            self.counts[self.step[1]] += 1
        known = parts[0].velocity is not None
        return self.step[1] if known else Choice.COMPUTE

    def decide(self, video: float, audio: float) -> Choice:
        if video >= self.video:
            return Choice.COMPUTE
        if audio < self.audio:
            return Choice.REUSE
        return Choice.AUDIO if self.audio_alone else Choice.COMPUTE

    def told(self) -> str:
        """In a line, what was done in how many steps."""
        steps, alone = sum(self.counts.values()), self.counts[Choice.AUDIO]
        line = f"Step cache: {self.counts[Choice.REUSE]} of {steps} steps reused"
        return line + (f", {alone} with the audio computed alone" if alone else "")
