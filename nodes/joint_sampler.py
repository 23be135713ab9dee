"""The sampler for both experts, which keeps what it has done until the clip is saved."""

from itertools import accumulate, pairwise
from typing import Any

import comfy.sample
import comfy.samplers
from comfy_api.latest import io
from torch import Tensor

from ..mova import MovaError
from ..mova.checkpoint.prism import BOUNDARY
from ..mova.model.presets import DEFAULT
from ..mova.sampling import schedule
from ..mova.sampling.audio_steps import MOST
from ..mova.sampling.guidance_plan import GuidancePlan
from ..mova.shorten import short
from .guidance import GUIDANCE_TIP, GuidanceSchedule, spans_of
from .host import kept_runs, notice
from .host.audio_steps import with_audio_steps
from .host.audio_teacher import teacher_of
from .host.beginning import check_falling
from .host.checks import check_finite, check_run, latent_parts, nested_masks
from .host.experts import check_experts
from .host.identity import identity
from .host.kernels import OPTIONS, Options
from .host.nested import AudioVideoLatent
from .host.run_line import RunLine, memory_line
from .host.settings import Settings
from .host.step_by_step import EULER
from .host.two_experts import Stage, sample
from .inputs import cfg_input, shift_input, steps_input
from .sampling import CFG_TIP, DENOISE_TIP, SAME_AS_CFG, guidance_inputs, guidance_of, scale_inputs

SIGMAS_TIP = (
    "The video's noise levels, in place of steps and denoise: for a LoRA that was distilled to a fixed list. "
    "audio_shift / video_shift still sets the audio's against them."
)
AUDIO_SHIFT_TIP = "Less than the video's shift lets the audio take shape before the video."
ALONE = "No low-noise expert is connected: the high-noise expert does all steps."
SOUNDING = ["video with sound", "talking", "lip sync", "dub", "foley", "sound"]  # what people look for
RESUME_TIP = (
    "Go on with the run of these inputs that was stopped, or whose clip could not be made: it is kept in the output "
    "folder (mova_runs) until the clip is saved. Samplers with memory of earlier steps begin anew."
)


def shift_ratio(video_shift: float, audio_shift: float) -> float:
    """The audio's shift relative to the video's. Raises MovaError for shifts that make no sense."""
    for shift in (video_shift, audio_shift):
        schedule.sigmas(1, shift)  # raises
    return audio_shift / video_shift


def check_seed(seed: int) -> None:
    """Raise MovaError for what seeds no generator; over a link it may be anything."""
    if not 0 <= seed < 2**64:  # false for NaN too
        raise MovaError(f"seed is {short(seed)}; it must be from 0 to {2**64 - 1}.")


def stages_of(model_high: Any, model_low: Any, sigmas: Tensor, boundary: float) -> list[Stage]:
    """What each expert does; without a low-noise expert the high-noise one does it all. No stage is empty."""
    switch = len(sigmas) - 1 if model_low is None else schedule.low_noise_start(sigmas, boundary)
    stages = [Stage(model_high, sigmas[: switch + 1]), Stage(model_low, sigmas[switch:])]
    return [stage for stage in stages if len(stage.sigmas) > 1]


def sound_is_kept(latent: dict[str, Any]) -> bool:
    """Whether no part of the sound is to be made."""
    masks = nested_masks(latent)
    return masks is not None and not masks[1].any()


def taught_steps(stages: list[Stage]) -> list[int]:
    """The steps of the experts that have a teacher of the audio."""
    ends = [0, *accumulate(len(stage.sigmas) - 1 for stage in stages)]
    return [
        step
        for stage, (first, end) in zip(stages, pairwise(ends), strict=True)
        if teacher_of(stage.model.model_options) is not None
        for step in range(first, end)
    ]


