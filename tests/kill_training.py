"""Kill preparing and training with -9 at random moments until they are done: python tests/kill_training.py [--times 60]

What comes out must be, byte for byte, what comes out without a kill, and nothing else may be left. (Linux.)
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from downloads import contents
from train_runs import write_data

from mova.__main__ import main as mova
from mova.clip import pipeline  # noqa: F401 - so that what is killed is at work, and not importing
from mova.tools.tiny import write_tiny
from mova.train import loop, prepare  # noqa: F401
from mova.train.output import read_lora_told

Work = Callable[[Path], object]


def works(place: Path) -> dict[str, Work]:
    """What is killed, by its name: from a folder, in the same one again and again until it is done."""
    shape = ["--sizes", "48x32", "--frames", "5", "--dtype", "fp32", "--device", "cpu"]
    how = ["--device", "cpu", "--dtype", "fp32", "--base", "bf16", "--steps", "12", "--save-every", "1", "--rank", "4"]

    def prepared(folder: Path) -> int:
        given = ["train", "prepare", str(place / "data"), "--checkpoint", str(place / "tiny"), "--out", str(folder)]
        return mova([*given, *shape])

    def trained(folder: Path) -> int:
        out = folder / "lora.safetensors"
        kept = ["--resume"] * out.with_name(out.name + ".unfinished").exists()
        if out.exists() and not kept and read_lora_told(out)[1]["steps_done"] == 12:
            return 0  # it was killed behind its last deed
        return mova(["train", str(place / "prepared"), "--out", str(out), *how, *kept])

    return {"prepare": prepared, "train": trained}


def begin(work: Work, folder: Path) -> int:
    """Do the work in a process of its own; returns its id."""
    process = os.fork()
    if process:
        return process
    try:
        torch.set_num_threads(1)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(work(folder))
    except BaseException:
        os._exit(1)


def wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_until_done(work: Work, folder: Path, taken: float, moments: random.Random, times: int) -> int:
    """How often it was killed before it came to its end, at most so many times."""
    for kills in range(times):
        process = begin(work, folder)
        time.sleep(moments.uniform(0, taken))
        os.kill(process, signal.SIGKILL)
        code = wait(process)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, f"the work failed in {folder}"
    assert wait(begin(work, folder)) == 0, f"the work failed in {folder}"
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=60, help="kills, of both together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    moments, faults = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as base:
        place = Path(base)
        write_tiny(place / "tiny")
        write_data(place / "data")
        for name, work in works(place).items():
            wanted = place / ("prepared" if name == "prepare" else "wanted")
            wanted.mkdir()
            began = time.monotonic()
            assert wait(begin(work, wanted)) == 0
            taken, kills, runs = time.monotonic() - began, 0, 0
            while kills < options.times // 2:
                folder = place / "tried"
                folder.mkdir()
                kills += kill_until_done(work, folder, taken * 0.7, moments, 20)
                runs += 1
                faults += contents(folder) != contents(wanted)
                shutil.rmtree(folder)
            print(f"{name}: kills {kills}, runs {runs}, with another result {faults}", flush=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
