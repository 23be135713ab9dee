"""Frames and sound of any kind become a clip that players can play, and it is said what was done to them."""

import json
import math
import shutil
import subprocess
from fractions import Fraction

import pytest
import torch
from clips import moving_frames, read_clip, tone
from sentences import refusal

from mova.clip import fit, media

FPS = Fraction(24)


def written(path, frames, waveform, rate):
    """The clip as it is read back, and what was told."""
    told = []
    media.write_clip(path, frames, 24, waveform, rate, tell=told.append)
    return read_clip(path), told


@pytest.mark.parametrize(
    ("given", "fitting"),
    [
        (48000, 48000), (44100, 44100), (96000, 96000), (7350, 7350), (40000, 44100), (176400, 96000), (192000, 96000),
        (384000, 96000), (37800, 44100), (44056, 44100), (22254, 24000), (44101, 48000), (6000, 7350), (4000, 7350),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_at_any_rate_is_written_at_one_that_aac_has(tmp_path, given, fitting, channels):
    hertz = 440 if given >= 6000 else 220
    sound = tone(given, given, channels, hertz)
    (_, waveform, rate, _), told = written(tmp_path / "a.mp4", moving_frames(24), sound, given)
    assert rate == fitting and waveform.shape[0] == channels
    assert 0 <= waveform.shape[1] - fitting <= 1024
    assert told == (
        [] if given == fitting else [f"The sound is resampled from {given} to {fitting} Hz, which AAC has."]
    )
    wanted, inner = tone(fitting, fitting, channels, hertz), slice(fitting // 4, fitting * 3 // 4)
    for channel, (heard, meant) in enumerate(zip(waveform, wanted, strict=True)):
        if channel != 3:  # the low-frequency one of 5.1, which is coded without what is high
            assert torch.corrcoef(torch.stack([heard[inner], meant[inner]]))[0, 1] > 0.99


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8])
def test_many_channels_are_mixed_down_to_stereo(tmp_path, channels):
    sound = tone(48000, 48000, channels)
    (_, waveform, rate, _), told = written(tmp_path / "a.mp4", moving_frames(24), sound, 48000)
    assert waveform.shape[0] == 2 and rate == 48000
    left_out = "; the low-frequency one is left out" if channels >= 7 else ""
    assert told == [f"The {channels} channels of the sound are mixed down to stereo{left_out}."]
    assert waveform.abs().max() < 1


def test_each_speaker_is_heard_on_its_side_and_nothing_clips():
    for channels, names in fit.SPEAKERS.items():
        assert len(names.split()) == channels
        left, right = fit.mixed_down(torch.eye(channels))
        for name, l_share, r_share in zip(names.split(), left.tolist(), right.tolist(), strict=True):
            assert (l_share > 0) == (name.endswith(("L", "C"))) and (r_share > 0) == (name.endswith(("R", "C"))), name
        assert left[0] / left[2] == pytest.approx(math.sqrt(2)), "the others are 3 dB below the front"
        assert fit.mixed_down(torch.ones(channels, 4)).max() <= 1 + 1e-6
    assert torch.equal(fit.mixed_down(torch.ones(16, 4)), torch.ones(1, 4))


def test_sixteen_channels_are_heard_as_one(tmp_path):
    (_, waveform, *_), told = written(tmp_path / "a.mp4", moving_frames(24), tone(48000, channels=16), 48000)
    assert waveform.shape[0] == 1 and told == ["The 16 channels of the sound are mixed down to mono."]


@pytest.mark.parametrize(
    ("size", "made"), [((33, 48), (32, 48)), ((32, 47), (32, 46)), ((33, 47), (32, 46)), ((1, 1), (2, 2))]
)
def test_odd_sizes_lose_a_row_or_a_column(tmp_path, size, made):
    frames = moving_frames(3, *size)
    (read, *_), told = written(tmp_path / "a.mp4", frames, None, 48000)
    assert read.shape == (3, *made, 3)
    assert told == [
        f"The frames of {size[1]}x{size[0]} are made {made[1]}x{made[0]}: MP4 needs an even width and height."
    ]
    kept = frames[:, : made[0], : made[1]]
    assert (read.float() - kept.expand_as(read).float()).abs().mean() < 6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_transparent_frames_are_put_on_white(dtype):
    solid = 255 if dtype == torch.uint8 else 1
    frames = torch.zeros(2, 4, 4, 4, dtype=dtype)
    frames[..., 3] = solid
    made, told = fit.fit_frames(frames)
    assert made.shape == (2, 4, 4, 3) and made.dtype == dtype and not made.any() and not told
    assert made.data_ptr() == frames.data_ptr(), "what is not transparent is not copied"
    frames[1, :, :2, 3] = 0
    frames[1, :, 2:, 3] = solid / 2 if solid == 1 else 51
    made, told = fit.fit_frames(frames)
    assert told == ["The frames are partly transparent, which MP4 has not; they are put on white."]
    assert not made[0].any() and (made[1, :, :2] == solid).all()
    assert (made[1, :, 2:] == (0.5 if solid == 1 else 204)).all()


def test_each_clip_of_a_batch_has_its_own_sound_of_its_length():
    sounds = torch.stack([torch.ones(1, 40000), 2 * torch.ones(1, 40000)])
    made = fit.fit(torch.zeros(14, 4, 4, 3), sounds, 48000, FPS)
    assert made.waveform.shape == (1, 1, 28000)
    assert (made.waveform[..., :14000] == 1).all() and (made.waveform[..., 14000:] == 2).all()
    assert (fit.fit(torch.zeros(13, 4, 4, 3), sounds, 48000, FPS).waveform == 1).all(), "one for all"


def test_of_a_long_sound_only_what_is_needed_is_resampled_and_the_rest_may_be_anything():
    sound = torch.randn(1, 1, 44101 * 4)
    first = fit.fit(torch.zeros(12, 4, 4, 3), sound, 44101, FPS)
    sound[..., 44101 * 2 :] = math.nan
    again = fit.fit(torch.zeros(12, 4, 4, 3), sound, 44101, FPS)
    assert first.waveform.shape == (1, 1, 24000) and torch.equal(first.waveform, again.waveform)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sound_that_is_not_numbers_is_refused_with_the_time(value):
    sound = torch.zeros(1, 2, 48000)
    sound[0, 1, 12000:12002] = value
    text = refusal(fit.fit, torch.zeros(24, 4, 4, 3), sound, 48000, FPS)
    assert text.startswith("The sound holds NaN or infinite values (2, the first at 0.250 s);")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_frames_that_are_not_numbers_are_refused_with_their_number(value):
    frames = torch.zeros(5, 4, 4, 3)
    frames[3, 1, 1, 1] = value
    assert refusal(fit.fit, frames, None, 0, FPS).startswith("Frame 3 of 5 holds NaN or infinite values;")


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe on the PATH")
@pytest.mark.parametrize(
    ("rate", "channels", "fitting", "heard"),
    [(40000, 2, 44100, 2), (384000, 1, 96000, 1), (4000, 8, 7350, 2), (44101, 6, 48000, 6)],
)
def test_ffprobe_sees_the_length_the_rate_and_the_channels(tmp_path, rate, channels, fitting, heard):
    path = tmp_path / "a.mp4"
    written(path, torch.cat([moving_frames(36, 33, 47)] * 2), tone(rate * 4, rate, channels), rate)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    video, audio = streams
    assert (video["width"], video["height"], video["nb_frames"]) == (46, 32, "72")
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", str(fitting), heard)
    for stream in streams:
        assert float(stream["start_time"]) == 0 and float(stream["duration"]) == pytest.approx(3, abs=0.002)
