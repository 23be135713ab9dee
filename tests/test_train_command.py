"""The whole command: prepare, train, stop, go on, and what comes out."""

import csv
import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from clips import read_clip
from safetensors.torch import load_file, save_file
from train_runs import TRAIN, contents

from mova.__main__ import main
from mova.checkpoint.release import JOINT
from mova.checkpoint.weights import open_file
from mova.lora.reading import read_lora
from mova.tools.info import describe
from mova.train import loop
from mova.train.cache import Cache
from mova.train.output import read_log, read_state, write_split
from mova.train.plot import draw_plot
from mova.train.run import state_path

CPU = torch.device("cpu")
SHORT = [*TRAIN, "--steps", "6", "--rank", "4", "--alpha", "8", "--lr", "1e-2", "--warmup", "1", "--save-every", "2"]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def short_run(place):
    """What SHORT gives without a stop."""
    out = place / "whole.safetensors"
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT]) == 0
    return out


def check_same_run(found, wanted):
    (tensors, told), (others, other_told) = contents(found), contents(wanted)
    assert tensors.keys() == others.keys() and told == other_told
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert found.with_suffix(".csv").read_text() == wanted.with_suffix(".csv").read_text()
    assert not state_path(found).exists()


def stop_in_step(monkeypatch, number, where):
    """Ctrl-C in that step: `where` of it, losses_of or clip_grad_norm_."""
    owner = loop if where == "losses_of" else torch.nn.utils
    original, calls = getattr(owner, where), itertools.count(1)

    def stopped(*given, **named):
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*given, **named)

    monkeypatch.setattr(owner, where, stopped)


@pytest.mark.parametrize(("number", "where"), [(1, "losses_of"), (4, "losses_of"), (4, "clip_grad_norm_")])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(place, short_run, monkeypatch, capsys, number, where):
    out = place / f"stopped_{where}_{number}.safetensors"
    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    with monkeypatch.context() as patch:
        stop_in_step(patch, number, where)
        assert main(command) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert read_state(state_path(out)).step == number - 1
    assert main([*command, "--resume"]) == 0
    check_same_run(out, short_run)


