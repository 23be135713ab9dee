"""Schedule, guidance, and the sampler for both experts."""

from comfy_api.latest import io

from ..mova.sampling import schedule
from ..mova.sampling.guidance import Guidance
from ..mova.sampling.guidance_plan import GuidancePlan
from .guidance import GUIDANCE_TIP, GuidanceSchedule, spans_of
from .host.checks import check_conditioning
from .host.experts import check_expert
from .host.guider import MovaGuider
from .host.settings import Settings
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
DENOISE_TIP = "1 starts from pure noise; less keeps more of the given latent."


def guidance_inputs() -> list:
    """The inputs that make up a Guidance beside cfg."""
    return [
        io.Float.Input("bridge_cfg", default=1.0, min=0.0, max=100.0, step=0.1, tooltip=BRIDGE_CFG_TIP, optional=True),
        io.Float.Input(
            "audio_cfg",
            default=SAME_AS_CFG,
            min=-1.0,
            max=100.0,
            step=0.1,
            tooltip=AUDIO_CFG_TIP,
            optional=True,
            advanced=True,
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
                GuidanceSchedule.Input("guidance", optional=True, tooltip=GUIDANCE_TIP),
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
        guidance=None,
    ):
        check_expert(model, "model")
        settings = Settings(audio_shift_ratio, a2v_scale, v2a_scale)
        settings.check()
        for text, entries in (*positive, *negative):
            check_conditioning(text, entries, model.model.mova_config)
        plan = GuidancePlan(guidance_of(cfg, bridge_cfg, audio_cfg), spans_of(guidance))
        return io.NodeOutput(MovaGuider(model, positive, negative, plan, settings))
