"""Steps that are not computed, where picture and sound are both expected to change little."""

from typing import Any

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.sampling.step_cache import StepCache
from .host.checks import check_finite
from .host.experts import connected_experts
from .host.kernels import OPTIONS, Options
from .host.step_cache import with_step_cache


def threshold_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=10.0, step=0.01, tooltip=tooltip)


class MOVAStepCache(io.ComfyNode):
    """A step cache in which the sound votes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAStepCache",
            display_name="MOVA Step Cache",
            category="MOVA",
            description="Uses the last velocities again in steps where picture and sound are both expected to change "
            "little. Faster, and not exact; the sampler says how many steps it was.",
            search_aliases=["easycache", "teacache", "mova cache", "skip steps", "faster"],
            inputs=[
                io.Model.Input("model_high", optional=True, tooltip="The high-noise expert."),
                io.Model.Input("model_low", optional=True, tooltip="The low-noise expert."),
                threshold_input(
                    "video_threshold",
                    0.1,
                    "Relative change of the picture's velocity up to which it is used again; 0: never.",
                ),
                threshold_input(
                    "audio_threshold", 0.05, "The same for the sound. A step is left out only if both are below theirs."
                ),
                io.Boolean.Input(
                    "audio_alone",
                    default=False,
                    tooltip="Where the picture may be used again and the sound may not, the sound is computed alone. "
                    "That keeps what it sees of the picture: 7.4 GiB for each of cfg's two evaluations at 640 x 352, "
                    "193 frames (half in fp8: MOVA Model Options).",
                ),
            ],
            outputs=[io.Model.Output(display_name="high"), io.Model.Output(display_name="low")],
        )

    @classmethod
    def execute(
        cls,
        video_threshold: float,
        audio_threshold: float,
        audio_alone: bool,
        model_high: Any = None,
        model_low: Any = None,
    ) -> io.NodeOutput:
        connected = connected_experts(model_high, model_low, "it")
        for name, value in (("video_threshold", video_threshold), ("audio_threshold", audio_threshold)):
            check_finite(value, name)
            if value < 0:
                raise MovaError(f"{name} is {value}; it must be 0 or more (0: every step is computed).")
        models = {}
        for expert, model in connected.items():
            chosen = model.model_options.get("transformer_options", {}).get(OPTIONS, Options())
            cache = StepCache(video_threshold, audio_threshold, audio_alone)
            models[expert] = with_step_cache(model, cache, chosen.audio_memory == "fp8")
        return io.NodeOutput(models.get("high_noise"), models.get("low_noise"))
