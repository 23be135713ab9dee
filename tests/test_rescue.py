"""A run that was stopped, or whose clip could not be made: nothing of it is lost."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clips import read_clip
from PIL import Image
from safetensors.torch import load_file, save_file
from sentences import refusal
from test_command_line import ROOT

from mova import MovaError, files
from mova.__main__ import main
from mova.checkpoint.release import open_checkpoint
from mova.clip import rescue
from mova.clip.pipeline import generate
from mova.clip.request import Request, identity
from mova.clip.rescue import Keeper, Run, read_run, write_run
from mova.clip.runtime import Runtime

SMALL = Request("A rocket lifts off", width=32, height=32, frames=5, steps=4)
FLOAT = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    """Steps are as short here as writing."""
    monkeypatch.setattr(rescue, "SHARE", 0)


def bits_equal(first, second):
    return all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in zip(first, second, strict=True))


def test_a_run_that_goes_on_from_any_step_has_the_bits_of_one_that_was_not_stopped(checkpoint, tmp_path):
    kept, path = [], tmp_path / "run.safetensors"

    def keep(step, latents):
        kept.append(Run(step, SMALL.steps, {name: x.clone() for name, x in latents.items()}, {}))

    whole = generate(checkpoint, SMALL, FLOAT, keep)
    assert [run.step for run in kept] == [1, 2, 3, 4]
    parts = []  # which expert was loaded after each
    for run in kept:
        write_run(path, run)
        loaded = []
        again = generate(
            checkpoint, SMALL, dataclasses.replace(FLOAT, part=loaded.append), rescue.no_keeping, read_run(path)
        )
        parts.append([name for name in loaded if "expert" in name])
        assert bits_equal((again.video_latent, again.audio_latent), (whole.video_latent, whole.audio_latent)), run.step
        assert torch.equal(again.frames, whole.frames) and torch.equal(again.waveform, whole.waveform)
    both, low = ["high-noise expert", "low-noise expert"], ["low-noise expert"]
    assert both in parts and low in parts and parts[-1] == []  # stops in either expert, and behind the last step
    assert "text encoder" not in loaded


def command(checkpoint, out, *more):
    given = ["--checkpoint", str(checkpoint), "--prompt", "rain", "--out", str(out), "--dtype", "fp32"]
    return ["generate", *given, "--width", "32", "--height", "32", "--frames", "5", "--steps", "6", *more]


@pytest.fixture(scope="module")
def clip(tiny_checkpoint, tmp_path_factory):
    """What the command makes if nothing comes between."""
    out = tmp_path_factory.mktemp("whole") / "clip.mp4"
    assert main(command(tiny_checkpoint, out)) == 0
    return read_clip(out)


def same_clip(out, clip):
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(read_clip(out), clip, strict=True))


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("at", ["decode_video", "decode_audio", "write_clip"])
def test_when_decoding_or_writing_fails_the_latents_are_kept_and_resume_makes_the_clip(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, clip, at
):
    def fail(*_, **__):
        raise MovaError("The disk is full.")

    out = tmp_path / "clip.mp4"
    with monkeypatch.context() as broken:
        broken.setattr(f"mova.clip.{'media' if at == 'write_clip' else 'pipeline'}.{at}", fail)
        assert main(command(tiny_checkpoint, out)) == 1
    (kept,) = tmp_path.iterdir()
    told = last_line(capsys)
    assert told == (
        f"error: The disk is full; step 6 of 6 is kept in {kept}: the same command with --resume goes on from there."
    )
    assert main(command(tiny_checkpoint, out, "--resume", "--tiled-vae")) == 0  # another way to decode is no other run
    assert [*tmp_path.iterdir()] == [out], "what was kept goes when the clip is there"
    assert same_clip(out, clip)


def test_ctrl_c_in_a_step_keeps_the_steps_before_and_resume_goes_on(
    tiny_checkpoint, tmp_path, capsys, monkeypatch, clip
):
    def stop(self, done, of):
        if done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "clip.mp4"
    with monkeypatch.context() as stopping:
        stopping.setattr("mova.progress.StepBar.step", stop)
        assert main(command(tiny_checkpoint, out)) == 130
    (kept,) = tmp_path.iterdir()
    assert f"step 4 of 6 is kept in {kept}" in last_line(capsys) and read_run(kept).step == 4
    assert main(command(tiny_checkpoint, out, "--resume")) == 0
    assert "4 of 6 steps are done" in capsys.readouterr().err
    assert same_clip(out, clip) and [*tmp_path.iterdir()] == [out]


@pytest.fixture(scope="module")
def stopped(tiny_checkpoint, tmp_path_factory):
    """The file of a run that was stopped behind its first step."""

    def stop(self, done, of):
        raise KeyboardInterrupt

    out = tmp_path_factory.mktemp("stopped") / "clip.mp4"
    with pytest.MonkeyPatch.context() as stopping:
        stopping.setattr("mova.progress.StepBar.step", stop)
        assert main(command(tiny_checkpoint, out)) == 130
    return out.with_suffix(".unfinished.safetensors")


@pytest.fixture
def kept(stopped, tmp_path):
    """That file beside a clip's path, and the path."""
    return Path(shutil.copy(stopped, tmp_path)), tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seed", "3"), "of another run: its seed is 42, not 3; give the same, or begin anew."),
        (("--steps", "7"), "its steps is 6, not 7"),
        (("--prompt", "sun"), "its prompt is 'rain', not 'sun'"),
        (("--guidance", "4"), "its guidance is 5.0, not 4.0"),
        (("--frames", "9"), "its frames is 5, not 9"),
    ],
)
def test_another_run_s_file_is_refused_and_stays(tiny_checkpoint, kept, capsys, more, said):
    file, out = kept
    before = file.read_bytes()
    assert main(command(tiny_checkpoint, out, "--resume", *more)) == 1
    assert said in last_line(capsys) and file.read_bytes() == before and not out.exists()


