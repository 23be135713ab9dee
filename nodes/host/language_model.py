"""ComfyUI's own text models as writers: whether a CLIP can write, whether it sees pictures, and what it writes.

All of it is asked of the object that a loader gave, not of its name: which file it is of, and which type was chosen,
decides what the host makes of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...mova import MovaError
from ...mova.enhance import Request
from ...mova.errors import first_line, memory_is_full

LOAD = "load qwen3vl_4b_fp8_scaled.safetensors with Load CLIP"
AREA = 768 * 768  # pixels of a picture at most: what a model sees of it costs time by its area
TOP_K, TOP_P, MIN_P, REPETITION = 64, 0.95, 0.05, 1.05  # as the host's own node has them
NO_THOUGHTS = "<think>\n\n</think>\n\n"  # Qwen's way of asking for none


@dataclass(frozen=True)
class Turns:
    """How a family of models is told who says what; known by a mark that is one token of its vocabulary."""

    mark: str
    template: str  # {system}, {pictures}, {user}
    picture: str


FAMILIES = (
    Turns(
        "<|im_start|>",
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{pictures}{user}<|im_end|>\n<|im_start|>assistant\n",
        "<|vision_start|><|image_pad|><|vision_end|>",
    ),
    Turns(
        "<|turn>",
        "<|turn>system\n{system}<turn|>\n<|turn>user\n{pictures}{user}<turn|>\n<|turn>model\n",
        "<|image><|image|><image|>\n",
    ),
    Turns(
        "<start_of_turn>",
        "<start_of_turn>user\n{system}\n\n{pictures}{user}<end_of_turn>\n<start_of_turn>model\n",
        "<image_soft_token>\n",
    ),
    Turns("[INST]", "[SYSTEM_PROMPT]{system}[/SYSTEM_PROMPT][INST]{user}[/INST]", ""),
)
PLAIN = Turns("", "{system}\n\n{user}", "")
MARKS = re.compile(
    r"<\|[^<>|\n]{1,40}\|?>|<[a-z]{1,9}\|>|</?(?:start|end)_of_turn>|<image_soft_token>|</?think>|\[/?INST\]"
)


def transformers_of(clip: Any) -> Iterator[Any]:
    """The networks in a CLIP that can write."""
    model = getattr(clip, "cond_stage_model", None)
    if not isinstance(model, torch.nn.Module) or not callable(getattr(model, "generate", None)):
        return
    for part in model.modules():
        network = getattr(part, "transformer", None)
        if callable(getattr(network, "generate", None)):
            yield network


def called(clip: Any) -> str:
    """What the host has made of the file."""
    model = getattr(clip, "cond_stage_model", None)
    parts = model.modules() if isinstance(model, torch.nn.Module) else ()
    kinds = [type(part.transformer).__name__ for part in parts if hasattr(part, "transformer")]
    return kinds[0].rstrip("_") if kinds else type(model if model is not None else clip).__name__


def check_writer(clip: Any) -> None:
    """Raise MovaError unless the host can have this CLIP write text."""
    if clip is None:
        raise MovaError(f"There is no language model in clip; {LOAD}.")
    if not callable(getattr(clip, "generate", None)) or next(transformers_of(clip), None) is None:
        raise MovaError(f"The model in clip ({called(clip)}) encodes text and cannot write any; {LOAD}.")


def row_of(tokens: Any) -> list:
    """The tokens of one text, by whatever name the host has them."""
    rows = next(iter(tokens.values())) if isinstance(tokens, dict) else tokens
    return [entry[0] for entry in rows[0]]


def tokenize(clip: Any, text: str, pictures: Tensor | None = None) -> Any:
    """A text with all its marks as the host's tokens; templates of its own are left out."""
    return clip.tokenize(text, image=pictures, skip_template=True, llama_template="{}", min_length=1)


def pictures_in(tokens: Any) -> int:
    return sum(isinstance(token, dict) and token.get("type") == "image" for token in row_of(tokens))


