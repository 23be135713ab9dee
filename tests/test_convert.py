"""The files that conversion writes are what they should be."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mova import JointModel, MovaConfig, MovaError
from mova.__main__ import main
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.weights import check_tensors, open_weights
from mova.convert.run import convert
from mova.model.shapes import expected_shapes
from mova.model.wan_vae_names import wan_name


@pytest.fixture(scope="module")
def models(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder, [file.path for file in convert(tiny_checkpoint, folder, stem="mova")]


def tensors(folder):
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def test_an_expert_s_file_is_the_joint_model_s_state_dict(tiny_checkpoint, models):
    folder, files = models
    assert [file.relative_to(folder).as_posix() for file in files] == [
        "diffusion_models/mova_high_noise_bf16.safetensors",
        "diffusion_models/mova_low_noise_bf16.safetensors",
        "vae/mova_audio_vae.safetensors",
        "vae/mova_wan_vae.safetensors",
    ]
    for file, part in zip(files, ("video_dit", "video_dit_2"), strict=False):
        weights = open_weights(file)
        config = MovaConfig.from_file(weights.shapes(), weights.metadata)
        assert config == open_checkpoint(tiny_checkpoint).config
        check_tensors(weights.tensors, expected_shapes(JointModel(config, device="meta")), str(file))
        written, source = load_file(file), tensors(tiny_checkpoint / part)
        assert all(torch.equal(written[name], tensor) for name, tensor in source.items())
        bridge = tensors(tiny_checkpoint / "dual_tower_bridge")
        assert all(torch.equal(written[f"dual_tower_bridge.{name}"], tensor) for name, tensor in bridge.items())
        expert = json.loads(weights.metadata["config"])["transformer"]["expert"]
        assert expert == {"video_dit": "high_noise", "video_dit_2": "low_noise"}[part]
        told = {name: weights.metadata[name] for name in ("source", "part", "dtype", "format")}
        assert told == {"source": "tiny", "part": expert, "dtype": "bf16", "format": "pt"}


def test_the_audio_vae_is_the_same_in_one_file(tiny_checkpoint, models):
    written, source = load_file(models[1][2]), tensors(tiny_checkpoint / "audio_vae")
    assert written.keys() == source.keys() and all(torch.equal(written[name], source[name]) for name in source)


def test_every_video_vae_tensor_gets_a_name_of_its_own(tiny_checkpoint, models):
    written, source = load_file(models[1][3]), tensors(tiny_checkpoint / "video_vae")
    assert len(written) == len(source)
    assert all(torch.equal(written[wan_name(name)], tensor) for name, tensor in source.items())


def test_the_released_video_vae_gets_wan_s_names():
    from diffusers import AutoencoderKLWan  # seconds to import, in every process that collects tests

    # Some names of the published Wan2.1_VAE file, one of each kind, and how many there are in all.
    with torch.device("meta"):
        names = {wan_name(name): tuple(t.shape) for name, t in AutoencoderKLWan().state_dict().items()}
    assert len(names) == 194
    wanted = {
        "conv1.weight": (32, 32, 1, 1, 1),
        "conv2.weight": (16, 16, 1, 1, 1),
        "encoder.conv1.weight": (96, 3, 3, 3, 3),
        "encoder.downsamples.2.resample.1.weight": (96, 96, 3, 3),
        "encoder.downsamples.3.shortcut.weight": (192, 96, 1, 1, 1),
        "encoder.downsamples.5.time_conv.weight": (192, 192, 3, 1, 1),
        "encoder.downsamples.10.residual.6.weight": (384, 384, 3, 3, 3),
        "encoder.middle.1.to_qkv.weight": (1152, 384, 1, 1),
        "encoder.head.2.weight": (32, 384, 3, 3, 3),
        "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1),
        "decoder.upsamples.3.resample.1.weight": (192, 384, 3, 3),
        "decoder.upsamples.4.shortcut.weight": (384, 192, 1, 1, 1),
        "decoder.upsamples.7.time_conv.weight": (768, 384, 3, 1, 1),
        "decoder.upsamples.14.residual.3.gamma": (96, 1, 1, 1),
        "decoder.head.0.gamma": (96, 1, 1, 1),
    }
    assert {name: names.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(("dtype", "stored"), [("fp16", torch.float16), ("fp32", torch.float32)])
def test_experts_can_be_cast(tiny_checkpoint, tmp_path, dtype, stored):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--dtype", dtype, "--name", "x"]) == 0
    written = load_file(tmp_path / "diffusion_models" / f"x_low_noise_{dtype}.safetensors")
    source = tensors(tiny_checkpoint / "video_dit_2")
    assert all(torch.equal(written[name], tensor.to(stored)) for name, tensor in source.items())


def test_the_library_reads_what_is_written(models):
    for file in models[1]:
        with safe_open(file, "pt") as opened:
            assert opened.metadata()["format"] == "pt" and len(list(opened.keys())) > 100


def test_the_vaes_keep_their_dtype_and_tell_their_configuration(tiny_checkpoint, models):
    for file, part in ((models[1][2], "audio_vae"), (models[1][3], "video_vae")):
        weights = open_weights(file)
        assert {info.dtype for info in weights.tensors.values()} == {"BF16"}
        assert weights.metadata["dtype"] == "as stored" and weights.metadata["part"] == part
        told = json.loads(weights.metadata["config"])[part]
        given = json.loads((tiny_checkpoint / part / "config.json").read_text())
        assert {name: given[name] for name in told if name in given} == {n: told[n] for n in told if n in given}


@pytest.fixture
def with_tokenizer(release, tmp_path):
    """A checkpoint with the tokenizer in ComfyUI's form too, to be changed."""
    return shutil.copytree(release, tmp_path / "tiny")


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_text_encoder_is_one_file_with_its_tokenizer(with_tokenizer, tmp_path, dtype):
    (file,) = convert(with_tokenizer, tmp_path / "models", dtype, parts=["text_encoder"])
    assert file.path == tmp_path / "models" / "text_encoders" / f"tiny_umt5_xxl_{dtype}.safetensors"
    written, source = load_file(file.path), tensors(with_tokenizer / "text_encoder")
    tokenizer = (with_tokenizer / "tokenizer" / "spiece.model").read_bytes()
    assert written.pop("spiece_model").numpy().tobytes() == tokenizer
    assert written.keys() == source.keys()
    assert "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in written
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    assert all(torch.equal(written[name], tensor.to(wanted)) for name, tensor in source.items())
    config = json.loads(open_weights(file.path).metadata["config"])["text_encoder"]
    assert config["d_model"] == 4096 and config["num_layers"] == 2


