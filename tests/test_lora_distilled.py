"""LoRAs distilled of Wan 2.2 I2V A14B, in the spellings of their files: what fits is applied, the rest named."""

import dataclasses

import pytest
import torch
from distilled_files import distilled
from lora_files import saved

from mova import JointModel
from mova.checkpoint.release import open_checkpoint
from mova.clip.denoise import load_expert, load_shared
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.lora.describe import describe_lora
from mova.lora.plan import LoraChoice, plan
from mova.model.shapes import expected_shapes
from mova.sampling.guidance import Guidance
from mova.tools.tiny import CONFIG

FLOAT = Runtime(torch.device("cpu"), torch.float32)
SHAPES = expected_shapes(JointModel(CONFIG, device="meta"))
NAMES = {  # as they are downloaded
    "x2v": "wan2.2_i2v_A14b_{}_noise_lora_rank64_lightx2v_4step_1022.safetensors",
    "lightning": "{}_noise_model.safetensors",
}
EXPERTS = {"high": "video_dit", "low": "video_dit_2"}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


def state(checkpoint, part, changes):
    model = load_shared(checkpoint, FLOAT, changes)
    load_expert(model, checkpoint, FLOAT, part, changes)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("kind", NAMES)
def test_a_pair_of_files_changes_each_expert_by_the_exact_sums_and_nothing_of_the_sound(
    checkpoint, tmp_path, kind, strength
):
    choices, gains = [], {}
    for noise in EXPERTS:
        tensors, gains[noise] = distilled(SHAPES, kind, noise)
        choices.append(LoraChoice(saved(tmp_path / NAMES[kind].format(noise), tensors), strength))
    changes, told = plan(choices, checkpoint.config)
    assert not any("left out, " in line for line in told), told
    for noise, part in EXPERTS.items():
        before, after = state(checkpoint, part, {}), state(checkpoint, part, changes)
        assert {name for name in before if not torch.equal(before[name], after[name])} == set(gains[noise])
        for name, gain in gains[noise].items():
            wanted = before[name].double() + strength * gain.double().view(before[name].shape)
            torch.testing.assert_close(after[name].double(), wanted, rtol=0, atol=1e-6, msg=name)
    norms = {name for name in gains["high"] if "norm" in name or "modulation" in name or name.endswith("bias")}
    assert bool(norms) == (kind == "x2v")


def test_layers_of_wan_2_1_alone_are_named_and_counted_and_the_rest_is_applied(checkpoint, tmp_path):
    tensors, gains = distilled(SHAPES, "x2v", wan_2_1=True)
    path = saved(tmp_path / "Wan21_I2V_14B_lightx2v_cfg_step_distill_lora_rank64.safetensors", tensors)
    changes, told = plan([LoraChoice(path)], checkpoint.config)
    assert set(changes) == set(EXPERTS.values()) and all(set(part) == set(gains) for part in changes.values())
    (line,) = (line for line in told if "left out" in line)
    assert "5 layers are left out, as they are for the picture tokens of Wan 2.1 (img_emb, k_img, v_img" in line, line


def test_info_counts_every_layer_of_a_distilled_file(tmp_path):
    tensors, gains = distilled(SHAPES, "x2v", "high")
    layers = {name.rpartition(".")[0] if not name.endswith("modulation") else name for name in gains}
    lines = list(describe_lora(saved(tmp_path / NAMES["x2v"].format("high"), tensors)))
    assert f"no module is named: a video tower of Wan's kind: {len(layers)} layers, rank 4" in lines
    assert "for the high-noise expert alone, by its name" in lines


def test_a_fast_run_with_a_pair_of_distilled_files_differs_from_the_run_without(checkpoint, tmp_path):
    choices = tuple(
        LoraChoice(saved(tmp_path / NAMES["x2v"].format(noise), distilled(SHAPES, "x2v", noise)[0]), 0.1)
        for noise in EXPERTS
    )
    fast = Request("a cat", width=32, height=32, frames=5, steps=3, guidance=Guidance(1.0), audio_steps=2)
    made = [generate(checkpoint, dataclasses.replace(fast, loras=loras), FLOAT) for loras in ((), choices)]
    for name in ("video_latent", "audio_latent"):
        one, other = (getattr(result, name) for result in made)
        assert one.isfinite().all() and other.isfinite().all() and (one - other).abs().max() > 1e-3