def family_of(clip: Any) -> Turns:
    """The turns that a model knows, by its vocabulary."""

    def is_token(mark: str) -> bool:
        once, twice = (len(row_of(tokenize(clip, mark * count))) for count in (1, 2))
        return twice - once == 1

    return next((turns for turns in FAMILIES if is_token(turns.mark)), PLAIN)


def fitted(image: Tensor, like: Tensor | None = None) -> Tensor:
    """The first picture of a batch [1, H, W, 3], no larger than AREA; of the size of another if that is given."""
    image = image[:1, :, :, :3]
    height, width = image.shape[1:3] if like is None else like.shape[1:3]
    if like is None and height * width > AREA:
        scale = (AREA / (height * width)) ** 0.5
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    return comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "area", "disabled").movedim(1, -1)


class Writer:
    """A CLIP that writes: called with a Request it gives the model's answer. `sees`: whether it is given the pictures.

    Two pictures go side by side as one to a model that takes only one.
    """

    def __init__(self, clip: Any, images: list[Tensor], seed: int, max_length: int, temperature: float) -> None:
        check_writer(clip)
        self.clip, self.seed, self.max_length, self.temperature = clip, seed, max_length, temperature
        self.family = family_of(clip)
        self.pictures = self.taken(images) if images else None
        self.sees = self.pictures is not None

    def taken(self, images: list[Tensor]) -> Tensor | None:
        """The pictures as this model takes them; None if it takes none."""
        first = fitted(images[0])
        each = [first, *(fitted(image, like=first) for image in images[1:])]
        if not self.family.picture or not any(hasattr(part, "preprocess_embed") for part in transformers_of(self.clip)):
            return None
        for together in (torch.cat(each), torch.cat(each, dim=2)):
            wanted = self.family.mark + self.family.picture * len(together)
            if pictures_in(tokenize(self.clip, wanted, together)) == len(together):
                return together
        return None

    def __call__(self, request: Request) -> str:
        """Raises MovaError if the model fails in the host; an interruption, and full memory, go through."""
        tokens = tokenize(self.clip, self.text(request), self.pictures)
        try:
            written = self.clip.generate(
                tokens,
                do_sample=self.temperature > 0,
                max_length=self.max_length,
                temperature=self.temperature,
                top_k=TOP_K,
                top_p=TOP_P,
                min_p=MIN_P,
                repetition_penalty=REPETITION,
                presence_penalty=0.0,
                seed=(self.seed + request.attempt) % 2**64,
            )
            return self.clip.decode(written)
        except Exception as error:  # what a model that the host cannot run raises is up to the line it fails in
            if memory_is_full(error):
                raise
            kind = called(self.clip)
            raise MovaError(
                f"The model in clip ({kind}) fails in ComfyUI as it writes ({first_line(error)}); {LOAD}."
            ) from error

    def text(self, request: Request) -> str:
        """A request in the model's own turns; what looks like their marks is taken out of the user's words."""
        pictures = self.family.picture * (0 if self.pictures is None else len(self.pictures))
        user = MARKS.sub(" ", request.user).replace("embedding:", "embedding :")
        text = self.family.template.format(system=request.system, pictures=pictures, user=user)
        text = self.begun(text)
        ends = tokenize(self.clip, "</think>"), tokenize(self.clip, "</think></think>")
        if self.family is FAMILIES[0] and len(row_of(ends[1])) - len(row_of(ends[0])) == 1:
            text += NO_THOUGHTS
        elif any(getattr(part, "prime_empty_thought", False) for part in vars(self.clip.tokenizer).values()):
            text += "<|channel>thought\n<channel|>"
        return text

    def begun(self, text: str) -> str:
        """The text with its first mark twice, if the host's tokenizer drops the first token, as of Gemma 3's."""
        mark = self.family.mark
        if not mark:
            return text
        token = row_of(tokenize(self.clip, mark * 2))[-1]
        kept = sum(isinstance(one, int) and one == token for one in row_of(tokenize(self.clip, text)))
        return mark + text if kept < text.count(mark) else text

    def release(self) -> None:
        """Take the model off the device: a clip is sampled next, and needs all of it."""
        patcher = getattr(self.clip, "patcher", None)
        if patcher is not None:
            comfy.model_management.unload_model_and_clones(patcher)