def test_what_is_kept_to_go_on_is_in_no_list_of_loras(place):
    """The host lists files by their endings."""
    kept = state_path(place / "my.lora.safetensors")
    assert kept.parent == place and kept.name.startswith("my.lora.")
    assert kept.suffix not in {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft", ".gguf"}


def test_a_killed_run_loses_the_steps_since_the_last_save_only(place, short_run):
    out = place / "killed.safetensors"
    command = [sys.executable, "-m", "mova", "train", str(place / "cache"), "--out", str(out), *SHORT]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(600):
        if state_path(out).exists():
            break
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert read_state(state_path(out)).step in (2, 4)
    assert main([*command[3:], "--resume"]) == 0
    check_same_run(out, short_run)
    assert not list(place.glob(".*.part"))


def test_a_full_disk_stops_a_run_and_what_was_saved_stays(place, short_run, monkeypatch, capsys):
    """A save writes four files; in the second save there is room for two."""
    out, calls, fsync = place / "full.safetensors", itertools.count(1), os.fsync

    def full(file):
        if next(calls) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(command) == 1
    assert "could not be written (No space left on device)" in capsys.readouterr().err
    assert read_state(state_path(out)).step == 2 and not list(place.glob(".*.part"))
    assert main([*command, "--resume"]) == 0
    check_same_run(out, short_run)


def test_a_table_that_another_program_holds_open_is_told_and_the_run_goes_on(place, short_run, monkeypatch, capsys):
    """As a spreadsheet does on Windows."""
    out, original = place / "held.safetensors", os.replace

    def held(source, target):
        if str(target).endswith(".csv"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", held)
        assert main(["train", str(place / "cache"), "--out", str(out), *SHORT]) == 0
    assert "held.csv could not be written (Permission denied); check" in capsys.readouterr().err
    (tensors, _), (others, _) = contents(out), contents(short_run)
    assert all(torch.equal(tensors[name], others[name]) for name in others)
    assert out.with_suffix(".png").is_file() and not out.with_suffix(".csv").exists()


def test_how_a_run_is_carried_out_may_change_when_it_goes_on(place, short_run, monkeypatch):
    out = place / "moved.safetensors"
    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    with monkeypatch.context() as patch:
        stop_in_step(patch, 3, "losses_of")
        assert main(command) == 130
    assert main([*command, "--resume", "--offload-activations", "--resident-layers", "2"]) == 0
    tensors, others = load_file(out), load_file(short_run)
    assert all(torch.equal(tensors[name], others[name]) for name in others)


def test_what_is_kept_of_another_run_is_refused(place, monkeypatch, capsys):
    out = place / "other.safetensors"
    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    assert main([*command, "--resume"]) == 1
    assert "Nothing is kept of a run" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        stop_in_step(patch, 2, "losses_of")
        assert main(command) == 130
    capsys.readouterr()
    assert main([*command, "--resume", "--lr", "1e-3", "--seed", "3"]) == 1
    assert "is of a run with another lr and another seed" in capsys.readouterr().err
    large = ["train", str(place / "large"), *command[2:]]
    assert main([*large, "--resume"]) == 1
    assert "is of a run with another clips" in capsys.readouterr().err
    state_path(out).write_bytes(state_path(out).read_bytes()[:-9])
    assert main([*command, "--resume"]) == 1
    assert state_path(out).name in capsys.readouterr().err


def test_a_finished_run_is_not_to_be_begun_anew(place, short_run, capsys):
    before = short_run.read_bytes()
    assert main(["train", str(place / "cache"), "--out", str(short_run), *SHORT, "--resume"]) == 1
    told = capsys.readouterr().err
    assert "is finished; nothing is left to do" in told and "leave out --resume" not in told
    assert short_run.read_bytes() == before


@pytest.mark.parametrize("line", ["0,video_dit,abc,", "0,video_dit,,", "0,video_dit", "0,video_dit,1.0,x"])
def test_a_table_of_losses_that_was_changed_stops_no_run(tmp_path, line):
    """It would be drawn at the next save, before what is kept to go on is written."""
    table = tmp_path / "lora.csv"
    table.write_text(f"step,expert,video_loss,audio_loss\n{line}\n")
    found = read_log(table, 9)
    assert found == [] and draw_plot(found)
    table.write_text("step,expert,video_loss,audio_loss,validation\n0,video_dit,1.5,,\n")
    assert [row["video_loss"] for row in read_log(table, 9)] == ["1.5"]


def test_with_settings_for_a_small_card_the_loss_falls_all_the_same(place):
    """Matrices in fp8, all else in bf16, pieces of layers computed again, inputs in RAM, captions left out at times."""
    out = place / "thrifty.safetensors"
    chosen = ["--device", "cpu", "--steps", "8", "--experts", "low", "--lr", "1e-2", "--warmup", "0", "--rank", "8"]
    more = ["--offload-activations", "--resident-layers", "1", "--accumulation", "2", "--caption-dropout", "0.5"]
    assert main(["train", str(place / "cache"), "--out", str(out), *chosen, *more, "--validate-every", "4"]) == 0
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    first, last = (float(row["validation"]) for row in rows if row["validation"])
    assert last < 0.9 * first
    assert contents(out)[1]["base"] == "fp8" and contents(out)[1]["dtype"] == "bf16"


def test_clips_are_made_on_the_way_and_change_nothing(place, short_run):
    out = place / "seen.safetensors"
    more = ["--sample-every", "3", "--sample-steps", "2"]
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT, *more]) == 0
    tensors, others = load_file(out), load_file(short_run)
    assert all(torch.equal(tensors[name], others[name]) for name in others)
    paths = sorted(place.glob("seen_step*.mp4"))
    assert [path.name for path in paths] == [f"seen_step00000{step}_{clip}.mp4" for step in (3, 6) for clip in (1, 2)]
    frames, sounds = zip(*(read_clip(path)[:2] for path in paths), strict=True)
    assert all(clip.shape == (5, 32, 48, 3) for clip in frames) and not torch.equal(frames[0], frames[2])
    assert all(abs(sound.shape[1] - 10000) <= 1024 for sound in sounds)


