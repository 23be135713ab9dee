"""Pictures and clips on disk: what is written comes back, and nothing half-written stays."""

import json
import math
import os
import stat
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from clips import listing, moving_frames, read_clip, tone
from sentences import refusal

from mova.clip import fit, media, reading

AAC_FRAME = 1024  # samples


# Where a clip may go


def test_a_good_output_path_passes_and_nothing_is_left_behind(tmp_path):
    (tmp_path / "old.mp4").write_bytes(b"old")
    media.check_output(tmp_path / "new.mp4")
    media.check_output(tmp_path / "old.mp4")
    media.check_output(tmp_path / "UPPER.MP4")
    assert listing(tmp_path) == ["old.mp4"] and (tmp_path / "old.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["clip.mov", "clip", "clip.mp4.png"])
def test_an_output_that_is_not_mp4_is_refused(tmp_path, name):
    assert ".mp4" in refusal(media.check_output, tmp_path / name)


def test_an_output_in_a_missing_folder_is_refused_and_the_folder_not_created(tmp_path):
    assert str(tmp_path / "no") in refusal(media.check_output, tmp_path / "no" / "clip.mp4")
    assert listing(tmp_path) == []


def test_an_output_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    assert "is a folder" in refusal(media.check_output, tmp_path / "clip.mp4")
    assert listing(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "a\0b.mp4"])
def test_an_output_name_that_the_disk_cannot_hold_is_refused(tmp_path, name):
    assert "cannot be written" in refusal(media.check_output, tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc is a folder where even root cannot write")
def test_an_output_in_a_folder_without_write_access_is_refused():
    assert "/proc/clip.mp4 cannot be written" in refusal(media.check_output, Path("/proc/clip.mp4"))


# Lengths and rates


def test_audio_is_cut_to_the_frames():
    waveform = torch.arange(100_000.0)[None]
    fitted = fit.fit_length(waveform, 25, 24.0, 48000)
    assert torch.equal(fitted, waveform[:, :50_000])


def test_audio_is_padded_with_silence_to_the_frames():
    fitted = fit.fit_length(torch.ones(2, 10), 25, 12.5, 44100)
    assert fitted.shape == (2, 88_200) and fitted.sum() == 20


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (24, Fraction(24)),
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (16.666667, Fraction(50, 3)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
    ],
)
def test_a_rate_becomes_the_fraction_that_is_meant(fps, rate):
    assert media.frame_rate(fps) == rate


@pytest.mark.parametrize("fps", [0, -24, math.nan, math.inf])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    assert "frames a second" in refusal(media.write_clip, tmp_path / "a.mp4", moving_frames(1), fps, None)


# Clips


@pytest.mark.parametrize("fps", [24, 23.976, 30, 12.5])
@pytest.mark.parametrize("count", [1, 25, 49])
@pytest.mark.parametrize("given", [0.3, 2.0], ids=["short", "long"])
def test_a_clip_has_the_asked_frames_rate_and_sound_of_their_length(tmp_path, fps, count, given):
    path = tmp_path / "clip.mp4"
    wanted = round(count / fps * 48000)
    media.write_clip(path, moving_frames(count), fps, tone(round(wanted * given)))

    info = reading.read_clip_info(path)
    assert (info.frames, info.width, info.height) == (count, 48, 32)
    assert info.fps == pytest.approx(fps, abs=1e-4) and info.duration_s == pytest.approx(count / fps, abs=1e-4)
    assert (info.video_codec, info.audio_codec, info.sample_rate, info.channels) == ("h264", "aac", 48000, 1)
    frames, waveform, rate, read_fps = read_clip(path)
    assert (frames.shape, frames.dtype, rate, read_fps) == ((count, 32, 48, 3), torch.uint8, 48000, info.fps)
    assert abs(waveform.shape[1] - wanted) <= AAC_FRAME
    assert listing(tmp_path) == ["clip.mp4"]


def test_frames_come_back_in_order(tmp_path):
    written = moving_frames(25)
    media.write_clip(tmp_path / "a.mp4", written, 24, None)
    read = read_clip(tmp_path / "a.mp4")[0]
    distance = (read[:, None].float() - written[None].float()).abs().mean(dim=(2, 3, 4))
    assert distance.argmin(dim=1).tolist() == list(range(25))


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (190, 90, 60)])
def test_colours_come_back(tmp_path, colour):
    media.write_clip(tmp_path / "a.mp4", torch.tensor(colour, dtype=torch.uint8).expand(3, 32, 32, 3), 24, None)
    read = read_clip(tmp_path / "a.mp4")[0].float()
    assert (read - torch.tensor(colour)).abs().max() <= 4


def test_frames_are_read_neither_darker_nor_lighter_than_they_are_stored(tmp_path):
    """BT.709 in limited range, of the frames' grey (luma alone), against libswscale's tables, which round down."""
    grey = torch.arange(256, dtype=torch.uint8).view(16, 16).repeat_interleave(4, 0).repeat_interleave(4, 1)
    media.write_clip(tmp_path / "a.mp4", grey[None, ..., None].expand(3, 64, 64, 3), 24, None, crf=1)
    with av.open(tmp_path / "a.mp4") as container:
        luma = [torch.from_numpy(frame.to_ndarray()[:64]).float() for frame in container.decode(video=0)]
    wanted = ((torch.stack(luma) - 16) * 255 / 219).clamp(0, 255)
    error = read_clip(tmp_path / "a.mp4")[0].float() - wanted[..., None]
    assert error.mean().abs() < 0.2 and error.abs().max() < 2


