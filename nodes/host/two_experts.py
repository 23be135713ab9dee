"""Sampling with both experts: the host's samplers, handed from one model to the other in the middle."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...mova import MovaError
from ...mova.clip.rescue import Keep, Run, no_keeping
from ...mova.sampling.guidance_plan import GuidancePlan
from . import step_by_step
from .checks import check_given_noise, latent_parts, nested_masks
from .guider import MovaGuider
from .nested import AudioVideoLatent
from .preview import callbacks
from .settings import Settings

PACKED = "packed"  # the name of what the sampler holds, in the file of a run
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

    def __init__(self, sampler: comfy.samplers.KSAMPLER, keep: Keep = no_keeping, x: Tensor | None = None) -> None:
        """x: packed [B, 1, N], in the model's scale, where a run that was stopped goes on."""
        self.sampler, self.keep, self.x = sampler, keep, x

    def stage(self, start: int = 0, skip: int = 0) -> comfy.samplers.KSAMPLER:
        """The sampler of a stage behind `start` steps of the run, of whose own steps `skip` are done."""
        run = functools.partial(self.run, start=start, skip=skip)
        return comfy.samplers.KSAMPLER(run, self.sampler.extra_options, self.sampler.inpaint_options)

    def run(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        start: int = 0,
        skip: int = 0,
        **kwargs: Any,
    ) -> Tensor:
        if self.x is not None:
            x, extra_args = self.x.to(x), {**extra_args, "seed": (extra_args["seed"] + 1) % SEEDS}
        sample, named = self.sampler.sampler_function, {"extra_args": extra_args, **kwargs}
        if not step_by_step.has_no_memory(self.sampler):
            self.x = sample(model, x, sigmas, **named)
            return self.x

        def state(done: int, x: Tensor) -> None:
            if start + done > 0:
                self.keep(start + done, {PACKED: x})

        self.x = step_by_step.run(sample, model, x, sigmas, skip, state, **named)
        return self.x


def sample(
    stages: list[Stage],
    positive: list,
    negative: list,
    latent: dict[str, Any],
    noise: AudioVideoLatent,
    seed: int,
    plan: GuidancePlan,
    sampler: comfy.samplers.KSAMPLER,
    settings: Settings,
    keep: Keep = no_keeping,
    done: Run | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Denoise an audio-video LATENT. `keep` is told what the sampler holds behind a step, `done` has been told so.

    `told` hears how many steps are done.
    """
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        raise MovaError("This sampler cannot be handed from one expert to the other; take one of KSampler Select.")
    parts, masks = latent_parts(latent), nested_masks(latent)
    check_given_noise(noise, latent["samples"])
    reports = callbacks(stages[0].model, [len(stage.sigmas) - 1 for stage in stages], told)
    handover = Handover(sampler, keep, None if done is None else done.latents[PACKED])
    result, start = latent["samples"], 0
    whole = torch.cat([stages[0].sigmas, *(stage.sigmas[1:] for stage in stages[1:])])
    for stage, report in zip(stages, reports, strict=True):
        first, start = start, start + len(stage.sigmas) - 1
        if done is not None and done.step >= start:
            continue
        skip = 0 if done is None else max(0, done.step - first)
        guider = MovaGuider(stage.model, positive, negative, plan, settings, whole)
        result = guider.sample(
            noise,
            latent["samples"],
            handover.stage(first, skip),
            stage.sigmas,
            denoise_mask=None if masks is None else AudioVideoLatent(masks),
            callback=report,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
    made = [part.to(comfy.model_management.intermediate_device()) for part in result.unbind()]
    if masks is not None:
        made = [with_given(given, new, mask) for given, new, mask in zip(parts, made, masks, strict=True)]
    return {**latent, "samples": AudioVideoLatent(made)}


def with_given(given: Tensor, new: Tensor, mask: Tensor) -> Tensor:
    """`new`, but bit for bit `given` where the mask is 0: the sampler keeps it only up to rounding."""
    mask = comfy.sampler_helpers.prepare_mask(mask.float(), given.shape, new.device)
    return torch.where(mask == 0, given.to(new), new)
