"""LoRA files: spellings, alpha, what is refused, and what fits a model."""

import json
import os
import pickle

import pytest
import torch
from lora_files import BRIDGE, LAYER, SHAPES, pair, saved, update, wan
from sentences import refusal

from mova.lora.describe import describe_lora
from mova.lora.fit import fit
from mova.lora.reading import is_lora, read_lora

DOWN, UP = "lora_down.weight", "lora_up.weight"
# (the key before the half, how the halves are spelled, the module, the layer)
SPELLINGS = [
    ("video_dit.{}", (".lora_A.weight", ".lora_B.weight"), "video_dit"),
    ("video_dit.{}", (".lora_A.default.weight", ".lora_B.default.weight"), "video_dit"),
    ("video_dit_2.{}", (".lora_A.weight", ".lora_B.weight"), "video_dit_2"),
    ("video_dit_2.{}", (".lora_A", ".lora_B"), "video_dit_2"),
    ("video_dit2.{}", (".lora_A.default.weight", ".lora_B.default.weight"), "video_dit_2"),
    ("audio_dit.{}", (".lora_A", ".lora_B"), "audio_dit"),
    ("{}", (".lora_A.default.weight", ".lora_B.default.weight"), ""),
    ("diffusion_model.{}", (".lora_A.weight", ".lora_B.weight"), ""),
    ("diffusion_model.{}", (".lora_down.weight", ".lora_up.weight"), ""),
    ("diffusion_model.audio_dit.{}", (".lora_down.weight", ".lora_up.weight"), "audio_dit"),
    ("base_model.model.{}", (".lora_A.weight", ".lora_B.weight"), ""),
    ("base_model.model.audio_dit._orig_mod.{}", (".lora_A.style.weight", ".lora_B.style.weight"), "audio_dit"),
    ("transformer.{}", (".lora.down.weight", ".lora.up.weight"), ""),
    ("{}", ("_lora.down.weight", "_lora.up.weight"), ""),
    ("lora_unet_{}", (".lora_down.weight", ".lora_up.weight"), ""),
    ("lora_unet__{}", (".lora_down.weight", ".lora_up.weight"), ""),
    ("lycoris_{}", (".lora_down.weight", ".lora_up.weight"), ""),
    ("lora_unet_audio_dit_{}", (".lora_down.weight", ".lora_up.weight"), "audio_dit"),
    ("lora_unet_video_dit_2_{}", (".lora_down.weight", ".lora_up.weight"), "video_dit_2"),
]  # fmt: skip
FLAT = ("lora_unet", "lycoris")


@pytest.mark.parametrize(("key", "halves", "module"), SPELLINGS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_spelling_is_read(tmp_path, key, halves, module, suffix):
    down, up = pair()
    name = key.format(LAYER.replace(".", "_") if key.startswith(FLAT) else LAYER)
    file = read_lora(saved(tmp_path / f"lora{suffix}", {name + halves[0]: down, name + halves[1]: up}))
    assert not file.unknown and not file.incomplete
    (lora,) = file.modules.pop(module).values()
    assert not file.modules and lora.scale == 1
    assert torch.equal(lora.parts[DOWN], down) and torch.equal(lora.parts[UP], up)
    assert torch.allclose(update(lora, (256, 256)), up @ down)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (f"lora_unet_{BRIDGE.replace('.', '_')}", ("dual_tower_bridge", BRIDGE.partition(".")[2])),
        (BRIDGE.partition(".")[2], ("dual_tower_bridge", BRIDGE.partition(".")[2])),
        ("lora_unet_blocks_0_ffn_0", ("", "blocks.0.ffn.0")),
        ("lora_unet_text_embedding_2", ("", "text_embedding.2")),
        ("lora_unet_head_head", ("", "head.head")),
    ],
)
def test_a_layer_is_found_whatever_the_dots_are_written_as(tmp_path, key, place):
    down, up = pair()
    file = read_lora(saved(tmp_path / "l.safetensors", {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}))
    assert place[1] in file.modules[place[0]]


def test_every_layer_of_the_model_is_found_from_its_flat_name():
    from mova.lora.names import split_key

    for name in (name.removesuffix(".weight") for name in SHAPES if name.endswith(".weight")):
        module, layer, _ = split_key(f"lora_unet_{name.replace('.', '_')}.lora_up.weight")
        assert f"{module}.{layer}".removeprefix(".") == name


