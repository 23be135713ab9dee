"""Prompts to UMT5 features, by transformers."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MovaError, first_line, install_command
from .shapes import expected_shapes

TOKENS = 512  # that the model was trained with; shorter prompts are followed by zeros, which are attended to

# Wan's, and MOVA's default.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指"
)


def clean(prompt: str) -> str:
    """Mend encoding faults, HTML entities and white space, as the published pipeline does."""
    try:
        import ftfy
    except ImportError as error:
        raise MovaError(
            f"The package ftfy, which cleans prompts, is not installed; run {install_command('ftfy')}"
        ) from error
    prompt = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", prompt).strip()


def expected_tensors(config: Path, values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the text encoder that a config.json with these values describes; MovaError if it is none."""
    from transformers import UMT5Config, UMT5EncoderModel

    try:
        with torch.device("meta"):
            return expected_shapes(UMT5EncoderModel(UMT5Config.from_dict(dict(values))))
    except Exception as error:  # what a wrong value raises is up to the library that meets it first
        raise MovaError(
            f"{config} does not describe a UMT5 encoder ({first_line(error)}); download it again."
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer; raises MovaError if there is none that loads."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise all kinds, bare Exception included
        raise MovaError(
            f"{folder} holds no tokenizer that loads ({first_line(error)}); download the folder again."
        ) from error


def load_encoder(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The UMT5 encoder, from safetensors only; raises MovaError if it does not load."""
    from transformers import UMT5EncoderModel

    try:
        encoder: Any = UMT5EncoderModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except Exception as error:  # transformers raises all kinds
        raise MovaError(
            f"{folder} does not load as a UMT5 encoder ({first_line(error)}); download it again."
        ) from error
    return encoder.to(device).eval()


def token_count(tokenizer: Any, prompt: str) -> int:
    """How many tokens a prompt has, with the one that ends it."""
    return len(tokenizer(clean(prompt)).input_ids)


def cut_notice(count: int, what: str) -> str | None:
    """What to tell of a prompt of so many tokens; `what` tells which it is."""
    return f"The {what} has {count} tokens; all beyond the first {TOKENS} are left out." if count > TOKENS else None


def encode(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> list[Tensor]:
    """UMT5 features of each prompt, [1, 512, width]; the padding is zeros. Longer prompts are cut."""
    tokens = tokenizer(
        [clean(prompt) for prompt in prompts],
        padding="max_length",
        max_length=TOKENS,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    ).to(encoder.device)
    features = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return list((features * tokens.attention_mask[:, :, None].to(features)).split(1))
