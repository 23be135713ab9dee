"""Several processes train as one does; a real optimizer of 8 bits goes on where it was stopped."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from slow import slow
from test_train_command import check_same_run, stop_in_step
from train_runs import TRAIN

from mova.__main__ import main
from mova.train.output import read_state
from mova.train.processes import Processes
from mova.train.run import state_path

ROOT = Path(__file__).resolve().parents[1]
STEPS = ["--steps", "4", "--rank", "4", "--lr", "1e-2", "--warmup", "1", "--validate-every", "2"]
MORE = ["--sample-every", "4", "--sample-steps", "1"]
SHORT = [*TRAIN, *STEPS]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def begun(index, port, command, stopped_in):
    """One process as `accelerate launch` starts it, but with PyTorch imported already."""
    os.environ |= {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        if stopped_in:
            stop_in_step(patch, stopped_in, "losses_of")
        code = main(command)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def forked(function, *given):
    """The exit codes of two processes at function(index, ...)."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=function, args=(index, *given)) for index in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()
    return [process.exitcode for process in processes]


def together(command, stopped_in=0):
    return forked(begun, free_port(), command, stopped_in)


@pytest.fixture(scope="module")
def alone(place):
    """One process whose steps have two clips."""
    out = place / "two_clips.safetensors"
    assert main(["train", str(place / "cache"), "--out", str(out), *SHORT, "--accumulation", "2"]) == 0
    return out


@pytest.mark.parametrize("way", [[], ["--shard-weights", *MORE]])
def test_two_processes_train_as_one_whose_steps_have_two_clips(place, alone, capfd, way):
    out = place / f"shared_{len(way)}.safetensors"
    assert together(["train", str(place / "cache"), "--out", str(out), *SHORT, *way]) == [0, 0]
    tensors, others = load_file(out), load_file(alone)
    assert tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in others)
    assert out.with_suffix(".csv").read_text() == alone.with_suffix(".csv").read_text()
    assert capfd.readouterr().out.count(str(out)) == 1  # one of them speaks
    assert len(list(place.glob(f"{out.stem}_step*.mp4"))) == (2 if MORE[0] in way else 0)


def divided(index, port):
    matrices = [torch.randn(7, 5), torch.randn(6, 4).bfloat16(), torch.randn(3, 8).to(torch.float8_e4m3fn)]
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=index, world_size=2)
    from mova.train.shards import Shards

    shards = Shards(Processes(2, index), torch.device("cpu"))
    parts = [shards.divide(matrix.clone()) for matrix in matrices]
    held = sum(part.held[0].to_local().numel() for part in parts)
    assert held <= 4 * 5 + 3 * 4 + 2 * 8  # half of each, rounded up
    for _ in range(2):
        for part, matrix in zip(parts, matrices, strict=True):
            whole = part.whole(part.ask())
            assert whole.dtype == matrix.dtype and torch.equal(whole.float(), matrix.float())
            part.drop()


def test_no_process_holds_a_divided_matrix_and_each_gets_all_of_it():
    torch.manual_seed(0)
    assert forked(divided, free_port()) == [0, 0]


def test_one_process_goes_on_where_two_were_stopped(place, alone):
    out = place / "fewer.safetensors"
    command = ["train", str(place / "cache"), "--out", str(out), *SHORT]
    assert together(command, stopped_in=3) == [130, 130]
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
    pytest.importorskip("bitsandbytes")
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
