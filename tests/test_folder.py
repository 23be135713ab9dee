import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mova import MovaError
from mova.checkpoint.release import FOLDERS, JOINT, open_checkpoint
from mova.clip.pipeline import load_audio_vae
from mova.model.audio_vae import AudioVAE
from mova.tools.tiny import write_tiny

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def rewrite(file, change):
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}  # Windows keeps mapped files
    change(state)
    save_file(state, file)


def edit(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_tiny_checkpoint_has_every_part(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    assert set(checkpoint.weights) == set(FOLDERS)
    assert checkpoint.boundary == 0.9 and checkpoint.schedule.shift == 5.0
    assert len(set(checkpoint.weights["video_dit"].files.values())) == 2


@pytest.mark.parametrize("part", [*FOLDERS, "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(MovaError, match=f"lacks the part {part};"):
        open_checkpoint(copy)


@pytest.mark.parametrize("part", ["audio_dit", "dual_tower_bridge", "audio_vae", "video_vae"])
def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(copy, part):
    file = copy / part / WEIGHTS
    names = sorted(load_file(file))
    rewrite(file, lambda state: state.pop(names[0]))
    with pytest.raises(MovaError, match=f"{part}.* lacks '{names[0]}'"):
        open_checkpoint(copy)
    rewrite(file, lambda state: state.update({names[0]: torch.zeros(3, 1, 4), "a.stranger": torch.zeros(1)}))
    with pytest.raises(MovaError, match=rf"'a.stranger'.*'{names[0]}' is \[3, 1, 4\] instead of \["):
        open_checkpoint(copy)


def test_a_tensor_missing_from_the_text_encoder_is_named(copy):
    rewrite(copy / "text_encoder" / "model.safetensors", lambda state: state.pop("shared.weight"))
    with pytest.raises(MovaError, match=r"text_encoder.* lacks 'shared.weight'"):
        open_checkpoint(copy)


def test_a_shard_that_is_listed_but_absent_is_named(copy):
    shard = sorted((copy / "video_dit").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(MovaError, match=f"1 of 2 shards .*{shard.name}"):
        open_checkpoint(copy)


def test_a_truncated_file_is_refused(copy):
    file = copy / "audio_dit" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(MovaError, match="cut off: the last 10 of"):
        open_checkpoint(copy)


def test_a_pickle_in_place_of_weights_is_refused(copy):
    torch.save({"weight": torch.zeros(1)}, copy / "audio_dit" / WEIGHTS)
    with pytest.raises(MovaError, match="pickle"):
        open_checkpoint(copy)


def test_experts_of_different_sizes_are_refused(copy):
    edit(copy / "video_dit_2" / "config.json", ffn_dim=128)
    with pytest.raises(MovaError, match=r"video_dit_2/config\.json differ"):
        open_checkpoint(copy)


def test_parts_of_another_release_are_refused(copy):
    edit(copy / "dual_tower_bridge" / "config.json", audio_layers=30)
    with pytest.raises(MovaError, match="audio_layers is 30"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("model_index.json", "{", "not valid JSON"),
        ("model_index.json", '{"boundary_ratio": 9}', "boundary_ratio 9"),
        ("scheduler/scheduler_config.json", '{"shift": -1}', "shift -1"),
        ("scheduler/scheduler_config.json", '{"num_train_timesteps": 50}', "1000 training timesteps"),
        ("text_encoder/config.json", '{"model_type": "umt5", "num_heads": "x"}', "does not describe a UMT5 encoder"),
        ("video_vae/config.json", '{"dim_mult": 3}', "does not describe a Wan VAE"),
        ("tokenizer/tokenizer.json", "{}", "no tokenizer that loads"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_named(copy, file, content, named):
    (copy / file).write_text(content)
    with pytest.raises(MovaError, match=named) as caught:
        open_checkpoint(copy)
    assert file.split("/")[0] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("spelling", ["weight_norm", "parametrizations"])
def test_an_audio_vae_with_weight_norm_loads_as_the_plain_one(copy, spelling):
    plain = load_audio_vae(open_checkpoint(copy), torch.device("cpu")).state_dict()
    vae = AudioVAE(open_checkpoint(copy).audio_vae)
    vae.load_state_dict(plain)
    wrap = torch.nn.utils.parametrizations.weight_norm
    if spelling == "weight_norm":
        wrap = torch.nn.utils.weight_norm
    for name, module in list(vae.named_modules()):
        if name.startswith(("encoder", "decoder")) and isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            wrap(module)
    save_file(vae.state_dict(), copy / "audio_vae" / WEIGHTS)
    loaded = load_audio_vae(open_checkpoint(copy), torch.device("cpu")).state_dict()
    assert loaded.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(loaded[name], plain[name])


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(MovaError, match="is not a folder"):
        open_checkpoint(tmp_path / "nowhere")


def test_tiny_writes_into_an_empty_folder_only(tiny_checkpoint):
    with pytest.raises(MovaError, match="not empty"):
        write_tiny(tiny_checkpoint)


@pytest.mark.parametrize(
    ("parts", "folders"),
    [
        (["audio_vae"], ["audio_vae"]),
        (["video_vae"], ["video_vae"]),
        (["text_encoder"], ["text_encoder", "tokenizer"]),
        (list(JOINT), [*JOINT, "video_dit"]),
        (["video_dit_2", *JOINT], ["video_dit_2", *JOINT, "scheduler", "model_index.json"]),
    ],
)
def test_a_folder_with_only_the_parts_asked_for_can_be_opened(tiny_checkpoint, tmp_path, parts, folders):
    shutil.copytree(
        tiny_checkpoint,
        tmp_path,
        copy_function=os.link,
        dirs_exist_ok=True,
        ignore=lambda folder, names: set(names) - set(folders) if Path(folder) == tiny_checkpoint else (),
    )
    checkpoint = open_checkpoint(tmp_path, parts)
    assert set(checkpoint.weights) == set(parts)
    whole = open_checkpoint(tiny_checkpoint)
    for name, part in {"config": "audio_dit", "audio_vae": "audio_vae"}.items():
        if part in parts:
            assert getattr(checkpoint, name) == getattr(whole, name)
        else:
            with pytest.raises(MovaError, match="was opened without"):
                getattr(checkpoint, name)
    (tmp_path / folders[-1]).rename(tmp_path / "another")
    with pytest.raises(MovaError, match=folders[-1]):
        open_checkpoint(tmp_path, parts)
