"""Schedule, guidance, and the sampler for both experts."""

import comfy.sample
import comfy.samplers
from comfy_api.latest import io

from ..mova import schedule
from ..mova.guidance import Guidance
from . import notice
from .checks import check_conditioning, check_expert, check_experts, check_finite, check_run, latent_parts
from .guider import MovaGuider
from .joint import Stage, sample

SAME_AS_CFG = -1.0
CFG_TIP = "How strongly the text guides; 5 is the release's, 1 turns guidance off and halves the time."
BRIDGE_CFG_TIP = (
    "Guidance of the exchange between video and audio: above 1 tightens lip sync, at the cost of a third evaluation in "
    "each step (none if it equals cfg). 1 is ordinary guidance."
)
AUDIO_CFG_TIP = "Text guidance of the audio, if it is to differ from cfg; -1: the same as cfg."
DENOISE_TIP = "1 starts from pure noise; less keeps more of the given latent."


def guidance_inputs() -> list:
    """The inputs that make up a Guidance beside cfg."""
    return [
        io.Float.Input("bridge_cfg", default=1.0, min=0.0, max=100.0, step=0.1, tooltip=BRIDGE_CFG_TIP, optional=True),
        io.Float.Input(
            "audio_cfg", default=SAME_AS_CFG, min=-1.0, max=100.0, step=0.1, tooltip=AUDIO_CFG_TIP, optional=True
        ),
    ]


def guidance_of(cfg: float, bridge_cfg: float, audio_cfg: float) -> Guidance:
    return Guidance(cfg, bridge_cfg, None if audio_cfg == SAME_AS_CFG else audio_cfg)


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
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="The release uses 50."),
                io.Float.Input(
                    "shift", default=5.0, min=0.01, max=100.0, step=0.1, tooltip="Above 1: more steps at high noise."
                ),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP),
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
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, tooltip=CFG_TIP),
                *guidance_inputs(),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(cls, model, positive, negative, cfg: float, bridge_cfg: float = 1.0, audio_cfg: float = SAME_AS_CFG):
        check_expert(model, "model")
        for text, entries in (*positive, *negative):
            check_conditioning(text, entries, model.model.mova_config)
        return io.NodeOutput(MovaGuider(model, positive, negative, guidance_of(cfg, bridge_cfg, audio_cfg)))


class MOVAJointSampler(io.ComfyNode):
    """The whole denoising: high-noise expert, then low-noise expert."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        scale = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05, "optional": True, "advanced": True}
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
                io.Int.Input(
                    "steps", default=50, min=1, max=1000, tooltip="Of both experts together; the release uses 50."
                ),
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1, tooltip=CFG_TIP),
                io.Float.Input(
                    "video_shift",
                    default=5.0,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    tooltip="Above 1: more steps at high noise; the release uses 5.",
                ),
                io.Float.Input(
                    "audio_shift",
                    default=5.0,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    tooltip="Less than the video's shift lets the audio take shape before the video.",
                ),
                io.Float.Input(
                    "boundary",
                    default=0.9,
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
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP, optional=True),
                io.Float.Input("a2v_scale", tooltip="Weight of what the video hears of the audio.", **scale),
                io.Float.Input("v2a_scale", tooltip="Weight of what the audio sees of the video.", **scale),
                io.Sampler.Input(
                    "sampler",
                    optional=True,
                    tooltip="Default: Euler, the release's. Any sampler of KSampler Select works. Those without memory "
                    "of earlier steps (euler, heun, dpm_2) pass the boundary exactly; those with memory (dpmpp_2m, "
                    "uni_pc, res_multistep) begin anew there.",
                ),
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
    ):
        check_experts(model_high, model_low)
        guidance = guidance_of(cfg, bridge_cfg, audio_cfg)
        for name, value in {"boundary": boundary, "a2v_scale": a2v_scale, "v2a_scale": v2a_scale}.items():
            check_finite(value, name)
        video_sigmas = schedule.sigmas(steps, video_shift, denoise)
        schedule.sigmas(steps, audio_shift, denoise)  # raises for a shift that makes no sense
        latent_parts(latent)
        check_run(latent, [*positive, *negative], model_high.model.mova_config)
        if model_low is None:
            notice.show("No low-noise expert is connected: the high-noise expert does all steps.")
        switch = steps if model_low is None else schedule.low_noise_start(video_sigmas, boundary)
        stages = [Stage(model_high, video_sigmas[: switch + 1]), Stage(model_low, video_sigmas[switch:])]
        made = sample(
            [stage for stage in stages if len(stage.sigmas) > 1],
            positive,
            negative,
            latent,
            comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))
            if noise is None
            else noise.generate_noise(latent),
            seed,
            guidance,
            comfy.samplers.sampler_object("euler") if sampler is None else sampler,
            {"audio_shift": audio_shift / video_shift, "a2v_scale": a2v_scale, "v2a_scale": v2a_scale},
        )
        return io.NodeOutput(made)
