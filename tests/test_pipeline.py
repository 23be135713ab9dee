import collections
import dataclasses
import gc
import os
import re
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
from golden import error
from PIL import Image
from safetensors.torch import load_file, save_file

from mova import Cancelled, MovaError
from mova.checkpoint.release import EXPERT_FOLDERS, open_checkpoint
from mova.clip import denoise
from mova.clip.pipeline import decode_audio, decode_video, encode_images, encode_prompts, generate
from mova.clip.request import Request, settings_of
from mova.clip.runtime import Runtime
from mova.model import attention, text, video_vae
from mova.sampling.guidance import Guidance

SMALL = Request("A rocket lifts off", width=32, height=32, frames=5, steps=4)
FLOAT = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def plain(checkpoint):
    return latents(checkpoint)


def title(change):
    """A test's name: without a picture's address in memory, since it must be the same in every process."""
    if isinstance(change, str):
        return change
    return ", ".join(name if isinstance(value, Image.Image) else f"{name}={value}" for name, value in change.items())


def latents(checkpoint, runtime=FLOAT, **changes):
    result = generate(checkpoint, dataclasses.replace(SMALL, **changes), runtime)
    return result.video_latent, result.audio_latent


def test_a_seed_means_the_same_latents_and_another_seed_others(checkpoint):
    first, again, other = (latents(checkpoint, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(error(a, b) > 0.1 for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"image": Image.new("RGB", (40, 30), "red")},
        {"end_image": Image.new("RGB", (40, 30), "red")},
        {"text_only_frame": "none"},
        {"prompt": "A cat purrs"},
        {"negative_prompt": "noise"},
        {"guidance": Guidance(3.0)},
        {"guidance": Guidance(5.0, bridge=2.0)},
        {"guidance": Guidance(5.0, audio_text=2.0)},
        {"video_shift": 3.0},
        {"audio_shift": 3.0},
        {"boundary": 0.5},
        {"fps": 12.0},
    ],
    ids=title,
)
def test_every_setting_has_an_effect(checkpoint, plain, change):
    changed = latents(checkpoint, **change)
    assert not torch.equal(plain[0], changed[0])