def test_colours_are_converted_by_bt709_in_limited_range():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(16, 16, 3)
    planes = media.video_frame(red, 0, Fraction(24)).to_ndarray()
    luma, blue, red_difference = planes[0, 0], planes[16, 0], planes[20, 0]
    assert luma == pytest.approx(16 + 219 * 0.2126, abs=1)
    assert blue == pytest.approx(128 - 224 * 0.2126 / 1.8556, abs=1)
    assert red_difference == pytest.approx(240, abs=1)


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (48000, 2), (44100, 1)])
def test_sound_comes_back_in_sync(tmp_path, rate, channels):
    written = tone(rate * 49 // 24, rate, channels)
    written[:, : rate // 2] = 0  # an onset, since a tone alone also fits when shifted by a period
    media.write_clip(tmp_path / "a.mp4", moving_frames(49), 24, written, sample_rate=rate)
    read = read_clip(tmp_path / "a.mp4")[1][:, : written.shape[1]]
    assert read.shape == written.shape
    for channel in range(channels):
        assert torch.corrcoef(torch.stack([read[channel], written[channel]]))[0, 1] > 0.99
        assert read[channel].std() == pytest.approx(written[channel].std().item(), rel=0.05)
    assert read[:, : rate // 2 - AAC_FRAME].abs().max() < 0.01


def test_sound_louder_than_full_scale_is_clipped_to_it(tmp_path):
    media.write_clip(tmp_path / "loud.mp4", moving_frames(5), 24, tone(10_000) * 20)
    media.write_clip(tmp_path / "clipped.mp4", moving_frames(5), 24, (tone(10_000) * 20).clamp(-1, 1))
    loud, clipped = (read_clip(tmp_path / name)[1] for name in ("loud.mp4", "clipped.mp4"))
    assert torch.equal(loud, clipped)


def test_a_clip_without_sound_has_no_sound_track(tmp_path):
    media.write_clip(tmp_path / "a.mp4", moving_frames(5), 24, None)
    info = reading.read_clip_info(tmp_path / "a.mp4")
    assert (info.frames, info.audio_codec, info.sample_rate, info.channels, info.settings) == (5, None, 0, 0, {})
    assert read_clip(tmp_path / "a.mp4")[1:3] == (None, 0)


def test_a_clip_goes_under_a_name_in_any_script(tmp_path):
    path = tmp_path / "火箭 é 🚀.mp4"
    media.check_output(path)
    media.write_clip(path, moving_frames(2), 24, None)
    assert reading.read_clip_info(path).frames == 2 and listing(tmp_path) == [path.name]


def test_settings_survive(tmp_path):
    settings = {
        "prompt": '一只猫 🐈 says "hi"\n; # \\ =',
        "seed": 2**63,
        "cfg": 5.5,
        "loras": [["a", 1.0]],
        "none": None,
    }
    media.write_clip(tmp_path / "a.mp4", moving_frames(2), 24, None, settings=settings)
    assert reading.read_clip_info(tmp_path / "a.mp4").settings == settings
    assert "一只猫 🐈".encode() in (tmp_path / "a.mp4").read_bytes()


def test_long_settings_survive(tmp_path):
    settings = {"prompt": "海浪🌊 " * 2500}
    assert len(json.dumps(settings, ensure_ascii=False).encode()) > 20_000
    media.write_clip(tmp_path / "a.mp4", moving_frames(2), 24, None, settings=settings)
    assert reading.read_clip_info(tmp_path / "a.mp4").settings == settings


def test_a_path_and_an_undecodable_name_in_the_settings_do_not_lose_the_clip(tmp_path):
    settings = {"model": Path("models/mova"), "image": "caf\udce9.png"}
    media.write_clip(tmp_path / "a.mp4", moving_frames(2), 24, None, settings=settings)
    read = reading.read_clip_info(tmp_path / "a.mp4").settings
    assert read == {"model": str(Path("models/mova")), "image": "caf\udce9.png"}


def test_a_comment_that_is_not_ours_gives_no_settings():
    assert [reading.object_from_json(text) for text in ("made with love", "[1]", "", "[" * 100_000)] == [{}] * 4


def test_the_index_of_a_clip_is_in_front(tmp_path):
    media.write_clip(tmp_path / "a.mp4", moving_frames(5), 24, tone(10_000))
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no colons in names")
def test_a_clip_in_a_folder_named_like_an_address_is_written(tmp_path, monkeypatch):
    (tmp_path / "http:").mkdir()
    monkeypatch.chdir(tmp_path)
    media.write_clip(Path("http:/a.mp4"), moving_frames(2), 24, None)
    assert reading.read_clip_info(Path("http:/a.mp4")).frames == 2


@pytest.mark.skipif(os.name == "nt", reason="permission bits of POSIX")
def test_a_clip_is_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    media.write_clip(tmp_path / "a.mp4", moving_frames(1), 24, None)
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": torch.zeros(2, 32, 48, 2, dtype=torch.uint8)}, "[F, H, W, 3 or 4]"),
        ({"frames": torch.zeros(0, 32, 48, 3, dtype=torch.uint8)}, "at least one"),
        ({"frames": torch.zeros(2, 32, 48, 3)}, "uint8"),
        ({"waveform": torch.zeros(0, 100)}, "[channels, samples]"),
        ({"waveform": torch.full((1, 100), math.nan)}, "NaN or infinite values"),
    ],
)
def test_what_a_clip_cannot_hold_is_refused_and_leaves_nothing(tmp_path, change, words):
    values = {"frames": moving_frames(2), "fps": 24, "waveform": tone(100), "sample_rate": 48000} | change
    assert words in refusal(media.write_clip, tmp_path / "a.mp4", *values.values())
    assert listing(tmp_path) == []
