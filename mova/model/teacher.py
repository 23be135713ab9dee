"""A teacher of the audio: the model without a LoRA, whose video the audio attends to in its own steps.

A LoRA that is distilled for few steps changes what the layers make of the picture; the audio tower was trained with
what the model makes of it without (FlashML-org/FreeVideo, docs/Prism.md). From a layer on the teacher computes the
layers anew, from the tokens that the run's own model has there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import MovaError
from ..shorten import short
from .config import BridgeConfig
from .joint import Layer, RunLayer


@dataclass(eq=False)
class Tokens:
    """A run_layer that keeps the tokens in front of a layer, of all rows of the batch, or of these: video
    [rows, tokens, dim] and audio [rows, L, dim].
    """

    layer: int
    run: RunLayer
    rows: Sequence[int] | None = None
    kept: tuple[Tensor, Tensor] | None = None

    def __call__(self, index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        if index == self.layer:
            rows = [*range(len(video))] if self.rows is None else [*self.rows]
            self.kept = video[rows], audio[rows]  # copies
        return self.run(index, layer, video, audio)

    def take(self) -> tuple[Tensor, Tensor] | None:
        """The tokens, which are then no more kept."""
        kept, self.kept = self.kept, None
        return kept


def check_first(first: int, bridge: BridgeConfig) -> None:
    """Raise MovaError unless the audio attends to the video in this layer or a later one."""
    last = max(bridge.layers)
    if not 0 <= first <= last:  # false for NaN too
        raise MovaError(
            f"The teacher is to begin with layer {short(first)}; it must be from 0 (all) to {last}, the last in which "
            "the sound sees the picture."
        )
