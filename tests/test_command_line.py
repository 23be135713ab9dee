"""The commands as a user types them, in a process of their own where signals or exit codes matter."""

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from clips import read_clip
from PIL import Image
from slow import few, slow

from mova.__main__ import main
from mova.clip.media import write_clip
from mova.clip.reading import read_clip_info
from mova.clip.rescue import read_run

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
        (["--checkpoint", "Team/MOVA-360p"], "(`hf download Team/MOVA-360p --local-dir MOVA-360p` gets one)"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_before_anything_is_loaded(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, more, named
):
    def load(*_):
        raise AssertionError("a part of the model was loaded")

    monkeypatch.setattr("mova.clip.runtime.begin", load)
    monkeypatch.chdir(tmp_path)
    assert main(arguments(tiny_checkpoint, tmp_path / "clip.mp4", *more)) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and named in told[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", few([signal.SIGINT, signal.SIGTERM], signal.SIGINT))
def test_an_interruption_leaves_what_is_done_and_nothing_half_written(tiny_checkpoint, tmp_path, how):
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
    (kept,) = tmp_path.iterdir()
    step = read_run(kept).step
    assert f"stopped; step {step} of 100000 is kept in {kept}: the same command with --resume" in rest
    assert step >= 1 and "Traceback" not in rest


def test_a_console_that_lacks_the_letters_of_a_prompt_shows_question_marks(tmp_path, monkeypatch):
    write_clip(
        tmp_path / "clip.mp4", torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 24, None, settings={"prompt": "火箭!"}
    )
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252", write_through=True))
    assert main(["info", str(tmp_path / "clip.mp4")]) == 0
    assert b"prompt: ??!" in shown.getvalue()


def without_torch(*words, **options):
    """A command in which importing torch is what Ctrl-C interrupts."""
    code = f"""
import runpy, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = {list(words)!r}
runpy.run_module("mova", run_name="__main__", alter_sys=True)
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **options)


def test_help_does_not_wait_for_torch_and_an_interruption_of_its_import_is_quiet(tmp_path):
    assert "generate" in without_torch("--help", check=True).stdout
    stopped = without_torch("info", str(tmp_path))
    assert stopped.returncode == 130 and stopped.stderr == "\nstopped; nothing was written.\n"


def test_the_pack_s_folder_is_a_command_from_any_place(tmp_path):
    pack = tmp_path / "custom_nodes" / "any name"
    pack.mkdir(parents=True)
    shutil.copy(ROOT / "__main__.py", pack)
    shutil.copytree(ROOT / "mova", pack / "mova", ignore=shutil.ignore_patterns("__pycache__"))
    (pack / "__init__.py").write_text("raise SystemExit('this is for ComfyUI only')")
    # -I: as ComfyUI's portable Python does, it looks neither in the current folder nor in PYTHONPATH.
    command = [sys.executable, "-I", str(pack)]
    done = subprocess.run([*command, "info", "gone"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: gone is not there; check the path.\n"
    done = subprocess.run([*command, "info", "-h"], cwd=tmp_path, capture_output=True, text=True)
    assert " ".join(done.stdout.split()).startswith(f'usage: {sys.executable} -I "{pack}" info [-h]')


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["generate", "--promt", "x"], "there is no option --promt (did you mean --prompt?)"),
        (["generate", "--warp=1"], "there is no option --warp;"),
        (["generate", "--prom", "x", "--checkpoint", "y"], "required: --out"),
        (["generate", "--prompt", "--what a day", "--checkpoint", "y"], "required: --out"),
        (["generate", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["info", "x", "y"], "unrecognized arguments: y"),
    ],
)
def test_a_mistyped_command_is_told_in_one_line(capsys, typed, told):
    with pytest.raises(SystemExit) as stopped:
        main(typed)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and line.startswith("error: ") and told in line and line.endswith(" --help")


@pytest.mark.parametrize("command", ["generate", "enhance", "convert", "download", "tiny"])
def test_help_explains_every_option_and_shows_its_default_if_it_has_one(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert "(default: None)" not in told and "(default: False)" not in told
    lines = told[told.index("options:") :].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  --"):
            assert "  " in line.strip() or following.startswith(" " * 20), line
    if command == "generate":
        assert "(default: 640)" in told and "(default: 42)" in told


def test_what_is_cropped_and_that_no_gpu_is_used_is_told(tmp_path, photograph, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    shape = ["--image", str(photograph), "--end-image", str(photograph), "--width", "32", "--height", "64"]
    assert main(arguments(tmp_path / "gone", tmp_path / "clip.mp4", *shape)) == 1
    told = capsys.readouterr().err
    assert "% of the first picture (640 x 427) is cropped away" in told and "% of the last picture" in told
    assert told.count("no usable GPU found: computing on the CPU\n") == 1
    assert main(arguments(tmp_path / "gone", tmp_path / "clip.mp4", "--device", "cpu")) == 1
    told = capsys.readouterr().err
    assert "cropped away" not in told and "GPU" not in told


def test_comfyui_s_own_folder_is_no_place_for_models(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "main.py").touch()
    for command in (["convert", str(tiny_checkpoint)], ["download", "MOVA-360p"]):
        assert main([*command, str(tmp_path)]) == 1
        told = f"error: {tmp_path} is ComfyUI itself; name its folder models ({tmp_path / 'models'}).\n"
        assert capsys.readouterr().err == told
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "main.py", tmp_path / "models"]


def test_a_wrong_format_is_all_that_is_told(tiny_checkpoint, tmp_path, capsys):
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--dtype", "fp8"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: There is no format called 'fp8'")


@slow("as conversion on a full disk")
@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
def test_a_small_checkpoint_that_finds_no_room_leaves_its_folder_empty(tmp_path):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from mova.__main__ import main
sys.exit(main(["tiny", {str(tmp_path / "new")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {tmp_path / 'new'} could not be written (" in done.stderr
    assert not list((tmp_path / "new").iterdir())


def test_an_unknown_path_is_told(tmp_path, capsys):
    assert main(["info", str(tmp_path / "gone.mp4")]) == 1
    assert "gone.mp4" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command_that_installs_it(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as if it were not installed: importing it fails
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--parts", "video_vae"]) == 1
    assert f"error: this needs diffusers; run {sys.executable} -m pip install diffusers" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))