# ---- alpha


def trainer_folder(folder, config, config_name="lora_config.pt", weights="lora_weights.pt"):
    down, up = pair()
    tensors = {f"video_dit.{LAYER}.lora_A.weight": down, f"video_dit.{LAYER}.lora_B.weight": up}
    saved(folder / weights, tensors)
    if config_name.endswith(".json"):
        (folder / config_name).write_text(json.dumps(config))
    else:
        torch.save(config, folder / config_name)
    return folder


def scale(path):
    file = read_lora(path)
    (lora,) = (lora for layers in file.modules.values() for lora in layers.values())
    return lora.scale


@pytest.mark.parametrize(
    ("config", "name", "wanted"),
    [
        ({"rank": 16, "alpha": 16.0, "target_modules": []}, "lora_config.pt", 1.0),
        ({"rank": 8, "alpha": 16.0}, "lora_config.pt", 2.0),
        ({"rank": "MOVATrain", "alpha": 16.0}, "lora_config.pt", 4.0),  # what one trainer writes; the pair's rank is 4
        ({"rank": 8, "alpha": 4}, "lora_config.json", 0.5),
        ({"r": 8, "lora_alpha": 2, "peft_type": "LORA"}, "adapter_config.json", 0.5),
        ({"r": 8, "lora_alpha": 2, "use_rslora": True}, "adapter_config.json", 1.0),
        ({"r": 8, "lora_alpha": 2, "alpha_pattern": {"self_attn.q": 8}}, "adapter_config.json", 2.0),
        ({"target_modules": []}, "lora_config.pt", 1.0),
    ],
)
def test_the_trainer_s_settings_beside_the_file_give_the_scale(tmp_path, config, name, wanted):
    folder = trainer_folder(tmp_path / "run", config, name)
    assert scale(folder) == scale(folder / "lora_weights.pt") == pytest.approx(wanted)


def test_settings_beside_a_file_that_somebody_has_renamed_are_not_taken_for_its_own(tmp_path):
    folder = trainer_folder(tmp_path / "loras", {"rank": 8, "alpha": 80.0}, weights="style.pt")
    assert scale(folder / "style.pt") == 1


def test_the_low_resource_trainer_s_file_is_read_with_its_alpha(tmp_path):
    down, up = pair()
    state = {f"video_dit.{LAYER}.lora_A": down, f"video_dit.{LAYER}.lora_B": up}
    values = {"lora_state_dict": state, "rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q"]}
    file = read_lora(saved(tmp_path / "step-10/lora_weights.pt", values))
    assert scale(file.path) == 2 and not file.unknown
    assert "in lora_weights.pt" in file.scales()


def test_alpha_in_the_file_is_the_layer_s_own(tmp_path):
    assert scale(wan(tmp_path / "a.safetensors", alpha=torch.tensor(2.0))) == 0.5


# ---- what is refused, and what is told


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["torch", "pickle", "config"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, how):
    target, path = tmp_path / "owned", tmp_path / "lora_weights.pt"
    down, up = pair()
    tensors = {f"video_dit.{LAYER}.lora_A": down, f"video_dit.{LAYER}.lora_B": up}
    if how == "pickle":
        path.write_bytes(pickle.dumps({"x": Hostile(target)}, protocol=2))
    else:
        torch.save({**tensors, "x": Hostile(target)} if how == "torch" else tensors, path)
    if how == "config":
        torch.save({"alpha": Hostile(target)}, tmp_path / "lora_config.pt")
    assert "refused because loading a pickle can run any code" in refusal(read_lora, path)
    assert not target.exists()
    if how == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(tmp_path / ("lora_config.pt" if how == "config" else path.name), weights_only=False)
    assert target.exists(), "the pickle must be one that does harm"


def test_a_damaged_file_is_refused(tmp_path):
    path = trainer_folder(tmp_path / "run", {}) / "lora_weights.pt"
    path.write_bytes(path.read_bytes()[:-200])
    assert "is damaged" in refusal(read_lora, path)
    whole = wan(tmp_path / "a.safetensors")
    whole.write_bytes(whole.read_bytes()[:-200])
    assert "is cut off" in refusal(read_lora, whole)


