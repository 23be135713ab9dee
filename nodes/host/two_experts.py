"""Sampling with both experts: the host's samplers, handed from one model to the other in the middle."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...mova import MovaError
from ...mova.sampling.guidance import Guidance
from .checks import check_given_noise, latent_parts, nested_masks
from .guider import MovaGuider
from .latent_format import AudioVideoLatent
from .preview import callbacks
from .settings import Settings

SEEDS = 2**64 - 1  # how many there are: on a processor the host adds 1 to a seed


@dataclass(frozen=True)
class Stage:
    """A stretch of the schedule, and the expert that does it."""

    model: Any  # ModelPatcher
    sigmas: Tensor


class Handover:
    """A sampler that starts where the stage before ended, with the noise and the masks of the whole run.

    Noise that the sampler adds itself is another in the second stage.
    """

    def __init__(self, sampler: comfy.samplers.KSAMPLER) -> None:
        self.sampler = sampler
        self.x: Tensor | None = None  # packed [B, 1, N], in the model's scale

    def stage(self) -> comfy.samplers.KSAMPLER:
        return comfy.samplers.KSAMPLER(self.run, self.sampler.extra_options, self.sampler.inpaint_options)

    def run(self, model: Any, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any], **kwargs: Any) -> Tensor:
        if self.x is not None:
            x, extra_args = self.x.to(x), {**extra_args, "seed": (extra_args["seed"] + 1) % SEEDS}
        self.x = self.sampler.sampler_function(model, x, sigmas, extra_args=extra_args, **kwargs)
        return self.x


def sample(
    stages: list[Stage],
    positive: list,
    negative: list,
    latent: dict[str, Any],
    noise: AudioVideoLatent,
    seed: int,
    guidance: Guidance,
    sampler: comfy.samplers.KSAMPLER,
    settings: Settings,
) -> dict[str, Any]:
    """Denoise an audio-video LATENT."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        raise MovaError("This sampler cannot be handed from one expert to the other; take one of KSampler Select.")
    parts, masks = latent_parts(latent), nested_masks(latent)
    check_given_noise(noise, latent["samples"])
    reports = callbacks(stages[0].model, [len(stage.sigmas) - 1 for stage in stages])
    handover, result = Handover(sampler), latent["samples"]
    for stage, report in zip(stages, reports, strict=True):
        guider = MovaGuider(stage.model, positive, negative, guidance, settings)
        result = guider.sample(
            noise,
            latent["samples"],
            handover.stage(),
            stage.sigmas,
            denoise_mask=None if masks is None else AudioVideoLatent(masks),
            callback=report,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
    made = [part.to(comfy.model_management.intermediate_device()) for part in result.unbind()]
    if masks is not None:
        made = [keep(given, new, mask) for given, new, mask in zip(parts, made, masks, strict=True)]
    return {**latent, "samples": AudioVideoLatent(made)}


def keep(given: Tensor, new: Tensor, mask: Tensor) -> Tensor:
    """`new`, but bit for bit `given` where the mask is 0: the sampler keeps it only up to rounding."""
    mask = comfy.sampler_helpers.prepare_mask(mask.float(), given.shape, new.device)
    return torch.where(mask == 0, given.to(new), new)
