"""Clips and captions become what is trained on: each once, none silently left out."""

import json
import os

import numpy as np
import pytest
import torch
from clips import moving_frames, tone
from PIL import Image
from safetensors.torch import load

from mova import MovaError
from mova.checkpoint.release import open_checkpoint
from mova.clip.media import write_clip
from mova.clip.runtime import Runtime
from mova.model import video_vae
from mova.sampling.conditioning import audio_latents
from mova.train import media
from mova.train.cache import Cache
from mova.train.media import Shapes, nearest_size, read_clip
from mova.train.prepare import PARTS, prepare
from mova.train.samples import Sample, Skipped, find_samples

SHAPES = Shapes([(48, 32), (32, 48), (32, 32)], [5, 9])
CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def encoders(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint, PARTS)


def clip(folder, name, count=30, fps=24.0, caption="a rocket", size=(32, 48), sound=True, rate=48000, channels=1):
    samples = round(count / fps * rate)
    write_clip(folder / name, moving_frames(count, *size), fps, tone(samples, rate, channels) if sound else None, rate)
    if caption is not None:
        (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")


def test_a_folder_becomes_latents_that_a_step_takes(encoders, tmp_path):
    data, out = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    clip(data, "wide.mp4", 30)
    clip(data, "high.mp4", 16, 30.0, "upright", (48, 32), rate=44100, channels=2)
    clip(data, "mute.mp4", 9, sound=False, caption="nothing is heard")
    notices = []
    made = prepare(encoders, data, out, SHAPES, Runtime(CPU.device, CPU.dtype, notice=notices.append))
    assert not made.skipped.reasons and made.silent == 1 and made.kept == 0
    entries, nothing, checkpoint = Cache(out).index()
    assert [entry.name for entry in entries] == ["high.mp4", "mute.mp4", "wide.mp4"]
    assert checkpoint == encoders.root.absolute()
    items = {entry.name: Cache(out).item(entry.clip) for entry in entries}
    assert items["wide.mp4"].video.shape == (1, 16, 3, 4, 6) and items["high.mp4"].video.shape == (1, 16, 3, 6, 4)
    assert all(item.audio.shape == (1, 128, audio_latents(9, 24.0)) for item in items.values())
    assert {name: item.sound for name, item in items.items()} == {"wide.mp4": True, "high.mp4": True, "mute.mp4": False}
    mask = items["wide.mp4"].condition[:, :4]
    assert mask[:, :, 0].eq(1).all() and mask[:, :, 1:].eq(0).all()
    text, none = (Cache(out).text(key) for key in (entries[0].text, nothing))
    assert text.shape == none.shape == (1, 512, 4096) and not torch.equal(text, none)
    assert text[:, len("upright") + 1 :].abs().max() == 0 < text[:, len("upright")].abs().max()
    with Image.open(made.sheets[0]) as sheet:
        assert sheet.size[1] > 3 * 120
        assert len(set(np.asarray(sheet).reshape(-1, 3)[::97].tobytes())) > 10


def test_latents_are_the_vaes_modes_of_the_clip_and_of_its_first_frame(encoders, tmp_path):
    clip(tmp_path, "one.mp4", 9)
    read = read_clip(Sample("one.mp4", tmp_path / "one.mp4", "x"), SHAPES, 48000)
    made = prepare(encoders, tmp_path, tmp_path / "cache", SHAPES, CPU)
    item = Cache(tmp_path / "cache").item(made.entries[0].clip)
    from mova.clip.pipeline import load_audio_vae, load_video_vae

    with torch.inference_mode():
        vae, pictures = load_video_vae(encoders, CPU), (read.frames * 2 - 1).permute(3, 0, 1, 2)[None]
        assert torch.allclose(item.video, video_vae.encode(vae, pictures), atol=1e-5)
        first = torch.cat([pictures[:, :, :1], torch.zeros_like(pictures[:, :, 1:])], dim=2)
        assert torch.allclose(item.condition[:, 4:], video_vae.encode(vae, first), atol=1e-5)
        audio = load_audio_vae(encoders, CPU.device).encode(read.waveform[None])[0]
        assert torch.allclose(item.audio, audio, atol=1e-4 * audio.abs().max())


@pytest.mark.parametrize(("fps", "rate", "channels"), [(24, 48000, 1), (30, 44100, 2), (60, 22050, 6), (12.5, 8000, 1)])
def test_any_rate_becomes_the_release_s_and_sound_stays_with_the_picture(fps, rate, channels, tmp_path):
    """A tone that starts with the second half: where the picture is past its middle."""
    count = round(2 * fps)
    sound = tone(2 * rate, rate, channels)
    sound[:, :rate] = 0
    write_clip(tmp_path / "c.mp4", moving_frames(count), fps, sound, rate)
    read = read_clip(Sample("c", tmp_path / "c.mp4", "x"), Shapes([(48, 32)], [45]), 48000)
    assert len(read.frames) == 45 and read.waveform.shape == (1, 45 * 2000)
    starts = int((read.waveform[0].abs() > 0.05).nonzero()[0])
    assert abs(starts / 48000 - 1) < 0.03
    green = read.frames[:, :, :, 2].mean(dim=(1, 2))  # of moving_frames: it grows with time
    half = float((green[0] + green[-1]) / 2)
    assert abs(int((green > half).nonzero()[0]) - 22.5) < 3


def test_a_list_names_clips_stretches_and_other_sound(encoders, tmp_path):
    clip(tmp_path, "a.mp4", 60, caption=None)
    write_clip(tmp_path / "s.mp4", moving_frames(60), 24.0, tone(120000, hertz=1000), 48000)
    lines = [
        {"video": "a.mp4", "caption": "from the start"},
        {"video": "a.mp4", "caption": "later", "start": 1.0, "seconds": 0.25},
        {"video": "a.mp4", "caption": "other sound", "audio": "s.mp4"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    skipped = Skipped()
    samples = find_samples(tmp_path / "list.jsonl", skipped)
    first, later, other = (read_clip(sample, SHAPES, 48000) for sample in samples)
    assert not skipped.reasons and [len(read.frames) for read in (first, later, other)] == [9, 5, 9]
    assert not torch.allclose(first.frames[:5], later.frames, atol=0.05)
    crossings = [int((read.waveform[0].diff().sign().diff() != 0).sum()) for read in (first, other)]
    assert crossings[1] / crossings[0] == pytest.approx(1000 / 440, rel=0.05)


def test_what_was_encoded_is_kept_and_what_was_damaged_is_made_again(encoders, tmp_path, monkeypatch):
    data, out = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    for name, count in (("a", 9), ("b", 8)):
        clip(data, f"{name}.mp4", count, caption=f"clip {name}")
    first = prepare(encoders, data, out, SHAPES, CPU)
    before = {path: load(path.read_bytes()) for path in out.rglob("*.safetensors")}
    read = []
    monkeypatch.setattr("mova.train.prepare.read_clip", lambda *given: read.append(given) or read_clip(*given))
    os.utime(data / "a.mp4")
    (data / "b.mp4").rename(data / "c.mp4")  # keyed by content, not by name or time
    (data / "b.txt").rename(data / "c.txt")
    again = prepare(encoders, data, out, SHAPES, CPU)
    assert again.kept == 2 and not read
    assert [entry.clip for entry in again.entries] == [entry.clip for entry in first.entries]
    damaged = Cache(out).clip_path(first.entries[0].clip)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(MovaError, match=r"lacks a\.mp4 .* or it is damaged"):
        Cache(out).index()
    mended = prepare(encoders, data, out, SHAPES, CPU)
    assert mended.kept == 1 and len(read) == 1
    after = {path: load(path.read_bytes()) for path in out.rglob("*.safetensors")}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[path][name], tensor) for path in before for name, tensor in before[path].items())
    assert prepare(encoders, data, out, Shapes(SHAPES.sizes, [5]), CPU).kept == 0  # another length is another clip


def test_a_shape_takes_the_nearest_size():
    sizes = [(640, 352), (352, 640), (480, 480)]
    shapes = {(1920, 1080): (640, 352), (1080, 1920): (352, 640), (1000, 1000): (480, 480), (1080, 1350): (480, 480)}
    assert {given: nearest_size(given, sizes) for given in shapes} == shapes


def test_a_sound_that_cannot_be_heard_is_none():
    assert media.mono(torch.zeros(2, 48000), 48000, 48000, 18000) is None
    assert media.mono(torch.full((2, 0), 1.0), 48000, 48000, 18000) is None
    assert media.mono(torch.ones(2, 100), 48000, 48000, 18000).shape == (1, 18000)
