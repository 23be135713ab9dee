"""Guidance that changes along a run."""

from typing import Any

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.sampling.guidance_plan import Spans, per_step
from .host.checks import check_finite

GuidanceSchedule = io.Custom("MOVA_GUIDANCE")
GUIDANCE_TIP = "Where in the run guidance counts: MOVA Guidance Schedule."
SAME_AS_TEXT = -1.0


def percent_input(name: str, default: float, tooltip: str, least: float = 0.0) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=least, max=100.0, step=1.0, tooltip=tooltip)


def spans_of(given: Any) -> Spans:
    """What is connected to `guidance`. Raises MovaError for what comes from another pack's node."""
    if given is None:
        return Spans()
    if not isinstance(given, Spans):
        raise MovaError(f"guidance is a {type(given).__name__}; connect MOVA Guidance Schedule.")
    return given


class MOVAGuidanceSchedule(io.ComfyNode):
    """Ranges of the steps in which each guidance counts, and scales for single steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        same = " -1: as the text's."
        return io.Schema(
            node_id="MOVAGuidanceSchedule",
            display_name="MOVA Guidance Schedule",
            category="MOVA",
            description="Where in the run guidance counts. Outside, its evaluations are not made: cfg over half of the "
            "steps saves a quarter of the time.",
            search_aliases=["mova cfg range", "cfg schedule", "guidance interval", "cfg per step", "faster"],
            inputs=[
                percent_input("text_start", 0.0, "Percent of the steps at which cfg begins to count."),
                percent_input("text_end", 100.0, "Percent of the steps from which on cfg counts no more (is 1)."),
                percent_input("audio_start", SAME_AS_TEXT, "The same for the audio's cfg." + same, SAME_AS_TEXT),
                percent_input("audio_end", SAME_AS_TEXT, "The same for the audio's cfg." + same, SAME_AS_TEXT),
                percent_input("bridge_start", 0.0, "The same for bridge_cfg."),
                percent_input("bridge_end", 100.0, "The same for bridge_cfg."),
                io.String.Input(
                    "cfg_per_step",
                    default="",
                    tooltip="In place of cfg: its values in the first steps, with commas between; the last counts in "
                    "all others. 5, 1 is cfg in the first step only.",
                ),
            ],
            outputs=[GuidanceSchedule.Output(display_name="guidance")],
        )

    @classmethod
    def execute(
        cls,
        text_start: float,
        text_end: float,
        audio_start: float,
        audio_end: float,
        bridge_start: float,
        bridge_end: float,
        cfg_per_step: str,
    ) -> io.NodeOutput:
        given = {"text_start": text_start, "text_end": text_end, "audio_start": audio_start, "audio_end": audio_end}
        for name, value in {**given, "bridge_start": bridge_start, "bridge_end": bridge_end}.items():
            check_finite(value, name)
        own = audio_start != SAME_AS_TEXT or audio_end != SAME_AS_TEXT
        start = text_start if audio_start == SAME_AS_TEXT else audio_start
        end = text_end if audio_end == SAME_AS_TEXT else audio_end
        return io.NodeOutput(
            Spans(
                (text_start / 100, text_end / 100),
                (start / 100, end / 100) if own else None,
                (bridge_start / 100, bridge_end / 100),
                per_step(cfg_per_step),
            )
        )
