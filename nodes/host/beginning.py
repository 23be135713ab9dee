"""What a run begins with: its schedule, and the noise that the schedule asks for."""

from itertools import pairwise
from typing import Any

from torch import Tensor

from ...mova import MovaError
from ...mova.shorten import short
from .checks import unbound

ROUNDING = 1e-3  # of sigmas that other nodes compute


def check_falling(sigmas: Tensor) -> None:
    """Raise MovaError unless SIGMAS [steps + 1] go down from 1 or less to 0."""
    values = sigmas.tolist()
    falling = all(before > after for before, after in pairwise(values))
    if len(values) < 2 or not falling or values[0] > 1 or values[-1] != 0:  # NaN is not falling
        raise MovaError(
            f"The sigmas are {shown(values)}; they must fall step by step from 1 or less to 0, as those of MOVA "
            "Scheduler do."
        )


def shown(values: list[float]) -> str:
    return short([round(value, 4) for value in values])


def check_schedule(sigmas: Tensor) -> None:
    """Raise MovaError for SIGMAS [steps + 1] that are none of a flow from 1, all noise, to 0. They may rise."""
    values = sigmas.tolist()
    if not all(0 <= value <= 1 + ROUNDING for value in values):  # false for NaN too
        raise MovaError(
            f"The sigmas are {shown(values)}, which are no noise levels of MOVA's, from 1 to 0; take those of MOVA "
            "Scheduler."
        )
    if len(values) == 1 and values[0] > 1 - ROUNDING:
        raise MovaError(
            "The sigmas have no step, and begin where all is noise; give this sampler a step, or leave it out."
        )


def check_beginning(noise: Any, masks: Any, sigmas: Tensor) -> None:
    """Raise MovaError if the sound has no noise beside a picture that has some (MOVA Video Noise), and needs it.

    masks: the latent's noise masks, nested or not, or None.
    """
    video, audio = unbound(noise)
    if not len(sigmas) or audio.any() or not video.any():
        return
    parts = [] if masks is None else unbound(masks)
    if len(parts) > 1 and bool((parts[1] == 0).any()):
        raise MovaError(
            "The latent keeps its sound, and MOVA Video Noise has no noise for it, which the model expects to see; "
            "connect RandomNoise in its place."
        )
    if float(sigmas[0]) > 1 - ROUNDING:
        raise MovaError(
            "MOVA Video Noise leaves the sound as it is, and of that nothing is left at the first sigma, 1; begin "
            "lower, with the second output of SplitSigmas, or connect RandomNoise."
        )
