import json
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import load_file
from test_command_line import ROOT

from mova import JointModel, MovaConfig, MovaError
from mova.__main__ import main
from mova.checkpoint import check_tensors, expected_shapes, open_weights
from mova.convert import convert
from mova.folder import open_checkpoint
from mova.wan_vae_names import wan_name


@pytest.fixture(scope="module")
def models(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder, list(convert(open_checkpoint(tiny_checkpoint), folder))


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
        check_tensors(weights, expected_shapes(JointModel(config, device="meta")), str(file))
        written, source = load_file(file), tensors(tiny_checkpoint / part)
        assert all(torch.equal(written[name], tensor) for name, tensor in source.items())
        bridge = tensors(tiny_checkpoint / "dual_tower_bridge")
        assert all(torch.equal(written[f"dual_tower_bridge.{name}"], tensor) for name, tensor in bridge.items())
        expert = json.loads(weights.metadata["config"])["transformer"]["expert"]
        assert expert == {"video_dit": "high_noise", "video_dit_2": "low_noise"}[part]


def test_the_audio_vae_is_the_same_in_one_file(tiny_checkpoint, models):
    written, source = load_file(models[1][2]), tensors(tiny_checkpoint / "audio_vae")
    assert written.keys() == source.keys() and all(torch.equal(written[name], source[name]) for name in source)


def test_every_video_vae_tensor_gets_a_name_of_its_own(tiny_checkpoint, models):
    written, source = load_file(models[1][3]), tensors(tiny_checkpoint / "video_vae")
    assert len(written) == len(source)
    assert all(torch.equal(written[wan_name(name)], tensor) for name, tensor in source.items())


def test_the_released_video_vae_gets_wan_s_names():
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


def test_a_destination_that_cannot_be_written_is_told(tiny_checkpoint, tmp_path):
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(MovaError, match="cannot be made"):
        list(convert(open_checkpoint(tiny_checkpoint), tmp_path / "models"))


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
def test_a_full_disk_leaves_nothing_half_written(tiny_checkpoint, tmp_path):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from mova.__main__ import main
sys.exit(main(["convert", {str(tiny_checkpoint)!r}, {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "could not be written (File too large)" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
