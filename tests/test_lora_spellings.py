"""The names that trainers of Wan LoRAs write, from diffusers' own model: each is the layer of the same shape."""

import json

import pytest
import torch
from golden import joint_model
from lora_files import SHAPES, saved
from safetensors.torch import save_file
from sentences import refusal

from mova.lora.describe import describe_lora
from mova.lora.fit import fit
from mova.lora.names import split_key
from mova.lora.reading import read_lora

DOWN, UP = "lora_down.weight", "lora_up.weight"


@pytest.fixture(scope="module")
def diffusers_wan():
    """Names and shapes of diffusers' Wan, as large as the golden model's video tower."""
    from diffusers import WanTransformer3DModel  # seconds to import, in every process that collects tests

    config = joint_model("head128").config.video_dit
    with torch.device("meta"):
        model = WanTransformer3DModel(
            patch_size=config.patch_size,
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            in_channels=config.in_dim,
            out_channels=config.out_dim,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
            cross_attn_norm=True,
        )
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("prefix", "flat"),
    [("transformer.", False), ("diffusion_model.", False), ("base_model.model.", False), ("", False)]
    + [(prefix, True) for prefix in ("lycoris_", "lora_unet_", "lora_transformer_")],
)
def test_every_layer_of_diffusers_wan_is_ours_of_the_same_shape(diffusers_wan, prefix, flat):
    found = set()
    for name in (name.removesuffix(".weight") for name in diffusers_wan if name.endswith(".weight")):
        key = prefix + (name.replace(".", "_") if flat else name)
        module, layer, part = split_key(f"{key}.lora_A.weight")
        assert (module, part) == ("", DOWN) and SHAPES[f"{layer}.weight"] == diffusers_wan[f"{name}.weight"], key
        found.add(f"{layer}.weight")
    video = {name for name in SHAPES if name.endswith(".weight") and not name.startswith(("audio_", "dual_"))}
    assert found == video, "each layer once, and none is missing"
    for name in (name for name in diffusers_wan if name.endswith("scale_shift_table")):
        _, layer, _ = split_key(f"{prefix}{name.replace('.', '_') if flat else name}.diff")
        assert SHAPES[layer] == diffusers_wan[name], name


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blocks.0.attn2.add_k_proj", "blocks.0.cross_attn.k_img"),
        ("blocks.0.attn2.add_v_proj", "blocks.0.cross_attn.v_img"),
        ("blocks.0.attn2.norm_added_k", "blocks.0.cross_attn.norm_k_img"),
    ],
)
def test_layers_of_wan_2_1_that_mova_has_not_are_told_by_their_wan_names(name, layer):
    assert split_key(f"transformer.{name}.lora_B.weight")[:2] == ("", layer)
    assert split_key(f"lycoris_{name.replace('.', '_')}.lokr_w1")[:2] == ("", layer)


def test_the_audio_tower_in_diffusers_names():
    assert split_key("audio_dit.blocks.0.attn1.to_out.0.lora_A.weight")[:2] == ("audio_dit", "blocks.0.self_attn.o")
    assert split_key("lycoris_audio_dit_blocks_0_ffn_net_0_proj.lokr_w1")[:2] == ("audio_dit", "blocks.0.ffn.0")


def pair(key, layer, rank=4):
    rows, columns = SHAPES[f"{layer}.weight"]
    return {f"{key}.lora_A.weight": torch.zeros(rank, columns), f"{key}.lora_B.weight": torch.zeros(rows, rank)}


Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.0"
TO_Q, PROJ = "blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj"


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("diffusion_model.transformer_1.", "diffusion_model.transformer_2."),  # ai-toolkit, not split into two files
        ("transformer.", "transformer_2."),  # diffusers
        ("base_model.model.transformer.", "base_model.model.transformer_2."),
        ("pipe.dit.", "pipe.dit2."),  # DiffSynth
    ],
)
def test_a_file_for_both_of_wan_2_2_s_experts_gives_each_its_own(tmp_path, high, low):
    tensors = pair(high + TO_Q, Q) | pair(low + PROJ, FFN)
    modules = read_lora(saved(tmp_path / "both.safetensors", tensors)).modules
    assert {module: list(layers) for module, layers in modules.items()} == {"video_dit": [Q], "video_dit_2": [FFN]}
    alone = read_lora(saved(tmp_path / "one.safetensors", pair(high + TO_Q, Q))).modules
    assert list(alone) == (["video_dit"] if "transformer_1" in high else [""])


@pytest.mark.parametrize("name", ["lycoris_transformer_1_{}", "lora_transformer_1_{}"])
def test_ai_toolkit_s_old_flat_names_of_an_expert(name):
    assert split_key(f"{name.format(TO_Q.replace('.', '_'))}.lokr_w1")[:2] == ("video_dit", Q)


