"""Progress and a picture of what is being made, for each step."""

from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.utils
import latent_preview
from torch import Tensor

# (step that is done, 0-based; denoised packed latent; noisy one; steps of this stage), as the host's samplers call it.
Callback = Callable[[int, Tensor, Tensor, int], None]


def callbacks(model: Any, steps: list[int]) -> list[Callback]:
    """One callback for each stage, that together fill one progress bar.

    The preview (the host's: latent to RGB, or its TAE) moves through the clip: it shows a later frame at each step.
    """
    total = sum(steps)
    bar = comfy.utils.ProgressBar(total)
    previewer = latent_preview.get_previewer(model.load_device, comfy.latent_formats.Wan21())

    def report(step: int, x0: Tensor) -> None:
        picture = None
        if previewer is not None:
            video = model.model.latent_format.video_of(x0)
            frame = step * video.shape[2] // total
            picture = previewer.decode_latent_to_preview_image("JPEG", video[:1, :, frame : frame + 1])
        bar.update_absolute(step + 1, total, picture)

    return [after(report, sum(steps[:stage])) for stage in range(len(steps))]


def after(report: Callable[[int, Tensor], None], done: int) -> Callback:
    """The callback of a stage that comes after `done` steps."""
    return lambda step, x0, x, _: report(done + step, x0)