def test_the_lora_has_both_experts_and_its_settings(place, short_run):
    tensors, told = contents(short_run)
    assert told["rank"] == 4 and told["lr"] == 1e-2 and told["steps_done"] == 6 and told["clips_trained"] == 2
    assert {name.partition(".")[0] for name in tensors} == {"video_dit", "video_dit_2", *JOINT}
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    read = read_lora(short_run)
    assert {lora.scale for layers in read.modules.values() for lora in layers.values()} == {2.0}
    assert not read.unknown and not read.incomplete
    assert any("LoRA" in line for line in describe(short_run))
    trained = [name for name, tensor in tensors.items() if "lora_B" in name and tensor.abs().max() > 0]
    assert len(trained) == (2 * 24 + 16 + 16)
    rows = list(csv.DictReader(short_run.with_suffix(".csv").open()))
    assert [row["expert"] for row in rows] == ["video_dit", "video_dit_2"] * 3
    assert all(float(row["video_loss"]) > 0 and float(row["audio_loss"]) > 0 for row in rows)


def test_a_file_for_each_expert_has_comfyui_s_names(short_run, tmp_path):
    tensors, told = contents(short_run)
    parameters = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    paths = write_split(tmp_path / "x.safetensors", parameters, 8.0, told)
    assert [path.name for path in paths] == ["x_high_noise.safetensors", "x_low_noise.safetensors"]
    for path, expert in zip(paths, ("video_dit", "video_dit_2"), strict=True):
        found = load_file(path)
        layer = "blocks.0.self_attn.q.lora_B.weight"
        assert torch.equal(found[f"diffusion_model.{layer}"], tensors[f"{expert}.{layer}"])
        assert torch.equal(found[f"diffusion_model.audio_dit.{layer}"], tensors[f"audio_dit.{layer}"])
        assert len(found) == 3 * (24 + 16 + 16)


def test_the_sound_of_a_clip_that_has_none_is_not_trained(place, monkeypatch):
    item = Cache.item

    def silent(cache, key):
        found = item(cache, key)
        return type(found)(found.video, found.audio * 0 + 1e3, found.condition, found.fps, False)

    out = place / "silent.safetensors"
    monkeypatch.setattr(Cache, "item", silent)
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT, "--validate-every", "6"]) == 0
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert all(row["audio_loss"] == "" and float(row["grad_norm"]) < 100 for row in rows)
    assert float(rows[-1]["validation"]) < 100


def test_a_folder_that_was_not_prepared_or_is_of_another_model_is_told(place, capsys, tmp_path):
    out = ["--out", str(tmp_path / "l.safetensors"), *SHORT]
    assert main(["train", str(place / "data"), *out]) == 1
    assert "holds no prepared clips" in capsys.readouterr().err
    copy = shutil.copytree(place / "cache", tmp_path / "cache")
    clip = next((copy / "clips").iterdir())
    tensors, metadata = load_file(clip), open_file(clip).metadata
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # Windows keeps mapped files
    save_file({**tensors, "audio": tensors["audio"][:64].clone()}, clip, metadata)
    assert main(["train", str(copy), *out]) == 1
    assert "was prepared for another model" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_run_with_what_is_whole_saved(place, monkeypatch, capsys):
    out, calls, original = place / "nan.safetensors", itertools.count(1), loop.losses_of

    def broken(*given):
        losses = original(*given)
        return (losses[0] * float("nan"), losses[1]) if next(calls) == 4 else losses

    monkeypatch.setattr(loop, "losses_of", broken)
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT]) == 1
    assert "The gradients of step 4 are no numbers any more" in capsys.readouterr().err
    state = read_state(state_path(out))
    assert state.step == 3 and all(value.isfinite().all() for value in state.parameters.values())
