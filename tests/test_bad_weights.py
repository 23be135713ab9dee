"""Weights as they go bad: tensors that are none of this model's, parts that do not belong together, wrong shapes."""

import json

import pytest
import torch
from damage import WEIGHTS, replace, rewrite
from safetensors.torch import load_file, save_file
from sentences import refusal

from mova import JointModel, MovaConfig
from mova.checkpoint.header import TensorInfo
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.weights import check_finite, check_tensors, open_weights
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.model.shapes import expected_shapes
from mova.shorten import short
from mova.tools.tiny import CONFIG

SMALL = Request("A rocket lifts off", width=16, height=16, frames=1, steps=2)
FLOAT = Runtime(torch.device("cpu"), torch.float32)


# --- tensors that are no weights of this model ---


@pytest.mark.parametrize(
    ("part", "dtype"), [("video_dit", torch.int64), ("audio_vae", torch.uint8), ("text_encoder", torch.bool)]
)
def test_weights_of_whole_numbers_are_refused(copy, part, dtype):
    file = sorted((copy / part).glob("*.safetensors"))[0]
    name = sorted(load_file(file))[0]
    rewrite(file, lambda state: state.update({name: torch.ones(state[name].shape, dtype=dtype)}))
    message = refusal(open_checkpoint, copy)
    assert f"stores {name!r} as" in message and part in message


def test_f8_weights_are_taken_in_the_joint_model_only(copy):
    def to_f8(state):
        for name, tensor in state.items():
            if tensor.ndim == 2:
                state[name] = tensor.to(torch.float8_e4m3fn)

    rewrite(copy / "audio_dit" / WEIGHTS, to_f8)
    weights = open_checkpoint(copy).weights["audio_dit"]
    assert {str(tensor.dtype) for _, tensor in weights.read(weights.tensors, torch.bfloat16)} == {"torch.bfloat16"}
    rewrite(copy / "text_encoder" / "model.safetensors", to_f8)
    assert "as F8_E4M3" in refusal(open_checkpoint, copy)


@pytest.mark.parametrize(
    ("part", "tensor", "bad"),
    [
        ("text_encoder", "encoder.final_layer_norm.weight", "nan"),
        ("video_vae", "encoder.conv_in.bias", "nan"),
        ("video_vae", "decoder.conv_in.bias", "inf"),
        ("video_dit", "blocks.0.self_attn.q.bias", "nan"),
        ("video_dit_2", "head.head.bias", "inf"),
        ("audio_dit", "head.head.bias", "nan"),
        ("dual_tower_bridge", "audio_to_video_conditioners.0.inner.q.bias", "nan"),
        ("audio_vae", "decoder.model.0.bias", "nan"),
    ],
)
def test_nan_and_infinite_weights_make_no_clip_and_are_named(copy, part, tensor, bad):
    file = next(file for file in (copy / part).glob("*.safetensors") if tensor in load_file(file))
    rewrite(file, lambda state: state[tensor].view(-1)[:3].fill_(float(bad)))
    message = refusal(generate, open_checkpoint(copy), SMALL, FLOAT)
    assert message.startswith(str(copy / part)) and f"(3 of {load_file(file)[tensor].numel()} values in" in message
    assert tensor in message


def test_a_computation_that_overflows_is_told_as_such(copy):
    def scale(state):
        for name, tensor in state.items():
            if name.startswith(("head.head", "head.modulation")):
                state[name] = (tensor.float() * 1e30).to(torch.float32)

    rewrite(copy / "audio_dit" / WEIGHTS, scale)
    message = refusal(generate, open_checkpoint(copy), SMALL, FLOAT)
    assert "high-noise expert made NaN or infinite values in step 1 of 2 (audio" in message and "fp32" in message


def test_check_finite_passes_finite_weights_of_all_kinds(tmp_path):
    save_file({"a": torch.ones(3), "i": torch.ones(2).long(), "e": torch.ones(0)}, tmp_path / "w.safetensors")
    check_finite(open_weights(tmp_path / "w.safetensors"))


# --- parts that do not belong together ---


@pytest.mark.parametrize(
    ("part", "file", "values", "wanted"),
    [
        ("video_dit", "config.json", {"in_dim": 16}, "input channels of video_dit|differ"),
        ("text_encoder", "config.json", {"d_model": 512}, "text_encoder"),
        ("video_vae", "config.json", {"z_dim": 48}, "latents_mean"),
    ],
)
def test_a_part_of_another_model_is_told(copy, part, file, values, wanted):
    config = json.loads((copy / part / file).read_text())
    replace(copy / part / file, {**config, **values})
    assert any(text in refusal(open_checkpoint, copy) for text in wanted.split("|"))


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused(copy):
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    words = config["vocab_size"] - 5
    replace(copy / "text_encoder" / "config.json", {**config, "vocab_size": words})
    rewrite(
        copy / "text_encoder" / "model.safetensors",
        lambda state: state.update({"shared.weight": state["shared.weight"][:words].clone()}),
    )
    assert f"text_encoder only {words}" in refusal(open_checkpoint, copy)


# --- tensor shapes of a joint file ---


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("patch_embedding.weight", [5]),
        ("patch_embedding.weight", [256, 36, 0, 2, 2]),
        ("patch_embedding.weight", [2**40, 36, 1, 2, 2]),
        ("text_embedding.0.weight", [5]),
        ("blocks.0.ffn.0.weight", []),
        ("dual_tower_bridge.audio_to_video_conditioners.abc.q", [1]),
        ("dual_tower_bridge.audio_to_video_conditioners.²", [1]),
        ("dual_tower_bridge.audio_to_video_conditioners.", [1]),
    ],
)
def test_shapes_that_no_joint_model_has_are_refused(name, shape):
    shapes = {**expected_shapes(JointModel(CONFIG, device="meta")), name: shape}
    refusal(MovaConfig.from_shapes, shapes)


def test_messages_stay_short_whatever_the_names_are():
    names = {f"{i}" + "n" * 500: (1,) for i in range(9)}
    infos = {"u" * 900 + str(i): TensorInfo("F32", (2**62,) * 60) for i in range(9)}
    message = refusal(check_tensors, infos, {**names, **dict.fromkeys(infos, (1,) * 60)}, "here", longest=600)
    assert "and 8 more" in message
    nested = [[[[[1] * 9] * 9] * 9] * 9] * 9
    for value in (nested, "x" * 10**6, {"a" * 500: nested}, 10**400, "\n\x1b\ud800"):
        assert len(short(value)) <= 120 and short(value).isprintable()