def test_the_embedding_is_written_once_under_the_name_that_comfyui_reads(with_tokenizer, tmp_path):
    file = with_tokenizer / "text_encoder" / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}  # Windows keeps mapped files
    save_file({**state, "encoder.embed_tokens.weight": state["shared.weight"].clone()}, file)
    (done,) = convert(with_tokenizer, tmp_path / "models", parts=["text_encoder"])
    assert load_file(done.path).keys() == {*state, "spiece_model"}


def test_without_its_tokenizer_the_text_encoder_is_left_out_or_refused(tiny_checkpoint, tmp_path, capsys):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "text_encoder is left out" in told.err and "lacks spiece.model" in told.err
    assert not (tmp_path / "text_encoders").exists() and (tmp_path / "vae" / "tiny_wan_vae.safetensors").exists()
    assert main(["convert", str(tiny_checkpoint), str(tmp_path / "other"), "--parts", "text_encoder"]) == 1
    assert "lacks spiece.model, the tokenizer that ComfyUI reads; download it" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_tokenizer_that_is_something_else_is_refused(with_tokenizer, tmp_path):
    (with_tokenizer / "tokenizer" / "spiece.model").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(MovaError, match=r"spiece\.model is not a sentencepiece model; download it"):
        list(convert(with_tokenizer, tmp_path / "models", parts=["text_encoder"]))


@pytest.mark.parametrize(
    ("given", "files"),
    [
        (["audio_vae"], ["vae/tiny_audio_vae"]),
        (["video_vae,high_noise"], ["diffusion_models/tiny_high_noise_bf16", "vae/tiny_wan_vae"]),
        (["low_noise", "video_vae"], ["diffusion_models/tiny_low_noise_bf16", "vae/tiny_wan_vae"]),
    ],
)
def test_only_the_parts_asked_for_are_written(tiny_checkpoint, tmp_path, given, files):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--parts", *given]) == 0
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == [f"{file}.safetensors" for file in files]


