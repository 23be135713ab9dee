"""Guidance: how the velocities with and without text, and with and without the bridge, are combined."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import MovaError

Velocities = tuple[Tensor, Tensor]  # of video and audio

Kind = tuple[bool, bool]  # of an evaluation: text is the positive prompt, bridge is on
Evaluate = Callable[[bool, bool], Velocities]  # of a kind


@dataclass(frozen=True)
class Guidance:
    """Scales of the text and of the bridge, the text's apart for audio if given. All 1: the model as it is.

    The dual guidance of the MOVA paper (arXiv 2602.08794): with v(text, bridge),
    v = v(-, off) + bridge * (v(-, on) - v(-, off)) + text * (v(text, on) - v(-, on)).
    bridge = 1 is ordinary guidance (two evaluations), bridge = text needs two as well, others three.
    """

    text: float = 5.0
    bridge: float = 1.0
    audio_text: float | None = None

    def __post_init__(self) -> None:
        for name, scale in (("guidance", self.text), ("bridge guidance", self.bridge), ("audio guidance", self.audio)):
            if not (math.isfinite(scale) and scale >= 0):
                raise MovaError(f"The {name} is {scale}; it must be 0 or more (the release's is 5, 1 turns it off).")

    @property
    def audio(self) -> float:
        return self.text if self.audio_text is None else self.audio_text

    def needed(self) -> list[Kind]:
        """The (text, bridge) evaluations that have weight in either modality."""
        scales = (self.text, self.audio)
        weights = {
            (False, False): [1 - self.bridge],
            (False, True): [self.bridge - scale for scale in scales],
            (True, True): scales,
        }
        return [kind for kind, weight in weights.items() if any(weight)]


def guided(evaluate: Evaluate, guidance: Guidance) -> Velocities:
    """Evaluate what is needed, one after the other, and combine it for both modalities, in float32."""
    found = {kind: tuple(v.float() for v in evaluate(*kind)) for kind in guidance.needed()}
    # The weights of the evaluations add up to 1, so any one can be the base that the others' differences are added to.
    weights = {(False, True): (guidance.bridge - guidance.text, guidance.bridge - guidance.audio)}
    weights[True, True] = (guidance.text, guidance.audio)
    (_, base), *others = found.items()
    video, audio = base
    for kind, (other_video, other_audio) in others:
        video_weight, audio_weight = weights[kind]
        video = video + video_weight * (other_video - base[0])
        audio = audio + audio_weight * (other_audio - base[1])
    return video, audio
