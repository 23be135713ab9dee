"""Several processes train as one does; a real optimizer of 8 bits goes on where it was stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from slow import slow
from test_train_command import check_same_run, stop_in_step
from train_processes import divided, forked, free_port, together
from train_runs import TRAIN

from mova.__main__ import main
from mova.train.output import read_state
from mova.train.processes import Processes
from mova.train.run import state_path

ROOT = Path(__file__).resolve().parents[1]
STEPS = ["--steps", "4", "--rank", "4", "--lr", "1e-2", "--warmup", "1", "--validate-every", "2"]
MORE = ["--sample-every", "4", "--sample-steps", "1"]
SHORT = [*TRAIN, *STEPS]


@pytest.fixture(scope="module")
def alone(place):
    """One process whose steps have two clips."""
    out = place / "two_clips.safetensors"
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT, "--accumulation", "2"]) == 0
    return out


WITH_CLIPS = pytest.param(["--shard-weights", *MORE], marks=slow("as without clips on the way"))


@pytest.mark.parametrize(
    "way", [pytest.param([], marks=slow("as with divided weights")), ["--shard-weights"], WITH_CLIPS]
)
def test_two_processes_train_as_one_whose_steps_have_two_clips(place, alone, tmp_path, way):
    out = place / f"shared_{len(way)}.safetensors"
    assert together(["train", str(place / "cache"), "--out", str(out), *SHORT, *way], tmp_path / "said") == [0, 0]
    tensors, others = load_file(out), load_file(alone)
    assert tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in others)
    assert out.with_suffix(".csv").read_text() == alone.with_suffix(".csv").read_text()
    assert (tmp_path / "said").read_text().count(str(out)) == 1  # one of them speaks
    assert len(list(place.glob(f"{out.stem}_step*.mp4"))) == (2 if MORE[0] in way else 0)


def test_no_process_holds_a_divided_matrix_and_each_gets_all_of_it():
    assert forked(divided) == [0, 0]


def test_one_process_goes_on_where_two_were_stopped(place, alone, tmp_path):
    out = place / "fewer.safetensors"
    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    assert together(command, tmp_path / "said", stopped_in=3) == [130, 130]
    assert read_state(state_path(out)).step == 2
    assert main([*command, "--accumulation", "2", "--resume"]) == 0
    check_same_run(out, alone)


def test_a_gradient_that_one_process_lacks_is_the_other_s(monkeypatch):
    """The last layers of the audio tower get none from a clip without sound."""
    given = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    given[0].grad = torch.ones(2)
    others = iter([torch.tensor([0.0, 1.0, 0.0]), torch.zeros(2), torch.full((2,), 5.0)])  # what another one gives
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(next(others)))
    Processes(2, 0).sum_gradients(given)
    assert [None if p.grad is None else p.grad.tolist() for p in given] == [[1, 1], [5, 5], None]


def test_what_several_processes_cannot_do_is_refused(place, monkeypatch, capsys):
    command = ["train", str(place / "cache"), "--out", str(place / "refused.safetensors"), *SHORT]
    assert main([*command, "--shard-weights"]) == 1
    assert "this is one process; start it with accelerate launch" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*command, "--device", "cuda:1"]) == 1
    assert "each of several processes takes its own" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(command) == 1
    assert "needs accelerate; run" in capsys.readouterr().err


def test_with_states_of_8_bits_a_run_that_was_interrupted_goes_on_bit_for_bit(place, monkeypatch):
    options = [*SHORT, "--rank", "16", "--optimizer", "adamw8bit"]
    whole, out = (place / f"{name}8bit.safetensors" for name in ("whole", "stopped"))
    assert main(["train", str(place / "cache"), "--out", str(whole), *options]) == 0
    command = ["train", str(place / "cache"), "--out", str(out), *options]
    with monkeypatch.context() as patch:
        stop_in_step(patch, 3, "losses_of")
        assert main(command) == 130
    kept = read_state(state_path(out)).optimizer
    assert {values["state1"].dtype for values in kept.values()} == {torch.uint8, torch.float32}  # small ones are whole
    assert main([*command, "--resume"]) == 0
    check_same_run(out, whole)


def test_without_bitsandbytes_its_optimizer_is_refused_before_anything_loads(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    out = place / "without.safetensors"
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT, "--optimizer", "adamw8bit"]) == 1
    told = capsys.readouterr().err
    assert "needs bitsandbytes" in told and "--optimizer adamw." in told and "video_dit:" not in told


@slow("what the forks above do, from the start")
def test_the_same_command_trains_under_accelerate_launch(place, alone):
    out = place / "launched.safetensors"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(free_port()), "-m", "mova"]
    command = [*launch, "train", str(place / "cache"), "--out", str(out), *SHORT]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    check_same_run(out, alone)
