"""Schedule, guidance, and the sampler for both experts."""

from itertools import pairwise
from typing import Any

import comfy.sample
import comfy.samplers
from comfy_api.latest import io
from torch import Tensor

from ..mova import MovaError
from ..mova.model.presets import DEFAULT
from ..mova.sampling import schedule
from ..mova.sampling.guidance import Guidance
from ..mova.shorten import short
from .host import notice
from .host.checks import check_conditioning, check_finite, check_run
from .host.experts import check_expert, check_experts
from .host.guider import MovaGuider
from .host.settings import Settings
from .host.two_experts import Stage, sample
from .inputs import cfg_input, shift_input, steps_input

SAME_AS_CFG = -1.0
CFG_TIP = "How strongly the text guides; 5 is the release's, 1 turns guidance off and halves the time."
BRIDGE_CFG_TIP = (
    "Guidance of the exchange between video and audio: above 1 tightens lip sync, at the cost of a third evaluation in "
    "each step (none if it equals cfg). 1 is ordinary guidance."
)
AUDIO_CFG_TIP = "Text guidance of the audio, if it is to differ from cfg; -1: the same as cfg."
RATIO_TIP = (
    "The audio's shift divided by the video's (that of the sigmas); below 1 the audio takes shape before the video. "
    "Give both experts the same."
)
A2V_TIP = "Weight of what the video hears of the audio."
V2A_TIP = "Weight of what the audio sees of the video."
SIGMAS_TIP = (
    "The video's noise levels, in place of steps and denoise: for a LoRA that was distilled to a fixed list. "
    "audio_shift / video_shift still sets the audio's against them."
)
DENOISE_TIP = "1 starts from pure noise; less keeps more of the given latent."


def guidance_inputs() -> list:
    """The inputs that make up a Guidance beside cfg."""
    return [
        io.Float.Input("bridge_cfg", default=1.0, min=0.0, max=100.0, step=0.1, tooltip=BRIDGE_CFG_TIP, optional=True),
        io.Float.Input(
            "audio_cfg", default=SAME_AS_CFG, min=-1.0, max=100.0, step=0.1, tooltip=AUDIO_CFG_TIP, optional=True
        ),
    ]


def scale_inputs() -> list:
    """The inputs that weigh what the bridge brings."""
    scale = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05, "optional": True, "advanced": True}
    return [
        io.Float.Input("a2v_scale", tooltip=A2V_TIP, **scale),
        io.Float.Input("v2a_scale", tooltip=V2A_TIP, **scale),
    ]


def guidance_of(cfg: float, bridge_cfg: float, audio_cfg: float) -> Guidance:
    return Guidance(cfg, bridge_cfg, None if audio_cfg == SAME_AS_CFG else audio_cfg)


def shift_ratio(video_shift: float, audio_shift: float) -> float:
    """The audio's shift relative to the video's. Raises MovaError for shifts that make no sense."""
    for shift in (video_shift, audio_shift):
        schedule.sigmas(1, shift)  # raises
    return audio_shift / video_shift


def check_sigmas(sigmas: Tensor) -> None:
    """Raise MovaError unless SIGMAS go down from 1 or less to 0."""
    values = [float(sigma) for sigma in sigmas]
    falling = all(before > after for before, after in pairwise(values))
    if len(values) < 2 or not falling or values[0] > 1 or values[-1] != 0:  # NaN is not falling
        found = short([round(value, 4) for value in values])
        raise MovaError(
            f"The sigmas are {found}; they must fall step by step from 1 or less to 0, as those of MOVA Scheduler do."
        )


def stages_of(model_high: Any, model_low: Any, sigmas: Tensor, boundary: float) -> list[Stage]:
    """What each expert does; without a low-noise expert the high-noise one does it all. No stage is empty."""
    switch = len(sigmas) - 1 if model_low is None else schedule.low_noise_start(sigmas, boundary)
    stages = [Stage(model_high, sigmas[: switch + 1]), Stage(model_low, sigmas[switch:])]
    return [stage for stage in stages if len(stage.sigmas) > 1]


