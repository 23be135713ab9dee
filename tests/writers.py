"""A small language model as a folder for transformers, which has learnt one text by heart."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

TEXT = 'A red fox runs through deep snow and whispers "Hello there, friend" softly. The audio holds quiet wind.'
WIDTH = 64
END, UNKNOWN = "<end>", "<unknown>"
TEMPLATE = "{% for turn in messages %}{{ turn.role }} : {{ turn.content }} {% endfor %}reply :"


def write_writer(folder: Path, text: str = TEXT) -> Path:
    """Write it: behind each word of the text comes the next, behind any other word the first."""
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM  # seconds to import

    words = text.split()
    assert len(set(words)) == len(words) < WIDTH - 1
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate([UNKNOWN, *words, END])}, UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=END)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    size, end = len(words) + 2, len(words) + 1
    config = Qwen3Config(
        vocab_size=size, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, tie_word_embeddings=False, eos_token_id=end, pad_token_id=end,
        bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        places = torch.eye(WIDTH)[:size]
        model.model.embed_tokens.weight.copy_(places)
        model.model.embed_tokens.weight[end] = places[0]
        model.lm_head.weight[0] = 0.0
        model.lm_head.weight[1:] = 4 * places[: size - 1]
    model.save_pretrained(folder)
    return folder