@pytest.mark.parametrize(
    ("kept", "part"),
    [
        (["video_dit", "audio_dit", "dual_tower_bridge"], "high_noise"),
        (["video_dit_2", "audio_dit", "dual_tower_bridge"], "low_noise"),
        (["audio_vae"], "audio_vae"),
        (["video_vae"], "video_vae"),
        (["text_encoder", "tokenizer"], "text_encoder"),
    ],
)
def test_parts_not_asked_for_may_be_absent(with_tokenizer, tmp_path, kept, part):
    half = tmp_path / "half"
    for folder in kept:
        shutil.copytree(with_tokenizer / folder, half / folder)
    (file,) = convert(half, tmp_path / "models", parts=[part])
    assert file.path.exists()
    with pytest.raises(MovaError, match=f"half lacks .*; download the rest, or .* with --parts {part}"):
        list(convert(half, tmp_path / "models"))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--parts", "audio_vae,sound"], "no part called 'sound'; choose among high_noise, low_noise, audio_vae"),
        (["--parts", ","], "No part is named; choose among high_noise"),
        (["--dtype", "fp7"], "no format called 'fp7'; choose one of bf16, fp16, fp32, fp8_e4m3_scaled"),
    ],
)
def test_an_unknown_part_or_dtype_is_told(tiny_checkpoint, tmp_path, capsys, more, named):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path / "models"), *more]) == 1
    assert named in capsys.readouterr().err and not (tmp_path / "models").exists()


def test_a_source_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MovaError, match="gone is neither a folder nor a file"):
        list(convert(tmp_path / "gone", tmp_path))


def test_a_damaged_part_is_named_before_anything_is_written(tiny_checkpoint, tmp_path):
    half = shutil.copytree(tiny_checkpoint, tmp_path / "half")
    file = half / "audio_dit" / "diffusion_pytorch_model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}  # Windows keeps mapped files
    name = sorted(state)[0]
    del state[name]
    save_file(state, file)
    with pytest.raises(MovaError, match=f"audio_dit.* lacks '{name}'"):
        list(convert(half, tmp_path / "models"))
    assert not (tmp_path / "models").exists()


def test_one_expert_s_file_is_rewritten_in_another_dtype(models, tmp_path):
    expert = models[1][1]
    (file,) = convert(expert, tmp_path, "fp32")
    assert file.path == tmp_path / "diffusion_models" / "mova_low_noise_fp32.safetensors"
    written, source = load_file(file.path), load_file(expert)
    assert written.keys() == source.keys()
    assert all(torch.equal(written[name], tensor.float()) for name, tensor in source.items())
    before, after = open_weights(expert).metadata, open_weights(file.path).metadata
    made_of = {expert.name: hashlib.sha256(expert.read_bytes()).hexdigest()}
    assert after == {**before, "dtype": "fp32", "source_sha256": json.dumps(made_of)}


def rewritten(file: Path, out: Path, **metadata: str) -> Path:
    with safe_open(file, "pt") as opened:
        kept = {name: value for name, value in opened.metadata().items() if name not in metadata}
    save_file(load_file(file), out, {**kept, **{name: value for name, value in metadata.items() if value}})
    return out


def test_a_file_that_cannot_be_rewritten_is_told(models, tmp_path):
    high, vae = models[1][0], models[1][2]
    with pytest.raises(MovaError, match="is not one expert's file with its configuration; give the released folder"):
        list(convert(vae, tmp_path))
    with pytest.raises(MovaError, match="is not one expert's file with its configuration"):
        list(convert(rewritten(high, tmp_path / "bare.safetensors", config=""), tmp_path))
    with pytest.raises(MovaError, match="holds the part high_noise, not low_noise"):
        list(convert(high, tmp_path, parts=["low_noise"]))
    with pytest.raises(MovaError, match="would be written over itself"):
        list(convert(high, models[0]))
    (quantised,) = convert(high, tmp_path, "fp8_e4m3_scaled")
    with pytest.raises(MovaError, match=r"is quantised \(F8_E4M3\); convert from the bf16 file"):
        list(convert(quantised.path, tmp_path))


def test_a_file_that_does_not_say_which_expert_it_is_needs_to_be_told(models, tmp_path):
    config = json.loads(open_weights(models[1][0]).metadata["config"])
    del config["transformer"]["expert"]
    nameless = rewritten(models[1][0], tmp_path / "mine.safetensors", config=json.dumps(config))
    with pytest.raises(MovaError, match="does not say which expert it is; add --parts high_noise or"):
        list(convert(nameless, tmp_path))
    (file,) = convert(nameless, tmp_path, parts=["low_noise"])
    assert file.path.name == "mine_low_noise_bf16.safetensors"
    assert json.loads(open_weights(file.path).metadata["config"])["transformer"]["expert"] == "low_noise"