def with_metadata(path, tensors, **metadata):
    save_file(tensors, path, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    return read_lora(path)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"transformer.r": 4, "transformer.lora_alpha": 8}, 2.0),  # diffusers
        ({"r": 4, "lora_alpha": 2}, 0.5),  # SimpleTuner for ComfyUI
        ({"transformer.lora_alpha": 8, "transformer.use_rslora": True}, 4.0),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn1.to_q": 4}}, 1.0),
        ({"transformer.lora_alpha": "much"}, 1.0),
        ([8], 1.0),
    ],
)
def test_alpha_is_read_from_the_adapter_s_settings_in_the_metadata(tmp_path, settings, scale):
    file = with_metadata(tmp_path / "a.safetensors", pair(f"transformer.{TO_Q}", Q), lora_adapter_metadata=settings)
    assert file.modules[""][Q].scale == scale


def test_alpha_of_a_layer_in_the_file_goes_before_the_metadata_s(tmp_path):
    tensors = pair(f"transformer.{TO_Q}", Q) | {f"transformer.{TO_Q}.alpha": torch.tensor(2.0)}
    file = with_metadata(tmp_path / "a.safetensors", tensors, lora_adapter_metadata={"transformer.lora_alpha": 8})
    assert file.modules[""][Q].scale == 0.5


def test_metadata_that_is_no_json_is_passed_over(tmp_path):
    file = with_metadata(tmp_path / "a.safetensors", pair(f"transformer.{TO_Q}", Q), lora_adapter_metadata="{")
    assert file.modules[""][Q].scale == 1


def test_differences_of_norms_and_biases_fit(tmp_path):
    """lightx2v's and others' files, extracted from distilled models."""
    names = ("blocks.0.self_attn.norm_q", "blocks.0.norm3", "head.head", "time_projection.1")
    tensors = {f"diffusion_model.{n}.diff": torch.zeros(SHAPES[f"{n}.weight"]) for n in names}
    tensors |= {f"diffusion_model.{n}.diff_b": torch.zeros(SHAPES[f"{n}.bias"]) for n in names[1:]}
    tensors["diffusion_model.head.diff_m"] = torch.zeros(SHAPES["head.modulation"])
    fitted, found = fit(read_lora(saved(tmp_path / "lightx2v.safetensors", tensors)), SHAPES)
    assert set(fitted[""]) == {*names, "head.modulation"} and not found.absent and not found.misfits


def test_lokr_and_loha_with_an_adapter_s_name_are_read(tmp_path):
    rows, columns = SHAPES[f"{Q}.weight"]
    lokr = {f"base_model.model.{TO_Q}.lokr_w1.default": torch.zeros(8, 8)}
    lokr |= {f"base_model.model.{TO_Q}.lokr_w2.default": torch.zeros(rows // 8, columns // 8)}
    parts = {"hada_w1_a": (rows, 2), "hada_w1_b": (2, columns), "hada_w2_a": (rows, 2), "hada_w2_b": (2, columns)}
    loha = {f"base_model.model.{TO_Q}.{part}.default": torch.zeros(shape) for part, shape in parts.items()}
    for name, tensors in (("lokr", lokr), ("loha", loha)):
        assert list(fit(read_lora(saved(tmp_path / f"{name}.pt", tensors)), SHAPES)[0][""]) == [Q]


# ---- what does not fit


def text_to_video(path):
    """As a LoRA for Wan's text-to-video model: its patch embedding has no channels of a condition."""
    rows, channels, *kernel = SHAPES["patch_embedding.weight"]
    patch = {"diffusion_model.patch_embedding.diff": torch.zeros(rows, 16, *kernel)}
    patch["diffusion_model.patch_embedding.diff_b"] = torch.zeros(rows)
    assert channels == 36
    return saved(path, pair(f"diffusion_model.{Q}", Q) | patch)


def test_one_layer_that_does_not_fit_is_left_out_and_named(tmp_path):
    fitted, found = fit(read_lora(text_to_video(tmp_path / "t2v.safetensors")), SHAPES)
    assert list(fitted[""]) == [Q] and not found.absent
    (line,) = found.misfits
    assert "'diffusion_model.patch_embedding.diff' is for a weight of [256, 16, 1, 2, 2], but that of" in line


def test_nan_in_a_lora_is_told_when_it_is_read(tmp_path):
    tensors = pair(f"diffusion_model.{Q}", Q)
    tensors[f"diffusion_model.{Q}.lora_B.weight"][1, 2] = float("nan")
    message = refusal(read_lora, saved(tmp_path / "burst.safetensors", tensors))
    assert "burst.safetensors holds NaN or infinite values" in message and f"{Q}.lora_B.weight" in message


def test_info_reads_these_names(tmp_path):
    lines = list(describe_lora(saved(tmp_path / "l.safetensors", pair(f"transformer.{TO_Q}", Q))))
    assert "no module is named: a video tower of Wan's kind: 1 layers, rank 4" in lines
    assert not any("expert alone" in line for line in lines)
    noted = describe_lora(saved(tmp_path / "style_low_noise.safetensors", pair(f"transformer.{TO_Q}", Q)))
    assert "for the low-noise expert alone, by its name" in noted
