"""The prompt: cleaned as the published code does, and encoded by the host's text encoder."""

from comfy_api.latest import io

from ..mova.text import NEGATIVE_PROMPT, clean
from .checks import check_clip


class MOVATextEncode(io.ComfyNode):
    """Both prompts in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVATextEncode",
            display_name="MOVA Text Encode",
            category="MOVA",
            description="Encodes the prompt and the negative prompt with UMT5 (CLIP of type wan).",
            search_aliases=["mova prompt", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="umt5_xxl, loaded with the type wan."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What is seen and heard: scene, movement, camera, sounds; speech in quotation marks.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default=NEGATIVE_PROMPT,
                    tooltip="What is not wanted; filled in with the release's own text.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
            ],
        )

    @classmethod
    def execute(cls, clip, prompt: str, negative_prompt: str) -> io.NodeOutput:
        check_clip(clip)
        texts = (clip.tokenize(clean(text)) for text in (prompt, negative_prompt))
        return io.NodeOutput(*[clip.encode_from_tokens_scheduled(tokens) for tokens in texts])