def test_frames_and_sound_have_the_length_asked_for(checkpoint):
    result = generate(checkpoint, dataclasses.replace(SMALL, frames=9, width=48), FLOAT)
    assert result.frames.shape == (9, 32, 48, 3) and result.frames.dtype == torch.uint8
    assert result.waveform.shape == (1, 9 * 48000 // 24)
    assert 0 < result.waveform.abs().max() <= 1


def test_bfloat16_stays_close_to_float32(checkpoint, plain):
    exact, rounded = plain, latents(checkpoint, Runtime(torch.device("cpu"), torch.bfloat16))
    assert all(error(b, a) < 0.1 for a, b in zip(exact, rounded, strict=True))


@pytest.mark.parametrize("name", ["sdpa", "onednn"])
def test_every_attention_kernel_of_the_cpu_gives_the_same(checkpoint, plain, name):
    one, other = plain, latents(checkpoint, dataclasses.replace(FLOAT, attention=name))
    assert all(error(a, b) < 1e-4 for a, b in zip(one, other, strict=True))


def test_the_parts_run_one_after_the_other_and_every_step_is_told(checkpoint):
    parts, steps = [], []
    generate(
        checkpoint,
        SMALL,
        dataclasses.replace(FLOAT, part=parts.append, step=lambda done, of: steps.append((done, of))),
    )
    assert parts == [
        "text encoder", "video VAE, encoding", "audio tower and bridge", "high-noise expert", "low-noise expert",
        "video VAE, decoding", "audio VAE",
    ]  # fmt: skip
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(("boundary", "used"), [(0.0, "high-noise expert"), (1.0, "low-noise expert")])
def test_an_expert_without_steps_is_not_loaded(checkpoint, boundary, used):
    parts = []
    # The first timestep is 1000, which is below no boundary: the high-noise expert always has one step.
    runtime = dataclasses.replace(FLOAT, part=parts.append)
    generate(checkpoint, dataclasses.replace(SMALL, boundary=boundary), runtime)
    assert used in parts
    assert ("low-noise expert" in parts) == (boundary == 1.0)


def test_only_one_expert_is_in_memory_at_a_time(checkpoint, monkeypatch):
    load, high = denoise.load_expert, []
    alive = []

    def load_expert(model, checkpoint, runtime, part, *loras):
        load(model, checkpoint, runtime, part, *loras)
        if part == EXPERT_FOLDERS[0]:
            high.extend(weakref.ref(p) for name, p in model.named_parameters() if name.startswith("blocks"))
        gc.collect()
        alive.append(sum(ref() is not None for ref in high))

    monkeypatch.setattr(denoise, "load_expert", load_expert)
    parts = []
    generate(checkpoint, SMALL, dataclasses.replace(FLOAT, part=lambda name: parts.append(name)))
    assert alive[0] == len(high) > 0
    assert alive[1] == 0


def test_nothing_is_kept_after_a_run(checkpoint):
    before = whole_models()
    generate(checkpoint, SMALL, FLOAT)
    assert whole_models() == before


def test_each_part_is_gone_before_the_next_is_loaded(checkpoint):
    before, seen = whole_models(), []
    generate(checkpoint, SMALL, dataclasses.replace(FLOAT, part=lambda name: seen.append((name, whole_models()))))
    for name, models in seen:
        expert = name.endswith("expert")  # goes into the joint model that is already there
        assert models - before == collections.Counter(["JointModel"] if expert else [])


def whole_models():
    """How many models of each kind are in memory."""
    gc.collect()
    return collections.Counter(name for o in gc.get_objects() if (name := type(o).__name__) in WHOLE_MODELS)


WHOLE_MODELS = {"JointModel", "AudioVAE", "AutoencoderKLWan", "UMT5EncoderModel"}


def test_a_cancelled_run_stops_within_a_step(checkpoint):
    steps = []
    runtime = dataclasses.replace(FLOAT, step=lambda done, of: steps.append(done), cancelled=lambda: len(steps) == 3)
    with pytest.raises(Cancelled):
        generate(checkpoint, SMALL, runtime)
    assert steps == [1, 2, 3]


def test_one_file_and_shards_hold_the_same_model(plain, tiny_checkpoint, tmp_path):
    whole = shutil.copytree(tiny_checkpoint, tmp_path / "whole", copy_function=os.link)
    shutil.rmtree(whole / "video_dit")
    (whole / "video_dit").mkdir()
    shards = sorted((tiny_checkpoint / "video_dit").glob("*.safetensors"))
    assert len(shards) > 1
    state = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    save_file(state, whole / "video_dit" / "diffusion_pytorch_model.safetensors")
    (whole / "video_dit" / "config.json").write_text((tiny_checkpoint / "video_dit" / "config.json").read_text())
    one, other = plain, latents(open_checkpoint(whole))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_prompts_are_cleaned_and_padded_with_zeros(checkpoint):
    one, other = encode_prompts(checkpoint, dataclasses.replace(SMALL, prompt="a  b &amp;amp; c\n"), FLOAT)
    assert one.shape == other.shape == (1, text.TOKENS, 4096)
    clean = encode_prompts(checkpoint, dataclasses.replace(SMALL, prompt="a b & c"), FLOAT)[0]
    assert torch.equal(one, clean)
    tokens = len("a b & c") + 1  # bytes and </s>
    assert one[0, :tokens].abs().sum(-1).min() > 0 and one[0, tokens:].eq(0).all()


def test_video_latents_are_normalised_by_the_wan_statistics(checkpoint):
    vae = video_vae.load(checkpoint.root / "video_vae", torch.float32, torch.device("cpu"))
    clip = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(clip).latent_dist.mode()
        found = video_vae.encode(vae, clip)
        shown = vae.decode(raw).sample
    mean, std = (torch.tensor(getattr(vae.config, name)) for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(found[0, :, 0, 0, 0], (raw[0, :, 0, 0, 0] - mean) / std)
    frames = decode_video(checkpoint, FLOAT, found)
    wanted = ((shown[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).round()
    assert (frames.float() - wanted).abs().max() <= 1


def test_the_photograph_is_what_the_condition_holds(checkpoint, photograph):
    picture = Image.open(photograph)
    condition = encode_images(checkpoint, dataclasses.replace(SMALL, image=picture), FLOAT)
    assert condition.shape == (1, 20, 2, 4, 4)
    assert condition[:, :4, 0].eq(1).all() and condition[:, :4, 1].eq(0).all()


def test_the_audio_vae_computes_in_float32_whatever_it_is_stored_in(checkpoint):
    latent = torch.randn(1, 128, 7)
    waveform = decode_audio(checkpoint, Runtime(torch.device("cpu"), torch.bfloat16), latent)
    assert waveform.dtype == torch.float32
    # bf16 arithmetic would leave a handful of distinct values.
    assert waveform.unique().numel() > 6000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"boundary": 2.0}, "boundary is 2.0"),
        ({"fps": 0.0}, "frame rate 0.0"),
        ({"audio_shift": -1.0}, "shift is -1.0"),
        ({"width": 30}, "width 30 .* 32"),
        ({"frames": 6}, "6 frames .* 5 or 9"),
        ({"frames": 1, "end_image": Image.new("RGB", (8, 8))}, "one frame"),
    ],
    ids=title,
)
def test_wrong_values_are_refused_before_anything_is_loaded(checkpoint, change, named):
    parts = []
    with pytest.raises(MovaError, match=named):
        generate(checkpoint, dataclasses.replace(SMALL, **change), dataclasses.replace(FLOAT, part=parts.append))
    assert not parts


