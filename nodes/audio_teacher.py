"""Audio steps that see the picture as the model without a LoRA makes it."""

from typing import Any

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.model.teacher import check_first
from .host import notice
from .host.audio_teacher import teacher_notice, with_teacher
from .host.experts import SLOTS, check_one, connected_experts, sizes

PAIRS = {"high_noise": "teacher_high", "low_noise": "teacher_low"}


class MOVAAudioTeacher(io.ComfyNode):
    """Give an expert with a LoRA the same without as the teacher of its audio steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAAudioTeacher",
            display_name="MOVA Audio Teacher",
            category="MOVA",
            description="With audio_steps: the sound's own steps see the picture as the model without a LoRA makes it. "
            "Costs up to three quarters of an evaluation in each step, and weights that are loaded twice.",
            search_aliases=["distilled lora sound", "lightning", "lightx2v", "few steps", "audio quality"],
            inputs=[
                io.Model.Input("model_high", optional=True, tooltip="The high-noise expert with its LoRA."),
                io.Model.Input("teacher_high", optional=True, tooltip="The same without."),
                io.Model.Input("model_low", optional=True, tooltip="The low-noise expert with its LoRA."),
                io.Model.Input("teacher_low", optional=True, tooltip="The same without."),
                io.Int.Input(
                    "from_layer",
                    default=0,
                    min=0,
                    max=29,
                    tooltip="The teacher computes from this layer on, from what the LoRA's layers before have made of "
                    "the picture; 0: all. 10 takes a third less time than 0.",
                ),
            ],
            outputs=[io.Model.Output(display_name="high"), io.Model.Output(display_name="low")],
        )

    @classmethod
    def execute(
        cls,
        from_layer: int,
        model_high: Any = None,
        teacher_high: Any = None,
        model_low: Any = None,
        teacher_low: Any = None,
    ) -> io.NodeOutput:
        connected = connected_experts(model_high, model_low, "it")
        teachers = {"high_noise": teacher_high, "low_noise": teacher_low}
        for expert, slot in PAIRS.items():
            if teachers[expert] is not None and expert not in connected:
                raise MovaError(f"{slot} has no pupil; connect the expert with its LoRA to {SLOTS[expert]}.")
        taught = {}
        for expert, model in connected.items():
            teacher, slot = teachers[expert], PAIRS[expert]
            if teacher is None:
                raise MovaError(f"Nothing is connected to {slot}; connect the same expert, taken before its LoRA.")
            check_one(teacher, slot, expert)
            if sizes(teacher.model.mova_config) != sizes(model.model.mova_config):
                raise MovaError(f"The model in {slot} is of another size than its pupil; connect the same expert.")
            if teacher.patches and teacher.patches_uuid == model.patches_uuid:
                raise MovaError(f"The model in {slot} has its pupil's LoRA; connect the same expert, before the LoRA.")
            check_first(from_layer, model.model.mova_config.dual_tower_bridge)
            if told := teacher_notice(model, teacher, SLOTS[expert], slot):
                notice.show(told)
            taught[expert] = with_teacher(model, teacher, from_layer)
        return io.NodeOutput(taught.get("high_noise"), taught.get("low_noise"))
