"""A prompt that is longer than what the model reads is cut, and that is said before anything large is loaded."""

from dataclasses import replace

import pytest
import torch

from mova.checkpoint.release import open_checkpoint
from mova.clip.pipeline import encode_prompts
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.model import text


@pytest.mark.parametrize("long", ["prompt", "negative_prompt"])
def test_a_long_prompt_is_said_to_be_cut_before_the_encoder_is_loaded(tiny_checkpoint, monkeypatch, long):
    told, loaded = [], []
    runtime = Runtime(torch.device("cpu"), torch.float32, notice=told.append)
    load = text.load_encoder
    monkeypatch.setattr(text, "load_encoder", lambda *given: (loaded.append(list(told)), load(*given))[1])
    tokenizer = text.load_tokenizer(tiny_checkpoint / "tokenizer")
    words = "A rocket lifts off " * 300
    count = len(tokenizer(text.clean(words)).input_ids)
    assert count > text.TOKENS
    checkpoint = open_checkpoint(tiny_checkpoint)
    request = replace(Request("A rocket lifts off"), **{long: words})
    cut = encode_prompts(checkpoint, request, runtime)
    name = long.replace("_", " ")
    assert told == [f"The {name} has {count} tokens; all beyond the first 512 are left out."] and loaded == [told]
    assert all(features.shape[1] == text.TOKENS for features in cut)


def test_of_a_prompt_that_is_read_whole_nothing_is_said(tiny_checkpoint):
    told = []
    runtime = Runtime(torch.device("cpu"), torch.float32, notice=told.append)
    encode_prompts(open_checkpoint(tiny_checkpoint), Request("A rocket lifts off"), runtime)
    assert told == []
    assert text.cut_notice(text.TOKENS, "prompt") is None
