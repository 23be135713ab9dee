"""How the experts' work is carried out: faster, or in less memory."""

from typing import Any

from comfy_api.latest import io

from .host.elementwise import NORMS, check
from .host.estimate import tell_host
from .host.experts import connected_experts
from .host.kernels import OPTIONS, Options


class MOVAModelOptions(io.ComfyNode):
    """Choose how the experts' work is carried out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAModelOptions",
            display_name="MOVA Model Options",
            category="MOVA",
            description="Chooses how the experts' work is carried out: in fewer passes over memory, or in less memory.",
            search_aliases=["mova low vram", "mova memory", "mova speed", "triton", "fused kernels"],
            inputs=[
                io.Model.Input("model_high", optional=True, tooltip="The high-noise expert."),
                io.Model.Input("model_low", optional=True, tooltip="The low-noise expert."),
                io.Combo.Input(
                    "elementwise",
                    options=list(NORMS),
                    tooltip="What normalises and turns queries and keys. torch: several passes over memory; "
                    "comfy_kitchen: fewer, by the kernel that ComfyUI's Wan uses; triton: one, where the package "
                    "triton is installed. Both also fuse the GELU of int8 MLPs. The results differ by rounding.",
                ),
                io.Boolean.Input(
                    "low_memory",
                    default=False,
                    tooltip="A tenth less memory at the peak. Weights that are kept outside the GPU or are quantised "
                    "are fetched several times for it: the MLP's twice, the attention's values 6 times.",
                ),
                io.Combo.Input(
                    "audio_memory",
                    options=["exact", "fp8"],
                    default="exact",
                    optional=True,
                    tooltip="With audio_steps on the sampler: how what the audio sees of the video is kept. fp8: in "
                    "half the memory, rounded.",
                ),
            ],
            outputs=[io.Model.Output(display_name="high"), io.Model.Output(display_name="low")],
        )

    @classmethod
    def execute(
        cls,
        elementwise: str,
        low_memory: bool,
        model_high: Any = None,
        model_low: Any = None,
        audio_memory: str = "exact",
    ) -> io.NodeOutput:
        connected = connected_experts(model_high, model_low, "it")
        check(elementwise)
        options = Options(elementwise, low_memory, audio_memory)
        models = {expert: with_options(model, options) for expert, model in connected.items()}
        return io.NodeOutput(models.get("high_noise"), models.get("low_noise"))


def with_options(model: Any, options: Options) -> Any:
    """A clone of the MODEL that works so."""
    model = model.clone()
    model.model_options["transformer_options"][OPTIONS] = options
    tell_host(model)
    return model
