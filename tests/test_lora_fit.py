"""A LoRA against the model that it is to change."""

import pytest
import torch
from lora_files import LAYER, SHAPES, pair, saved, wan
from sentences import refusal

from mova.lora.fit import fit
from mova.lora.reading import read_lora


def test_a_lora_for_another_model_is_refused(tmp_path):
    path = wan(tmp_path / "other.safetensors", "transformer_blocks.0.attn.to_q")
    assert "is a LoRA for another model: MOVA has no layers as in" in refusal(fit, read_lora(path), SHAPES)


def test_what_the_model_does_not_have_is_named(tmp_path):
    tensors = {
        f"blocks.0.cross_attn.{name}.lora_{half}": pair()[half == "B"] for name in ("k", "k_img") for half in "AB"
    }
    fitted, found = fit(read_lora(saved(tmp_path / "wan21.pt", tensors)), SHAPES)
    assert found.absent == ["blocks.0.cross_attn.k_img.lora_A"] and list(fitted[""]) == ["blocks.0.cross_attn.k"]
    assert not found.misfits


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"lora_A": torch.zeros(4, 250), "lora_B": torch.zeros(256, 4)}, "is for a weight of [256, 250], but that of"),
        (
            {"lora_A": torch.zeros(4, 256), "lora_B": torch.zeros(256, 3)},
            "halves of two ranks, [4, 256] and [256, 3]",
        ),
        ({"diff": torch.zeros(256, 1)}, "is for a weight of [256, 1], but that of blocks.1.self_attn.q is [256, 256]"),
        ({"diff_b": torch.zeros(9)}, "is for a bias of [9], but that of blocks.1.self_attn.q is [256]"),
        ({"lokr_w1": torch.zeros(4, 4), "lokr_w2": torch.zeros(3, 3)}, "is for a weight of [12, 12], but that of"),
    ],
)
def test_a_file_of_which_nothing_fits_is_refused_with_the_key_and_both_shapes(tmp_path, tensors, sentence):
    tensors = {f"video_dit.{LAYER}.{part}": value for part, value in tensors.items()}
    message = refusal(fit, read_lora(saved(tmp_path / "l.pt", tensors)), SHAPES)
    assert sentence in message and next(iter(tensors)) in message


def audio_like(path):
    name = "audio_dit.blocks.0.self_attn.q.weight"
    down, up = pair(name)
    assert SHAPES[name] != SHAPES[f"{LAYER}.weight"]
    return saved(path, {"blocks.0.self_attn.q.lora_A": down, "blocks.0.self_attn.q.lora_B": up})


def test_a_file_with_no_module_goes_to_the_audio_tower_only_if_its_name_says_so(tmp_path):
    """A LoRA for Wan 2.1 1.3B has the shapes of MOVA's audio tower."""
    fitted, _ = fit(read_lora(audio_like(tmp_path / "my_audio_dit.pt")), SHAPES)
    assert list(fitted["audio_dit"]) == ["audio_dit.blocks.0.self_attn.q"]
    assert "put 'audio' into the file's name" in refusal(fit, read_lora(audio_like(tmp_path / "wan13b.pt")), SHAPES)
