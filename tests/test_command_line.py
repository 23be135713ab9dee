"""The commands as a user types them, in a process of their own where signals or exit codes matter."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from mova.__main__ import main
from mova.media import read_clip, read_clip_info

ROOT = Path(__file__).parents[1]
SIZE = ["--width", "48", "--height", "32", "--frames", "25", "--steps", "2", "--dtype", "fp32"]


def arguments(checkpoint, out, *more):
    return [
        "generate",
        "--checkpoint",
        str(checkpoint),
        "--prompt",
        "火箭 lifts off 🚀",
        "--out",
        str(out),
        *SIZE,
        *more,
    ]


def test_a_clip_has_the_frames_size_rate_and_sound_asked_for(tiny_checkpoint, photograph, tmp_path, capsys):
    out, sheet = tmp_path / "clip.mp4", tmp_path / "sheet.png"
    more = ["--image", str(photograph), "--fps", "12.5", "--seed", "7", "--contact-sheet", str(sheet)]
    assert main(arguments(tiny_checkpoint, out, *more)) == 0
    clip = read_clip_info(out)
    assert (clip.frames, clip.width, clip.height, clip.fps) == (25, 48, 32, 12.5)
    assert (clip.video_codec, clip.audio_codec, clip.sample_rate) == ("h264", "aac", 48000)
    assert clip.settings["prompt"] == "火箭 lifts off 🚀" and clip.settings["seed"] == 7 and clip.settings["image"]
    frames, waveform, _, _ = read_clip(out)
    assert len(frames) == 25 and abs(waveform.shape[1] - 25 * 48000 / 12.5) <= 1024
    assert Image.open(sheet).size[0] > 0
    assert sorted(tmp_path.iterdir()) == [out, sheet]
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "frames: 25" in told and "火箭 lifts off 🚀" in told and "seed: 7" in told


def test_info_tells_what_a_checkpoint_and_its_files_are(tiny_checkpoint, capsys):
    assert main(["info", str(tiny_checkpoint)]) == 0
    told = capsys.readouterr().out
    assert "low noise" in told and "BF16" in told and "3 layers, width 256" in told
    kinds = {
        "audio_vae": "MOVA audio VAE",
        "dual_tower_bridge": "MOVA bridge",
        "video_dit": "MOVA tower",
        "text_encoder": "UMT5",
        "video_vae": "Wan video VAE",
    }
    for part, kind in kinds.items():
        assert main(["info", str(tiny_checkpoint / part)]) == 0
        assert kind in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--height", "360"], "height 360 is not a multiple of 16; the nearest that works is 352"),
        (["--frames", "24"], "nearest that work: 21 or 25"),
        (["--steps", "0"], "steps is 0"),
        (["--guidance", "-3"], "guidance is -3"),
        (["--bridge-guidance", "nan"], "bridge guidance is nan"),
        (["--fps", "0"], "frame rate 0.0"),
        (["--image", "no.png"], "no.png"),
        (["--image", __file__], "not a picture"),
        (["--attention", "sage"], "Attention 'sage' needs"),
        (["--device", "warp"], "'warp'"),
        (["--out", "nowhere/clip.mp4"], "nowhere"),
        (["--out", "clip.gif"], "ends in .mp4"),
        (["--contact-sheet", "sheet.gif"], "ends in .png"),
        (["--checkpoint", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_before_anything_is_loaded(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, more, named
):
    def load(*_):
        raise AssertionError("a part of the model was loaded")

    monkeypatch.setattr("mova.pipeline.begin", load)
    monkeypatch.chdir(tmp_path)
    assert main(arguments(tiny_checkpoint, tmp_path / "clip.mp4", *more)) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and named in told[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_behind(tiny_checkpoint, tmp_path, how):
    command = [sys.executable, "-m", "mova", *arguments(tiny_checkpoint, tmp_path / "clip.mp4", "--steps", "100000")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        guard = threading.Timer(300, process.kill)  # one that does not listen must not hold up the tests
        guard.start()
        seen = b""
        while b"1/100000" not in seen:  # a step is done: the model is at work
            byte = process.stderr.read(1)
            assert byte, seen.decode()
            seen += byte
        time.sleep(0.2)
        process.send_signal(how)
        rest = process.stderr.read().decode()
        assert process.wait(30) == 130
        guard.cancel()
    assert "stopped; nothing was written" in rest and "Traceback" not in rest
    assert not list(tmp_path.iterdir())


def test_help_is_quick_and_an_unknown_path_is_told(tmp_path, capsys):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mova", "--help"], cwd=ROOT, check=True, capture_output=True)
    assert time.perf_counter() - start < 20
    assert main(["info", str(tmp_path / "gone.mp4")]) == 1
    assert "gone.mp4" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command_that_installs_it(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as if it were not installed: importing it fails
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--parts", "video_vae"]) == 1
    assert f"error: this needs diffusers; run {sys.executable} -m pip install diffusers" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))
