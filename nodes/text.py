"""The prompt: cleaned as the published code does, and encoded by the host's text encoder."""

from typing import Any
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from ..mova.model.text import NEGATIVE_PROMPT, TOKENS, clean, cut_notice
from .host import finite, notice
from .host.checks import check_clip

# The last one of each text encoder, which the next prompt comes with again; it goes when the encoder does.
NEGATIVES: WeakKeyDictionary[Any, tuple[str, list]] = WeakKeyDictionary()
ENCODER, PAD = "umt5xxl", 0  # what the host calls UMT5's tokens, and the one it fills up with


def cut(tokens: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The host's tokens, of which those beyond MOVA's 512 are left out, and how many there were.

    As the published pipeline's tokenizer does, with the end token last; the host's knows no limit.
    """
    row = tokens.get(ENCODER, [[]])[0]  # (token, weight)
    count = len(row)
    while count and row[count - 1][0] == PAD:
        count -= 1
    if count > TOKENS:
        tokens = {**tokens, ENCODER: [[*row[: TOKENS - 1], row[count - 1]]]}
    return tokens, count


def encode_negative(clip: Any, text: str, tokens: dict[str, Any]) -> list:
    """What the text encoder makes of the negative prompt: of a text that it had before, what it made then."""
    try:
        before, made = NEGATIVES.get(clip, (None, []))
    except TypeError:  # of a class of another pack's that has no hash, or takes no weak references
        return clip.encode_from_tokens_scheduled(tokens)
    if before != text:
        made = clip.encode_from_tokens_scheduled(tokens)
        NEGATIVES[clip] = text, made
    return [[features, {**entries}] for features, entries in made]


class MOVATextEncode(io.ComfyNode):
    """Both prompts in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVATextEncode",
            display_name="MOVA Text Encode",
            category="MOVA",
            description="Encodes the prompt and the negative prompt with UMT5 (CLIP of type wan).",
            search_aliases=["mova prompt", "clip text encode", "speech", "talking"],
            inputs=[
                io.Clip.Input("clip", tooltip="umt5_xxl, loaded with the type wan."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What is seen and heard: scene, movement, camera, sounds; speech in quotation marks. "
                    r"Parentheses are weights, as everywhere in ComfyUI; for plain ones write \( and \).",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default=NEGATIVE_PROMPT,
                    tooltip="What is not wanted; filled in with the release's own text.",
                ),
                io.String.Input(
                    "audio_prompt",
                    optional=True,
                    force_input=True,
                    tooltip="What is heard, for the audio tower alone, as Prism was trained with. If nothing is "
                    "connected, it reads the prompt.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
            ],
        )

    @classmethod
    def execute(cls, clip, prompt: str, negative_prompt: str, audio_prompt: str = "") -> io.NodeOutput:
        check_clip(clip)
        texts = {"prompt": prompt, "negative prompt": negative_prompt}
        if audio_prompt.strip():
            texts["audio prompt"] = audio_prompt
        made, notices = {}, []
        for what, text in texts.items():
            tokens, count = cut(clip.tokenize(clean(text)))
            if told := cut_notice(count, what):
                notices.append(told)
            if what == "negative prompt":
                made[what] = encode_negative(clip, text, tokens)
            else:
                made[what] = clip.encode_from_tokens_scheduled(tokens)
        if notices:
            notice.show("\n".join(notices))
        for what, conditioning in made.items():
            remedy = "start ComfyUI with --bf16-text-enc or --fp32-text-enc, or load another file of umt5_xxl"
            for features, _ in conditioning:
                finite.check(features, f"What the text encoder made of the {what}", remedy)
        positive = made["prompt"]
        if "audio prompt" in made:
            features = made["audio prompt"][0][0]
            positive = [[text, {**entries, finite.AUDIO_TEXT: features}] for text, entries in positive]
        return io.NodeOutput(positive, made["negative prompt"])
