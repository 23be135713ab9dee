"""LoRAs without ComfyUI: `generate --lora`, what it changes in which part, and what is told before weights load."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentences import refusal

from mova import JointModel
from mova.__main__ import main
from mova.arguments import lora
from mova.checkpoint.release import open_checkpoint
from mova.clip.denoise import load_expert, load_shared
from mova.clip.pipeline import generate
from mova.clip.reading import read_clip_info
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.lora.merge import merged
from mova.lora.plan import LoraChoice, plan
from mova.lora.reading import read_lora
from mova.model.shapes import expected_shapes
from mova.tools.tiny import CONFIG

SMALL = Request("A rocket lifts off", width=32, height=32, frames=5, steps=4)
FLOAT = Runtime(torch.device("cpu"), torch.float32)
SHAPES = expected_shapes(JointModel(CONFIG, device="meta"))
Q, FFN, BIAS = "blocks.0.self_attn.q", "blocks.1.ffn.2", "blocks.2.cross_attn.k"
AUDIO, BRIDGE = "audio_dit.blocks.0.self_attn.q", "dual_tower_bridge.audio_to_video_conditioners.0.inner.k"
EXPERTS = ("video_dit", "video_dit_2")


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def pair(key, layer, seed=0):
    rows, columns = SHAPES[f"{layer}.weight"]
    return {f"{key}.lora_A.weight": random(seed, 4, columns), f"{key}.lora_B.weight": random(seed + 1, rows, 4)}


def written(path, *tensors, **metadata):
    save_file({name: tensor for some in tensors for name, tensor in some.items()}, path, metadata or None)
    return path


def state_after(checkpoint, choices, dtype=torch.float32):
    """The joint model's weights with the LoRAs, by expert."""
    changes, _ = plan(choices, checkpoint.config)
    runtime = dataclasses.replace(FLOAT, dtype=dtype)
    states = {}
    for part in EXPERTS:
        model = load_shared(checkpoint, runtime, changes)
        load_expert(model, checkpoint, runtime, part, changes)
        states[part] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return states


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def plain(checkpoint):
    return state_after(checkpoint, [])


def changed(plain, states):
    """The tensors that differ, by expert."""
    return {e: {n for n, t in states[e].items() if not torch.equal(t, plain[e][n])} for e in EXPERTS}


def test_each_layer_goes_to_its_part_and_a_layer_of_no_module_to_both_experts(checkpoint, plain, tmp_path):
    tensors = [pair(f"video_dit.{Q}", Q), pair(f"video_dit_2.{FFN}", FFN), pair(AUDIO, AUDIO), pair(BRIDGE, BRIDGE)]
    tensors += [{f"diffusion_model.{BIAS}.diff_b": random(3, *SHAPES[f"{BIAS}.bias"])}]
    tensors += [{"diffusion_model.blocks.1.diff_m": random(4, *SHAPES["blocks.1.modulation"])}]
    path = written(tmp_path / "all.safetensors", *tensors)
    both = {f"{AUDIO}.weight", f"{BRIDGE}.weight", f"{BIAS}.bias", "blocks.1.modulation"}
    found = state_after(checkpoint, [LoraChoice(path)])
    assert changed(plain, found) == {"video_dit": both | {f"{Q}.weight"}, "video_dit_2": both | {f"{FFN}.weight"}}
    for expert in EXPERTS:
        assert torch.equal(found[expert][f"{BIAS}.bias"], plain[expert][f"{BIAS}.bias"] + random(3, 256))