class MOVAJointSampler(io.ComfyNode):
    """The whole denoising: high-noise expert, then low-noise expert."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAJointSampler",
            display_name="MOVA Joint Sampler",
            category="MOVA",
            description="Makes video and audio together; the low-noise expert takes over at the boundary.",
            search_aliases=["mova sampler", "video and audio", "ksampler mova", "two experts", *SOUNDING],
            inputs=[
                io.Model.Input("model_high", tooltip="The high-noise expert."),
                io.Conditioning.Input("positive", tooltip="From MOVA Conditioning."),
                io.Conditioning.Input("negative", tooltip="From MOVA Conditioning."),
                io.Latent.Input("latent", tooltip="An audio-video latent. Noise masks keep what is masked with 0."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed, another clip.",
                ),
                steps_input("Of both experts together; the release uses 50."),
                cfg_input(CFG_TIP),
                shift_input("video_shift", "Above 1: more steps at high noise; the release uses 5.", advanced=True),
                shift_input("audio_shift", AUDIO_SHIFT_TIP, advanced=True),
                io.Float.Input(
                    "boundary",
                    default=DEFAULT.boundary,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The video's noise level where the low-noise expert takes over; the release uses 0.9.",
                    advanced=True,
                ),
                io.Model.Input(  # shown beside model_high: web/page.js
                    "model_low",
                    optional=True,
                    tooltip="The low-noise expert. Without it the high-noise expert does all steps.",
                ),
                io.Noise.Input("noise", optional=True, tooltip="Given noise, in place of the seed."),
                *guidance_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip=DENOISE_TIP,
                    optional=True,
                    advanced=True,
                ),
                *scale_inputs(),
                io.Sampler.Input(
                    "sampler",
                    optional=True,
                    tooltip="Default: Euler, the release's. Any sampler of KSampler Select works. Those without memory "
                    "of earlier steps (euler, heun, dpm_2) pass the boundary exactly; those with memory (dpmpp_2m, "
                    "uni_pc, res_multistep) begin anew there.",
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip=SIGMAS_TIP),
                io.Int.Input(
                    "audio_steps",
                    default=1,
                    min=1,
                    max=MOST,
                    optional=True,
                    advanced=True,
                    tooltip="Steps of the audio in each step, for runs of few steps (distilled LoRAs). All but "
                    "the first are taken by the audio tower alone, at little cost. 1: as the video. Needs Euler.",
                ),
                GuidanceSchedule.Input("guidance", optional=True, tooltip=GUIDANCE_TIP),
                io.Boolean.Input("resume", default=False, optional=True, advanced=True, tooltip=RESUME_TIP),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls,
        model_high,
        positive,
        negative,
        latent,
        seed: int,
        steps: int,
        cfg: float,
        video_shift: float,
        audio_shift: float,
        boundary: float,
        model_low=None,
        noise=None,
        bridge_cfg: float = 1.0,
        audio_cfg: float = SAME_AS_CFG,
        denoise: float = 1.0,
        a2v_scale: float = 1.0,
        v2a_scale: float = 1.0,
        sampler=None,
        sigmas=None,
        resume: bool = False,
        guidance=None,
        audio_steps: int = 1,
    ):
        check_experts(model_high, model_low)
        plan = GuidancePlan(guidance_of(cfg, bridge_cfg, audio_cfg), spans_of(guidance))
        settings = Settings(shift_ratio(video_shift, audio_shift), a2v_scale, v2a_scale)
        settings.check()
        check_finite(boundary, "boundary")
        check_seed(seed)
        if sigmas is None:
            sigmas = schedule.sigmas(steps, video_shift, denoise)
        else:
            check_falling(sigmas)
        check_run(latent, [*positive, *negative], model_high.model.mova_config)
        if model_high.model.has_both:
            if boundary != BOUNDARY:
                notice.show(f"model_high holds both experts and changes at {BOUNDARY}; boundary is not used.")
        elif model_low is None:
            notice.show(ALONE)
        if noise is None:
            noise = comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))
        else:
            noise = noise.generate_noise(latent)
        sampler = comfy.samplers.sampler_object("euler") if sampler is None else sampler
        fp8 = model_high.model_options.get("transformer_options", {}).get(OPTIONS, Options()).audio_memory == "fp8"
        if audio_steps > 1 and sound_is_kept(latent):
            notice.show("The latent keeps its sound, so that audio_steps counts as 1.")
            audio_steps = 1
        sampler = with_audio_steps(sampler, audio_steps, video_shift, latent["samples"], fp8, EULER)
        stages = stages_of(model_high, model_low, sigmas, boundary)
        given = {"latent": latent["samples"], "noise": noise, "masks": latent.get("noise_mask")}
        given |= {"positive": positive, "negative": negative}
        said = identity(stages, given, seed, sampler, plan, settings)
        prompt = (cls.hidden and cls.hidden.prompt) or {}  # hidden is None when another program calls the node
        keeper = kept_runs.keeper_of(said, len(sigmas) - 1)
        done = kept_runs.run_to_go_on_with(keeper) if resume else None
        if done is not None and done.finished:
            notice.show_line("Nothing was left to do of this run.")
            made = {**latent, "samples": AudioVideoLatent([done.latents["video"], done.latents["audio"]])}
        else:
            memory = memory_line(model_high, latent_parts(latent))
            begun = 0 if done is None else done.step
            line = RunLine(len(sigmas) - 1, plan, sampler, memory, begun, audio_steps, taught_steps(stages))
            run = (seed, plan, sampler, settings, keeper, done, line.step)
            made = sample(stages, positive, negative, latent, noise, *run)
        kept_runs.keep_finished(keeper, made, prompt)
        return io.NodeOutput(made)
