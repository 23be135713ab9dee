"""More of a prompt, by a language model that ComfyUI runs itself."""

import re

from comfy_api.latest import io

from ..mova.enhance import GOALS, LANGUAGES, STYLES, Task, enhance
from .host import notice
from .host.checks import check_finite
from .host.language_model import Writer
from .joint_sampler import check_seed

PARENTHESIS = re.compile(r"(?<!\\)[()]")
UNSEEN = (
    "The language model takes no pictures: it has written without seeing them. One that sees: qwen3vl_4b, qwen3vl_8b."
)


def plain(prompt: str) -> str:
    r"""A prompt as the language model reads it: \( and \) are what ComfyUI's text encoders take for ( and )."""
    return re.sub(r"\\([()])", r"\1", prompt)


def encodable(prompt: str) -> str:
    """What a language model wrote, with its parentheses as ComfyUI's text encoders read them: they are no weights."""
    return PARENTHESIS.sub(r"\\\g<0>", prompt)


class MOVAEnhancePrompt(io.ComfyNode):
    """One line becomes a prompt for picture and sound; every quoted word stays, or the prompt does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAEnhancePrompt",
            display_name="MOVA Enhance Prompt",
            category="MOVA",
            description="Has a language model make a full prompt of a short one: what is seen, in order, and what is "
            "heard, last. Quoted words stay letter for letter, or the prompt stays as it is.",
            search_aliases=[
                "prompt enhancer",
                "prompt expansion",
                "rewrite prompt",
                "llm",
                "qwen",
                "gemma",
                "director",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="A language model from Load CLIP, as qwen3vl_4b; not umt5_xxl."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What you want to see and hear, in any language; spoken words in quotation marks.",
                ),
                io.Image.Input("image", optional=True, tooltip="The first frame, for models that see."),
                io.Image.Input("end_image", optional=True, tooltip="The last frame, likewise."),
                io.Combo.Input(
                    "style", options=list(STYLES), default=next(iter(STYLES)), tooltip="How it should look."
                ),
                io.Combo.Input(
                    "language",
                    options=list(LANGUAGES),
                    default=LANGUAGES[0],
                    tooltip="Of the description; quoted words stay in theirs. MOVA was trained mostly on English ones.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Another seed, another wording; the same seed, the same text.",
                ),
                io.Int.Input(
                    "max_length",
                    default=1024,
                    min=16,
                    max=8192,
                    advanced=True,
                    tooltip="Tokens the model may write, thoughts included.",
                ),
                io.Float.Input(
                    "temperature",
                    default=0.7,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How freely it words; 0 takes the likeliest word always.",
                ),
                io.Combo.Input(
                    "goal",
                    options=list(GOALS),
                    default=GOALS[0],
                    optional=True,
                    tooltip="A clip; the picture it begins with, for an image model; or a clip in Prism's tags.",
                ),
            ],
            outputs=[io.String.Output(display_name="prompt"), io.String.Output(display_name="sound")],
        )

    @classmethod
    def execute(
        cls,
        clip,
        prompt: str,
        style: str,
        language: str,
        seed: int,
        max_length: int,
        temperature: float,
        image=None,
        end_image=None,
        goal: str = GOALS[0],
    ) -> io.NodeOutput:
        check_seed(seed)
        check_finite(temperature, "temperature")
        task = Task(plain(prompt), image is not None, end_image is not None, style, language, goal)
        task.check()
        writer = Writer(
            clip, [picture for picture in (image, end_image) if picture is not None], seed, max_length, temperature
        )
        try:
            made = enhance(task, writer, pictures_seen=writer.sees)
        finally:
            writer.release()
        changed = made.prompt != task.prompt
        text, sound = (encodable(made.prompt), encodable(made.sound)) if changed else (prompt, made.sound)
        notice.show_line(text)
        if (task.first or task.last) and not writer.sees:
            notice.show(UNSEEN)
        for told in made.notices:
            notice.show(told)
        return io.NodeOutput(text, sound)
