"""Two processes that train together, as `accelerate launch` starts them, but with PyTorch imported already."""

import multiprocessing
import os
import socket

import pytest
import torch

from mova.__main__ import main
from mova.train.processes import Processes


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def begun(index, port, said, command, stopped_in):
    """One of them. said: the file that gets what it prints."""
    from test_train_command import stop_in_step

    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    with pytest.MonkeyPatch.context() as patch:
        if stopped_in:
            stop_in_step(patch, stopped_in, "losses_of")
        raise SystemExit(main(command))


def divided(index, port):
    """Whether matrices that both have divided come back whole, twice."""
    from mova.train.shards import Shards

    torch.manual_seed(0)
    matrices = [torch.randn(7, 5), torch.randn(6, 4).bfloat16(), torch.randn(3, 8).to(torch.float8_e4m3fn)]
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=index, world_size=2)
    shards = Shards(Processes(2, index), torch.device("cpu"))
    parts = [shards.divide(matrix.clone()) for matrix in matrices]
    held = sum(part.held[0].to_local().numel() for part in parts)
    assert held <= 4 * 5 + 3 * 4 + 2 * 8  # half of each, rounded up
    for _ in range(2):
        for part, matrix in zip(parts, matrices, strict=True):
            whole = part.whole(part.ask())
            assert whole.dtype == matrix.dtype and torch.equal(whole.float(), matrix.float())
            part.drop()


def forked(function, *given):
    """The exit codes of two processes at function(index, port, ...): forks of a process that has done nothing yet."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["train_processes", "mova.train.shards", "mova.train.loop", "accelerate"])
    port = free_port()
    processes = [server.Process(target=function, args=(index, port, *given)) for index in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()
    return [process.exitcode for process in processes]


def together(command, said, stopped_in=0):
    """The exit codes of two processes at one command of the command line."""
    return forked(begun, str(said), command, stopped_in)