def test_weights_that_were_replaced_are_another_run(tiny_checkpoint, tmp_path, kept, capsys):
    _, out = kept
    other = shutil.copytree(tiny_checkpoint, tmp_path / "folder" / tiny_checkpoint.name)
    weights = next((other / "audio_dit").glob("*.safetensors"))
    state = load_file(weights)
    weights.unlink()
    save_file({name: tensor * 2 for name, tensor in state.items()}, weights)
    os.utime(weights, ns=(0, 0))
    assert main(command(other, out, "--resume")) == 1
    assert "of another run: its weights is" in last_line(capsys)


def test_a_picture_of_one_colour_in_another_shape_is_another_run(checkpoint):
    pictures = [Image.new("RGB", size) for size in ((64, 32), (32, 64))]
    first, other = (identity(checkpoint, dataclasses.replace(SMALL, image=picture), FLOAT) for picture in pictures)
    assert first["image"] != other["image"]


HOLDS = """
import pathlib, sys
from mova.files import alone

with alone(pathlib.Path(sys.argv[1])):
    print(flush=True)
    input()
"""


def test_a_second_process_for_the_same_clip_is_refused_and_begins_when_the_first_one_is_killed(
    tiny_checkpoint, kept, capsys
):
    file, out = kept
    before = file.read_bytes()
    first = subprocess.Popen([sys.executable, "-c", HOLDS, out], stdin=-1, stdout=-1, cwd=ROOT)
    try:
        first.stdout.readline()
        assert main(command(tiny_checkpoint, out, "--resume")) == 1
        told = f"error: Another process is making {out}; wait until it is done, or give this one another name."
        assert last_line(capsys) == told and file.read_bytes() == before
        assert main(command(tiny_checkpoint, out.with_name("other.mp4"))) == 0, "another clip in that folder is made"
    finally:
        first.kill()
        first.communicate()
    assert main(command(tiny_checkpoint, out, "--resume")) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["clip.mp4", "other.mp4"]


def test_without_resume_a_kept_run_is_told_and_replaced(tiny_checkpoint, kept, capsys):
    file, out = kept
    assert main(command(tiny_checkpoint, out)) == 0
    assert f"{file} is of a run that was stopped (--resume goes on with it)" in capsys.readouterr().err
    assert not file.exists()


def test_resume_without_a_kept_run_is_told(tiny_checkpoint, tmp_path, capsys):
    assert main(command(tiny_checkpoint, tmp_path / "clip.mp4", "--resume")) == 1
    assert "clip.unfinished.safetensors is not there); leave out --resume." in last_line(capsys)


ABOUT = {"step": 1, "steps": 2, "said": {}}
DAMAGED = {
    "of another kind": None,
    "no JSON": "{",
    "no step": json.dumps({"steps": 2, "said": {}}),
    "a step beyond the last": json.dumps({**ABOUT, "step": 3}),
    "a step that is no number": json.dumps({**ABOUT, "step": "1"}),
    "no object": "[1]",
}


@pytest.mark.parametrize("about", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused(tmp_path, about):
    path = tmp_path / "run.safetensors"
    save_file({"video": torch.zeros(1)}, path, {rescue.FORMAT: about} if about else None)
    assert "does not hold a run" in refusal(read_run, path)
    save_file({"video": torch.full((1,), torch.nan)}, path, {rescue.FORMAT: json.dumps(ABOUT)})
    assert "NaN" in refusal(read_run, path)


def test_a_full_disk_stops_the_keeping_and_not_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    notices = []
    keeper = Keeper(tmp_path / "run.safetensors", {}, 3, notices.append)
    monkeypatch.setattr(files.os, "fsync", full)
    for step in (1, 2, 3):
        keeper(step, {"video": torch.zeros(2)})
    assert len(notices) == 1 and "the run goes on" in notices[0] and "No space left" in notices[0]
    assert [*tmp_path.iterdir()] == [] and keeper.told() == ""


def test_nothing_that_is_nan_is_kept(tmp_path):
    keeper = Keeper(tmp_path / "run.safetensors", {}, 3, print)
    keeper(1, {"video": torch.ones(2)})
    keeper(2, {"video": torch.tensor([1.0, torch.nan])})
    assert read_run(keeper.path).step == 1


def test_short_steps_are_kept_as_often_as_it_costs_little(tmp_path, monkeypatch):
    """By a clock that says that writing takes 10 ms and a step 100: about every tenth, and the last in any case."""
    now = 0.0

    def clock():
        return now

    def slow(path, run):
        nonlocal now
        now += 0.01
        written.append(run.step)

    written = []
    monkeypatch.setattr(rescue, "SHARE", 100)
    monkeypatch.setattr(rescue.time, "monotonic", clock)
    monkeypatch.setattr(rescue, "write_run", slow)
    keeper = Keeper(tmp_path / "run.safetensors", {}, 50, print)
    for step in range(1, 51):
        now += 0.1
        keeper(step, {"video": torch.ones(1)})
    assert 4 <= len(written) <= 7 and written[0] == 1 and written[-1] == 50