@pytest.mark.parametrize(
    ("name", "metadata", "expert"),
    [
        ("style_high_noise", {}, 0),
        ("wan2.2-lownoise-style", {}, 1),
        ("style", {"ss_output_name": "my_style_low"}, 1),
        ("style", {"ss_sd_model_name": "wan2.2_i2v_high_noise_14B_fp16.safetensors"}, 0),
        ("style", {"ss_sd_model_name": "wan2.2_i2v_low_noise_14B_fp16.safetensors"}, None),  # may be for both
        ("style", {"modelspec.timestep_range": "900,1000"}, 0),
        ("style", {"modelspec.timestep_range": "0,900"}, 1),
        ("style", {"modelspec.timestep_range": "0,1000"}, None),
        ("slow_highlands", {}, None),
        ("high_and_low", {}, None),
        ("style", {}, None),
    ],
)
def test_a_file_s_name_or_metadata_says_which_expert_it_is_for(checkpoint, plain, tmp_path, name, metadata, expert):
    path = written(tmp_path / f"{name}.safetensors", pair(f"diffusion_model.{Q}", Q), **metadata)
    found = changed(plain, state_after(checkpoint, [LoraChoice(path)]))
    assert [bool(found[e]) for e in EXPERTS] == [expert in (None, 0), expert in (None, 1)]
    _, lines = plan([LoraChoice(path)], checkpoint.config)
    assert any("left out of the other expert" in line for line in lines) == (expert is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_what_merging_by_hand_makes_with_each_strength_in_order(checkpoint, plain, tmp_path, dtype):
    one = written(tmp_path / "one.safetensors", pair(f"transformer.{Q}", Q))
    two = written(tmp_path / "two.safetensors", pair(f"transformer.{Q}", Q, seed=5))
    loras = [read_lora(path).modules[""][Q] for path in (one, two)]
    found = state_after(checkpoint, [LoraChoice(one, 0.5), LoraChoice(two, -1.25)], dtype)
    for expert in EXPERTS:
        by_hand = plain[expert][f"{Q}.weight"]
        for change, strength in zip(loras, (0.5, -1.25), strict=True):
            by_hand = by_hand + strength * (change.parts["lora_up.weight"] @ change.parts["lora_down.weight"])
        assert torch.equal(found[expert][f"{Q}.weight"], by_hand.to(dtype))


def test_a_clip_with_a_lora_is_that_of_a_checkpoint_with_the_lora_merged_in(copy, tmp_path):
    path = written(tmp_path / "style.safetensors", pair(f"diffusion_model.{Q}", Q))
    with_lora = generate(open_checkpoint(copy), dataclasses.replace(SMALL, loras=(LoraChoice(path, 0.75),)), FLOAT)
    without = generate(open_checkpoint(copy), SMALL, FLOAT)
    for expert in EXPERTS:
        for file in (copy / expert).glob("*.safetensors"):
            state = load_file(file)
            if f"{Q}.weight" in state:
                change = read_lora(path).modules[""][Q]
                state[f"{Q}.weight"] = merged(state[f"{Q}.weight"].float(), [(change, 0.75)])
                file.unlink()  # it may be a link to the shared one
                save_file(state, file)
    by_hand = generate(open_checkpoint(copy), SMALL, FLOAT)
    assert torch.equal(with_lora.video_latent, by_hand.video_latent)
    assert torch.equal(with_lora.audio_latent, by_hand.audio_latent)
    assert not torch.equal(with_lora.video_latent, without.video_latent)


def test_what_is_left_out_is_told_with_the_file(checkpoint, tmp_path):
    patch = {"diffusion_model.patch_embedding.diff": torch.zeros(256, 16, 1, 2, 2)}
    path = written(tmp_path / "t2v.safetensors", pair(f"diffusion_model.{Q}", Q), patch)
    _, lines = plan([LoraChoice(path)], checkpoint.config)
    (line,) = (line for line in lines if "left out" in line)
    assert line.startswith("t2v.safetensors: 1 layers are left out, as they do not fit MOVA: 'diffusion_model.patch_e")


def test_a_lora_that_drives_the_weights_to_infinity_is_told_in_the_step_it_does(checkpoint, tmp_path):
    path = written(tmp_path / "loud.safetensors", pair(f"video_dit_2.{Q}", Q))
    seen = []
    request = dataclasses.replace(SMALL, loras=(LoraChoice(path, 1e38),), boundary=0.9)
    runtime = dataclasses.replace(FLOAT, step=lambda done, of: seen.append(done))
    message = refusal(generate, checkpoint, request, runtime)
    first = seen[-1]
    assert f"The low-noise expert made NaN or infinite values in step {first} of 4 (video" in message
    assert "changed by LoRAs; lower the strength of the LoRAs" in message and 1 < first < 4


# ---- the command line


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("a/b c.safetensors:-1", "a/b c.safetensors", -1.0),
        (r"C:\loras\x.safetensors", r"C:\loras\x.safetensors", 1.0),
        (r"C:\loras\x.safetensors:0.8", r"C:\loras\x.safetensors", 0.8),
        ("C:/loras/x.safetensors:1e-1", "C:/loras/x.safetensors", 0.1),
        ("run:3/lora_weights.pt", "run:3/lora_weights.pt", 1.0),
    ],
)
def test_a_lora_is_a_file_and_perhaps_a_strength(text, path, strength):
    assert lora(text) == (Path(path), strength)


