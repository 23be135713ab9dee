"""Progress and a picture of what is being made, for each step."""

import logging
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.utils
import latent_preview
from torch import Tensor

from ...mova.errors import first_line
from .accessory import harmless

# (step that is done, 0-based; denoised latent; noisy one; steps of this stage), as the host's samplers call it: with
# latents packed to [B, 1, N] up to v0.29, nested from v0.30 on.
Callback = Callable[[int, Tensor, Tensor, int], None]


class Previews:
    """Pictures of a video latent: the host's tiny VAE if it is chosen and works, else its colours of latents."""

    def __init__(self, device: Any) -> None:
        latents = comfy.latent_formats.Wan21()
        self.colours = latent_preview.Latent2RGBPreviewer(latents.latent_rgb_factors, latents.latent_rgb_factors_bias)
        self.previewer: Any = None  # None: the user wants no previews
        try:
            self.previewer = latent_preview.get_previewer(device, latents)
        except Exception as error:  # the file of the tiny VAE can be damaged in any way
            self.do_without(error)

    def picture(self, video: Tensor) -> Any:
        """What the host's progress bar takes as a preview, of the first frame of [B, 16, T, H, W]; or None."""
        if self.previewer is None:
            return None
        try:
            return self.previewer.decode_latent_to_preview_image("JPEG", video)
        except Exception as error:  # of another model, or memory has run out
            self.do_without(error)
            return self.picture(video)

    def do_without(self, error: Exception) -> None:
        """Go on with the colours. Raises the error if it is theirs."""
        if self.previewer is self.colours:
            raise error
        logging.warning(
            f"[MOVA] The tiny VAE for previews (vae_approx/{comfy.latent_formats.Wan21().taesd_decoder_name}) does not "
            f"work ({type(error).__name__}: {first_line(error)}), so they show the latent's colours; download it again."
        )
        self.previewer = self.colours


def callbacks(model: Any, steps: list[int], told: Callable[[int], None]) -> list[Callback]:
    """One callback for each stage, that together fill one progress bar; `told` hears how many steps are done.

    The preview moves through the clip: it shows a later frame at each step.
    """
    total = sum(steps)
    bar = comfy.utils.ProgressBar(total)
    previews = Previews(model.load_device)

    def report(step: int, x0: Tensor) -> None:
        video = model.model.latent_format.video_of(x0)
        step = min(step, total - 1)  # some samplers report the end as a step of its own
        frame = step * video.shape[2] // total
        bar.update_absolute(step + 1, total, previews.picture(video[:1, :, frame : frame + 1]))
        told(step + 1)

    shown = harmless(report, "A preview of MOVA Joint Sampler")
    return [after(shown, sum(steps[:stage])) for stage in range(len(steps))]


def after(report: Callable[[int, Tensor], None], done: int) -> Callback:
    """The callback of a stage that comes after `done` steps."""
    return lambda step, x0, x, _: report(done + step, x0)
