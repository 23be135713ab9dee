"""MOVA's guidance as a guider of the host: text, the bridge, and the audio's text apart."""

import math
from dataclasses import replace
from typing import Any

import comfy.samplers
import comfy.utils
import node_helpers
import torch
from torch import Tensor

from ...mova.sampling.audio_steps import apart, of_video, shown, together
from ...mova.sampling.guidance import Guidance, Kind, guided
from ...mova.sampling.guidance_plan import GuidancePlan, Spans, step_of
from . import notice
from .audio_steps import KEY, Memories
from .beginning import check_beginning, check_schedule
from .checks import check_given_noise, check_run, unbound
from .nested import AudioVideoLatent
from .settings import Settings


def is_ordinary(guidance: Guidance) -> bool:
    """Whether the host's own guidance does it."""
    return guidance.bridge == 1 and guidance.audio == guidance.text


# Which of the host's conditionings an evaluation (with text, with bridge) is made with.
CONDITIONINGS = {(False, False): "unbridged", (False, True): "negative", (True, True): "positive"}


class MovaGuider(comfy.samplers.CFGGuider):
    """Ordinary guidance is left to the host, so that what is plugged into it keeps working.

    Of the other kinds a model's sampler_post_cfg_functions get the result, as on the host. What changes the outputs
    before they are mixed, or mixes them itself (sampler_pre_cfg_function, sampler_cfg_function), knows of two outputs
    and one scale only: it is left out, with a notice.
    """

    def __init__(
        self,
        model: Any,
        positive: list,
        negative: list,
        plan: GuidancePlan,
        settings: Settings,
        sigmas: Tensor | None = None,
    ) -> None:
        """sigmas: of the whole run, if it is more than what this guider samples."""
        super().__init__(model)
        self.plan, self.given_sigmas = plan, sigmas
        self.sigmas = sigmas  # of the run at work; a guider may be given to several
        guidance = plan.guidance
        self.ordinary = is_ordinary(guidance)
        self.audio_shift_ratio = settings.audio_shift_ratio
        self.latent_shapes: list = []
        self.given = [*positive, *negative]
        said = settings.entries()
        positive, negative = (node_helpers.conditioning_set_values(given, said) for given in (positive, negative))
        conds = {"positive": positive, "negative": negative}
        if guidance.bridge != 1:
            off = replace(settings, a2v_scale=0.0, v2a_scale=0.0).entries()
            conds["unbridged"] = node_helpers.conditioning_set_values(negative, {**off, "prompt_type": "negative"})
        self.inner_set_conds(conds)
        self.set_cfg(max((guidance.text, *plan.spans.per_step)))  # of a step: predict_noise

    def sample(
        self,
        noise: Any,
        latent_image: Any,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Any = None,
        callback: Any = None,
        **others: Any,
    ) -> Any:
        """As the host's, if what it is given fits together: the host would load the weights first."""
        latent = {"samples": latent_image, "noise_mask": denoise_mask}
        check_run(latent, self.given, self.model_patcher.model.mova_config)
        check_given_noise(noise, latent_image)
        check_schedule(sigmas)
        check_beginning(noise, denoise_mask, sigmas)
        self.sigmas = sigmas if self.given_sigmas is None else self.given_sigmas
        if told := self.plan.notice(len(self.sigmas) - 1):
            notice.show(told)
        options = self.model_options
        if not self.ordinary and (options.get("sampler_pre_cfg_function") or "sampler_cfg_function" in options):
            notice.show(
                "With bridge_cfg or audio_cfg, what is plugged into the model to change its cfg has no effect, unless "
                "it works on the result of guidance."
            )
        # The sampler's audio is weaker by the ratio: mova/sampling/audio_shift.py.
        made = super().sample(
            noise,
            self.scaled(latent_image, 1 / self.audio_shift_ratio),
            sampler,
            sigmas,
            denoise_mask=denoise_mask,
            callback=callback and self.reporting(callback),
            **others,
        )
        return self.scaled(made, self.audio_shift_ratio)

    def scaled(self, latent: Any, factor: float) -> Any:
        """An audio-video latent with its audio times the factor; also a packed one, [B, 1, N]."""
        if factor == 1:
            return latent
        if getattr(latent, "is_nested", False):
            video, audio = unbound(latent)
            return AudioVideoLatent([video, audio * factor])
        start = latent.shape[2] - math.prod(self.latent_shapes[1][1:])
        return torch.cat([latent[:, :, :start], latent[:, :, start:] * factor], dim=2)

    def reporting(self, callback: Any) -> Any:
        """The callback, which gets latents in the model's scale."""
        factor = self.audio_shift_ratio
        return lambda step, x0, x, steps: callback(step, self.scaled(x0, factor), self.scaled(x, factor), steps)

    def inner_sample(self, *args: Any, latent_shapes: list | None = None, **kwargs: Any) -> Tensor:
        """As the host's, noting how video and audio are packed."""
        self.latent_shapes = latent_shapes or []
        return super().inner_sample(*args, latent_shapes=latent_shapes, **kwargs)

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The denoised latent [B, 1, N]: guidance mixes it as it mixes velocities, since the weights add up to 1."""
        options = model_options or {}
        guidance = self.plan.guidance
        if self.plan.spans != Spans():  # else nothing waits for the device
            assert self.sigmas is not None
            guidance = self.plan.at(step_of(float(timestep.flatten()[0]), self.sigmas), len(self.sigmas) - 1)
        memories: Memories | None = options.get("transformer_options", {}).get(KEY)
        if memories is not None and memories.teacher is not None:
            conds = self.conds[CONDITIONINGS[shown(guidance)]]
            memories.pupils = [cond["uuid"] for cond in conds]
            if memories.teaching:
                with memories.teacher.at_work(self.model_patcher, x) as teacher:
                    comfy.samplers.calc_cond_batch(teacher, [conds], x, timestep, options)
                return x
            if memories.recording:
                guidance = of_video(guidance)
        if is_ordinary(guidance):
            self.set_cfg(guidance.text)
            return super().predict_noise(x, timestep, options, seed)
        if memories is not None and not memories.recording:
            guidance = apart(guidance)
        kinds = guidance.needed()
        both = kinds if memories is None or not memories.recording else together(guidance)
        found = self.evaluated([kind for kind in kinds if kind in both], x, timestep, options)
        if memories is not None and len(found) < len(kinds):
            memories.recording = False
            found |= self.evaluated([kind for kind in kinds if kind not in both], x, timestep, options)
        outputs = [found[kind] for kind in kinds]
        parts = {kind: tuple(comfy.utils.unpack_latents(found[kind], self.latent_shapes)) for kind in kinds}
        mixed = comfy.utils.pack_latents(guided(lambda text, bridge: parts[text, bridge], guidance))[0].to(x)
        return self.after_guidance(mixed, outputs[-2:], x, timestep, options)

    def evaluated(self, kinds: list[Kind], x: Tensor, timestep: Tensor, options: dict[str, Any]) -> dict[Kind, Tensor]:
        """Denoised latents [B, 1, N] by kind of evaluation."""
        conds = [self.conds[CONDITIONINGS[kind]] for kind in kinds]
        outputs = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        return dict(zip(kinds, outputs, strict=True))

    def after_guidance(
        self, mixed: Tensor, outputs: list[Tensor], x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """What the functions make of it that the host calls after guidance. The last output is the one with text."""
        for function in options.get("sampler_post_cfg_function", []):
            mixed = function(
                {
                    "denoised": mixed,
                    "cond": self.conds["positive"],
                    "uncond": self.conds["negative"],
                    "cond_scale": self.cfg,
                    "model": self.inner_model,
                    "cond_denoised": outputs[-1],
                    "uncond_denoised": outputs[0],
                    "sigma": timestep,
                    "model_options": options,
                    "input": x,
                }
            )
        return mixed