def test_what_is_no_lora_is_refused(tmp_path):
    assert "holds no whole change" in refusal(read_lora, saved(tmp_path / "m.safetensors", {"a.weight": pair()[0]}))
    assert "holds a list" in refusal(read_lora, saved(tmp_path / "l.pt", [1]))
    folder = trainer_folder(tmp_path / "run", {"rank": 16, "alpha": 16.0})
    assert "choose lora_weights.pt beside it" in refusal(read_lora, folder / "lora_config.pt")
    (tmp_path / "empty").mkdir()
    assert "holds no LoRA files" in refusal(read_lora, tmp_path / "empty")
    assert "does not exist" in refusal(read_lora, tmp_path / "absent.safetensors")
    assert "does not exist" in refusal(read_lora, tmp_path / "absent.pt")


def test_a_missing_half_is_named_and_the_rest_is_kept(tmp_path):
    down, up = pair()
    tensors = {"blocks.0.self_attn.q.lora_A.weight": down}
    tensors |= {"blocks.1.self_attn.q.lora_A.weight": down, "blocks.1.self_attn.q.lora_B.weight": up}
    file = read_lora(saved(tmp_path / "l.safetensors", tensors))
    assert file.incomplete == ["blocks.0.self_attn.q.lora_A.weight"]
    assert list(file.modules[""]) == ["blocks.1.self_attn.q"]
    assert any("blocks.0.self_attn.q.lora_A.weight" in line for line in describe_lora(file.path))


def test_parts_that_cannot_be_used_are_not_left_off_a_layer_in_silence(tmp_path):
    bias = torch.zeros(256)
    tensors = {f"{LAYER}.lora_A.weight": pair()[0], f"{LAYER}.lora_B.weight": pair()[1], f"{LAYER}.lora_B.bias": bias}
    other = {"blocks.0.norm3.diff": bias, "something.else": bias}
    file = read_lora(saved(tmp_path / "l.safetensors", {**tensors, **other}))
    assert set(file.incomplete) == set(tensors) and file.unknown == ["something.else"]


@pytest.mark.parametrize("what", [torch.tensor(1.0), torch.ones(4, 256).int(), torch.ones(4, 256).to_sparse()])
def test_what_is_no_matrix_is_refused(tmp_path, what):
    tensors = {f"{LAYER}.lora_A": what, f"{LAYER}.lora_B": pair()[1]}
    assert "something else than plain numbers" in refusal(read_lora, saved(tmp_path / "l.pt", tensors))
    assert "is not a number" in refusal(read_lora, wan(tmp_path / "a.safetensors", alpha=torch.ones(2)))


def test_a_pair_for_a_modulation_is_a_vector_of_its_shape(tmp_path):
    shape = SHAPES["blocks.0.modulation"]
    halves = torch.ones(2, shape[1] * shape[2]), torch.ones(1, 2)
    tensors = {f"blocks.0.modulation.lora_{name}": half for name, half in zip("AB", halves, strict=True)}
    fitted = fit(read_lora(saved(tmp_path / "l.pt", tensors)), SHAPES)[0]
    assert torch.equal(update(fitted[""]["blocks.0.modulation"], shape), torch.full(shape, 2.0))


def test_two_adapters_in_one_file_are_refused(tmp_path):
    tensors = {f"{LAYER}.lora_{half}.{name}.weight": pair()[half == "B"] for half in "AB" for name in ("one", "two")}
    assert "twice" in refusal(read_lora, saved(tmp_path / "l.safetensors", tensors))


def test_checkpoints_are_not_taken_for_loras(tiny_checkpoint):
    from mova.checkpoint.weights import open_weights

    assert not any(is_lora(open_weights(tiny_checkpoint / part).tensors) for part in ("video_dit", "audio_vae"))
    assert is_lora(["diffusion_model.blocks.0.self_attn.q.lora_A.weight"]) and is_lora(["blocks.0.diff_m"])


def test_a_file_is_described_module_by_module(tmp_path):
    down, up = pair()
    modules = "video_dit", "video_dit_2", "audio_dit"
    tensors = {f"{m}.{LAYER}.lora_{half}": value for m in modules for half, value in (("A", down), ("B", up))}
    lines = list(describe_lora(saved(tmp_path / "l.pt", {"lora_state_dict": tensors, "rank": 4, "alpha": 2.0})))
    assert "video tower of the low-noise expert: 1 layers, rank 4" in lines
    assert "alpha / rank: 0.5 (in l.pt)" in lines