class MOVAScheduler(io.ComfyNode):
    """The released schedule as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAScheduler",
            display_name="MOVA Scheduler",
            category="MOVA",
            description="The noise levels of MOVA's own schedule, for SamplerCustomAdvanced.",
            search_aliases=["mova sigmas", "flow match scheduler", "shift"],
            inputs=[
                steps_input("The release uses 50."),
                shift_input("shift", "Above 1: more steps at high noise."),
                io.Float.Input("denoise", default=1.0, min=0.01, max=1.0, step=0.01, tooltip=DENOISE_TIP),
            ],
            outputs=[io.Sigmas.Output()],
        )

    @classmethod
    def execute(cls, steps: int, shift: float, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(schedule.sigmas(steps, shift, denoise))


class MOVAGuider(io.ComfyNode):
    """Guidance for one expert in SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAGuider",
            display_name="MOVA Guider",
            category="MOVA",
            description="Guidance by text and by the exchange between video and audio, for SamplerCustomAdvanced.",
            search_aliases=["mova cfg", "dual guidance", "bridge guidance", "lip sync"],
            inputs=[
                io.Model.Input("model", tooltip="One expert."),
                io.Conditioning.Input("positive", tooltip="From MOVA Conditioning."),
                io.Conditioning.Input("negative", tooltip="From MOVA Conditioning."),
                cfg_input(CFG_TIP),
                *guidance_inputs(),
                io.Float.Input(
                    "audio_shift_ratio",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.05,
                    tooltip=RATIO_TIP,
                    optional=True,
                    advanced=True,
                ),
                *scale_inputs(),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        cfg: float,
        bridge_cfg: float = 1.0,
        audio_cfg: float = SAME_AS_CFG,
        audio_shift_ratio: float = 1.0,
        a2v_scale: float = 1.0,
        v2a_scale: float = 1.0,
    ):
        check_expert(model, "model")
        settings = Settings(audio_shift_ratio, a2v_scale, v2a_scale)
        settings.check()
        for text, entries in (*positive, *negative):
            check_conditioning(text, entries, model.model.mova_config)
        guidance = guidance_of(cfg, bridge_cfg, audio_cfg)
        return io.NodeOutput(MovaGuider(model, positive, negative, guidance, settings))


class MOVAJointSampler(io.ComfyNode):
    """The whole denoising: high-noise expert, then low-noise expert."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAJointSampler",
            display_name="MOVA Joint Sampler",
            category="MOVA",
            description="Makes video and audio together; the low-noise expert takes over at the boundary.",
            search_aliases=["mova sampler", "video and audio", "ksampler mova", "two experts"],
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
                shift_input("video_shift", "Above 1: more steps at high noise; the release uses 5."),
                shift_input("audio_shift", "Less than the video's shift lets the audio take shape before the video."),
                io.Float.Input(
                    "boundary",
                    default=DEFAULT.boundary,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The video's noise level where the low-noise expert takes over; the release uses 0.9.",
                ),
                io.Model.Input(
                    "model_low",
                    optional=True,
                    tooltip="The low-noise expert. Without it the high-noise expert does all steps.",
                ),
                io.Noise.Input("noise", optional=True, tooltip="Given noise, in place of the seed."),
                *guidance_inputs(),
                io.Float.Input(
                    "denoise", default=1.0, min=0.01, max=1.0, step=0.01, tooltip=DENOISE_TIP, optional=True
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
            ],
            outputs=[io.Latent.Output(display_name="latent")],
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
    ):
        check_experts(model_high, model_low)
        guidance = guidance_of(cfg, bridge_cfg, audio_cfg)
        settings = Settings(shift_ratio(video_shift, audio_shift), a2v_scale, v2a_scale)
        settings.check()
        check_finite(boundary, "boundary")
        if sigmas is None:
            sigmas = schedule.sigmas(steps, video_shift, denoise)
        else:
            check_sigmas(sigmas)
        check_run(latent, [*positive, *negative], model_high.model.mova_config)
        if model_low is None:
            notice.show("No low-noise expert is connected: the high-noise expert does all steps.")
        made = sample(
            stages_of(model_high, model_low, sigmas, boundary),
            positive,
            negative,
            latent,
            comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))
            if noise is None
            else noise.generate_noise(latent),
            seed,
            guidance,
            comfy.samplers.sampler_object("euler") if sampler is None else sampler,
            settings,
        )
        return io.NodeOutput(made)