def test_without_the_package_that_cleans_prompts_its_installation_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MovaError, match=f"run .*{re.escape(sys.executable)}.* -m pip install ftfy$"):
        text.clean("a rocket")


def test_a_device_without_room_is_told(checkpoint):
    # A clip of a million hours: the text encoder runs, and its picture does not fit.
    with pytest.raises(MovaError, match=r"The memory of cpu is full; take fewer frames"):
        generate(checkpoint, dataclasses.replace(SMALL, frames=4 * 10**11 + 1), FLOAT)


def test_settings_name_all_that_a_clip_was_made_with(checkpoint):
    settings = settings_of(checkpoint, SMALL, FLOAT)
    assert settings["video_shift"] == settings["audio_shift"] == 5.0 and settings["boundary"] == 0.9
    assert settings["checkpoint"] == Path(checkpoint.root).name and settings["image"] is False
    assert settings["tiled_vae"] is False and settings["torch"] == torch.__version__
    tiled = settings_of(checkpoint, SMALL, dataclasses.replace(FLOAT, tiled_vae=True))
    assert tiled["tiled_vae"] is True


def test_the_version_in_a_clip_is_the_pack_s(checkpoint):
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    version = settings_of(checkpoint, SMALL, FLOAT)["mova"]
    assert f'\nversion = "{version}"\n' in project


def test_a_clip_is_the_same_in_low_memory_and_says_how_it_was_made(checkpoint, plain, monkeypatch):
    monkeypatch.setattr(attention, "LONG", 0)  # or a clip this small would be done at once
    runtime = dataclasses.replace(FLOAT, low_memory=True)
    assert all(error(b, a) < 1e-4 for a, b in zip(plain, latents(checkpoint, runtime), strict=True))
    kept = settings_of(checkpoint, SMALL, runtime)
    assert kept["low_memory"] is True and kept["elementwise"] == "torch"


def test_kernels_that_cannot_run_are_refused_before_anything_is_loaded(checkpoint):
    parts = []
    runtime = dataclasses.replace(FLOAT, elementwise="triton", part=parts.append)
    with pytest.raises(MovaError, match=r"package triton \(here: cpu\)"):
        generate(checkpoint, SMALL, runtime)
    assert not parts