@pytest.mark.skipif(os.name == "nt", reason="no file can have such a name")
def test_a_file_whose_name_ends_as_a_strength_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "style:2").touch()
    assert lora("style:2") == (Path("style:2"), 1.0)


def command(checkpoint, out, *more):
    return ["generate", "--checkpoint", str(checkpoint), "--prompt", "A rocket", "--out", str(out), "--width", "32",
            "--height", "32", "--frames", "5", "--steps", "2", "--dtype", "fp32", *map(str, more)]  # fmt: skip


def test_several_loras_stand_in_the_clip_s_metadata_and_what_they_do_is_told(tiny_checkpoint, tmp_path, capsys):
    one = written(tmp_path / "style.safetensors", pair(f"diffusion_model.{Q}", Q))
    two = written(tmp_path / "voice.safetensors", pair(AUDIO, AUDIO))
    out = tmp_path / "clip.mp4"
    assert main(command(tiny_checkpoint, out, "--lora", f"{one}:0.8", "--lora", two)) == 0
    assert read_clip_info(out).settings["loras"] == ["style.safetensors:0.8", "voice.safetensors:1"]
    told = capsys.readouterr().err
    assert "style.safetensors: alpha / rank: 1 (no alpha is given)" in told and "voice.safetensors: alpha" in told
    main(command(tiny_checkpoint, tmp_path / "plain.mp4"))
    plain = read_clip_info(tmp_path / "plain.mp4")
    assert plain.settings["loras"] == [] and json.dumps(plain.settings)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("absent.safetensors", "absent.safetensors does not exist"),
        ("flux.safetensors:0.5", "flux.safetensors is a LoRA for another model"),
        ("wide.safetensors", "is for a weight of [256, 99], but that of"),
        ("cut.safetensors", "is cut off"),
        ("nan.safetensors", "holds NaN or infinite values"),
        ("good.safetensors:nan", "The strength of good.safetensors is nan; give a number"),
        ("good.safetensors:inf", "is inf; give a number"),
    ],
)
def test_a_wrong_lora_is_told_in_one_sentence_before_weights_load(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, given, named
):
    def load(*_):
        raise AssertionError("a part of the model was loaded")

    monkeypatch.setattr("mova.clip.pipeline.begin", load)
    monkeypatch.chdir(tmp_path)
    good = pair(f"diffusion_model.{Q}", Q)
    written(tmp_path / "good.safetensors", good)
    written(tmp_path / "flux.safetensors", pair("transformer.single_transformer_blocks.0.attn.to_q", Q))
    written(tmp_path / "wide.safetensors", {n: torch.zeros(4, 99) if "_A" in n else t for n, t in good.items()})
    written(tmp_path / "nan.safetensors", {n: t / 0 for n, t in good.items()})
    shutil.copy("good.safetensors", "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:-50])
    assert main(command(tiny_checkpoint, tmp_path / "clip.mp4", "--lora", given)) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and named in told[0], told
    assert not (tmp_path / "clip.mp4").exists()


def test_a_strength_that_is_no_number_is_a_mistake_of_the_command(tiny_checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(command(tiny_checkpoint, tmp_path / "clip.mp4", "--lora", "x.safetensors:strong"))
    assert "'strong' behind x.safetensors is no strength; give a number" in capsys.readouterr().err
