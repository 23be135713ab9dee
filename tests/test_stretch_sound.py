"""The sound of a stretch of a video, what cannot be read of one, and how much memory it takes."""

import math
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import read_clip, tone
from sentences import refusal
from videos import numbered, numbers, write, write_timed

import mova
from mova.clip.decoding import File
from mova.clip.memory import Frames
from mova.clip.stretch import Wanted, take

# With which sound


@pytest.mark.parametrize(("start", "rate", "channels"), [(0, 48000, 1), (1.5, 48000, 2), (1.5, 44100, 1)])
def test_the_sound_is_that_of_the_same_time(tmp_path, start, rate, channels):
    sound = tone(rate * 5, rate, channels)
    sound[:, : int(2 * rate)] = 0  # it begins at 2 s
    stretch = take(write(tmp_path / "a.mp4", 100, 24, sound, rate), Wanted(start, 49))
    assert stretch.waveform.shape == (channels, round(49 / 24 * rate)) and stretch.sample_rate == rate
    begins = round((2 - start) * rate)
    wanted = sound[:, round(start * rate) :][:, : stretch.waveform.shape[1]]
    assert stretch.waveform[:, : begins - 1024].abs().max() < 0.01
    for heard, meant in zip(stretch.waveform, wanted, strict=True):
        assert torch.corrcoef(torch.stack([heard[begins:], meant[begins:]]))[0, 1] > 0.99
    assert len(stretch.notices) == 1


def test_eight_channels_come_each_in_its_place(tmp_path):
    """PyAV, asked for planar samples of 8 channels, ends the process."""
    path = tmp_path / "a.mp4"
    sound = np.sin(np.arange(24000) / 10)[:, None] * np.arange(1, 9) / 10
    with av.open(path, "w") as container:
        picture, stream = container.add_stream("libx264", rate=24), container.add_stream("alac", rate=48000)
        picture.width, picture.height, picture.pix_fmt, stream.layout = 48, 32, "yuv420p", "7.1(wide)"
        for pixels in numbered(12).numpy():
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")))
        frame = av.AudioFrame.from_ndarray((sound.reshape(1, -1) * 32767).astype(np.int16), "s16", "7.1(wide)")
        frame.sample_rate = 48000
        fitting = av.AudioResampler(stream.codec_context.format, "7.1(wide)", 48000, 4096)
        parts = [*fitting.resample(frame), *fitting.resample(None)]
        container.mux([packet for part in [*parts, None] for packet in stream.encode(part)])
        container.mux(picture.encode(None))
    for waveform in (take(File(path), Wanted(0, 9)).waveform, read_clip(path)[1]):
        meant = torch.from_numpy(sound.T[:, : waveform.shape[1]]).float()
        assert waveform.shape[0] == 8 and torch.allclose(waveform[:, : meant.shape[1]], meant, atol=1e-3)


def test_sound_of_a_video_in_memory_is_cut_and_padded():
    source = Frames(numbered(40) / 255, Fraction(20), torch.arange(60_000.0)[None], 48000)
    stretch = take(source, Wanted(0.5, 9))
    assert torch.equal(stretch.waveform, torch.arange(24_000.0, 24_000 + 21_600)[None])
    later = take(source, Wanted(1.0, 17)).waveform
    assert later.shape == (1, 40_800) and later[0, 11_999] == 59_999 and not later[0, 12_000:].any()


def test_a_video_without_sound_gives_silence_and_says_so(tmp_path):
    stretch = take(write(tmp_path / "a.mp4", 24), Wanted(0, 9))
    assert stretch.waveform.shape == (1, 18000) and not stretch.waveform.any() and stretch.sample_rate == 48000
    assert stretch.notices[1:] == ["The video has no sound there; silence stands for it."]


# Faults


def test_what_cannot_be_read_is_told_in_one_sentence(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video at all" * 100)
    assert refusal(File, tmp_path / "no.mp4").startswith("The video cannot be read (")
    assert refusal(File, tmp_path / "gone.mp4").startswith("The video cannot be read (")
    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(File, tmp_path / "sound.mp4") == "The video has no picture, only sound; load another."


def test_a_video_that_ends_early_gives_what_there_is(tmp_path):
    source = write_timed(tmp_path / "a.mkv", [i * 40 for i in range(100)])
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    found = numbers(take(source, Wanted(0, 193)))
    assert 20 < len(found) < 100 and found == list(range(len(found)))


def test_a_frame_in_memory_that_is_not_numbers_is_told():
    frames = torch.zeros(9, 4, 4, 3)
    frames[7, 1, 1, 1] = math.nan
    assert "Frame 7 of the video holds NaN or infinite values;" in refusal(
        take, Frames(frames, Fraction(24)), Wanted(0, 9)
    )
    assert len(take(Frames(frames, Fraction(24)), Wanted(0, 5)).frames) == 5, "only what is used is looked at"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc counts a process's memory there")
def test_memory_goes_by_the_frames_that_are_used_not_by_the_source(tmp_path):
    """600 frames of 640 x 360, of which 9 are used: all of them in float32 are 1.7 GB."""
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for index in range(600):
            frame = av.VideoFrame(640, 360, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([index % 250]) * plane.buffer_size)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    script = """
        import sys
        from pathlib import Path
        from mova.clip.decoding import File
        from mova.clip.stretch import Wanted, take
        def memory(name):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = memory("VmRSS")
        stretch = take(File(sys.argv[1]), Wanted(20.0, 9))
        assert stretch.frames.shape == (9, 360, 640, 3)
        print(memory("VmHWM") - before)
    """
    environment = os.environ | {"PYTHONPATH": str(Path(mova.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert float(done.stdout) < 120  # MiB; the frames are 25
