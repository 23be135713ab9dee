"""Kill what writes files with -9 at random moments, and count what that leaves: python tests/kill.py [--times 300]

Each time: a process begins in an empty folder and is killed; then another does the same work to its end. Whatever has
its name must be whole, and after the second process there must be what there is without a kill, and nothing else. The
processes are forked from one that has imported all there is to import, so that the moments fall into the work. (Linux.)
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import huggingface_hub
import torch
from clips import read_clip
from downloads import contents
from hub import Hub

from mova import MovaError
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.tensor_file import write_tensors
from mova.clip.media import write_clip
from mova.clip.pipeline import generate
from mova.clip.request import Request, identity
from mova.clip.rescue import Keeper, read_run
from mova.clip.runtime import Runtime
from mova.convert.run import convert
from mova.download.run import download
from mova.progress import quiet_libraries
from mova.tools.tiny import write_tiny

PARTS = ["high_noise", "audio_vae"]
SMALL = Request("A rocket lifts off", width=32, height=32, frames=5, steps=2)
KEPT = "clip.unfinished.safetensors"  # what generate has done so far
Work = Callable[[Path], object]


def works(source: Path) -> dict[str, Work]:
    """What is killed, by its name; each writes into an empty folder."""

    def clip(folder: Path) -> None:
        """As the command: each step is kept, and what is kept is gone on with."""
        checkpoint, runtime = open_checkpoint(source), Runtime(torch.device("cpu"), torch.float32)
        keeper = Keeper(folder / KEPT, identity(checkpoint, SMALL, runtime), SMALL.steps, lambda _: None)
        done = read_run(keeper.path) if keeper.path.exists() else None
        keeper.kept = done and done.step
        made = generate(checkpoint, SMALL, runtime, keeper, done)
        large = made.frames.repeat(4, 12, 12, 1)  # so that writing it takes a while, too
        write_clip(folder / "clip.mp4", large, SMALL.fps, made.waveform)
        keeper.remove()

    def save(folder: Path) -> None:
        write_tensors(folder / "prompt.conditioning.safetensors", {"0": torch.ones(5_000_000)}, {"a": "b"})

    return {
        "convert": lambda folder: list(convert(source, folder, parts=PARTS)),
        "download": lambda folder: list(download("someone/tiny", folder, parts=PARTS)),
        "generate": clip,
        "save": save,
    }


def begin(work: Work, folder: Path) -> int:
    """Do the work in a process of its own; returns its id."""
    process = os.fork()
    if process:
        return process
    try:
        torch.set_num_threads(1)  # torch makes its threads anew, before several ask for them at once
        work(folder)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def finish(work: Work, folder: Path) -> float:
    """Do the work to its end; returns the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(begin(work, folder), 0)
    assert status == 0, f"the work failed in {folder}"
    return time.monotonic() - began


def whole(folder: Path) -> dict[str, object]:
    """What is there; of a clip, what is in it. What is kept of a run is left out if it is whole."""
    found: dict[str, object] = dict(contents(folder))
    for path in folder.glob("*.mp4"):
        frames, waveform, *_ = read_clip(path)
        found[path.name] = [hashlib.sha256(part.numpy().tobytes()).digest() for part in (frames, waveform)]
    if KEPT in found:
        with contextlib.suppress(MovaError):
            read_run(folder / KEPT)
            del found[KEPT]
    return found


def is_named(name: str) -> bool:
    """Whether a file is under its own name: not hidden, and in no hidden folder."""
    return not any(part.startswith(".") for part in Path(name).parts)


def try_once(work: Work, folder: Path, seconds: float, wanted: dict[str, object]) -> Counter[str]:
    """Kill the work after so many seconds, and do it again."""
    process = begin(work, folder)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    there = whole(folder)
    named = {name: content for name, content in there.items() if is_named(name)}
    counts = Counter(
        kills=killed,
        left_something=killed and there.keys() != named.keys(),
        kept_a_run=killed and (folder / KEPT).exists(),
        not_whole=any(content != wanted.get(name) for name, content in named.items()),
    )
    finish(work, folder)
    again = whole(folder)
    counts["left_after_the_next_run"] = bool(again.keys() - wanted.keys()) or (folder / KEPT).exists()
    counts["other_contents_after_it"] = any(again.get(name) != content for name, content in wanted.items())
    return counts


def run(name: str, work: Work, times: int, moments: random.Random, place: Path) -> Counter[str]:
    """Kill some work so many times, at moments spread evenly over what it takes."""
    finish(work, place / name / "warm")  # what is read is in memory from now on
    taken = finish(work, place / name / "wanted")
    wanted, counts = whole(place / name / "wanted"), Counter[str]()
    while counts["kills"] < times:
        folder = place / name / "tried"
        folder.mkdir()
        counts += try_once(work, folder, moments.uniform(0, taken), wanted)
        shutil.rmtree(folder)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=300, help="kills, of all works together")
    parser.add_argument("--only", nargs="*", help="names of works")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as base:
        place = Path(base)
        write_tiny(place / "source" / "tiny")
        hub = Hub(place / "source" / "tiny")
        hub.server.handle_error = lambda *_: None  # who is killed does not listen
        huggingface_hub.constants.ENDPOINT = hub.url
        huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        chosen = {name: work for name, work in works(hub.folder).items() if name in (options.only or [name])}
        if "generate" in chosen:
            quiet_libraries()
        faults = 0
        with hub.running():
            for name, work in chosen.items():
                for folder in ("warm", "wanted"):
                    (place / name / folder).mkdir(parents=True)
                counts = run(name, work, -(-options.times // len(chosen)), random.Random(options.seed), place)
                faults += counts["not_whole"] + counts["left_after_the_next_run"] + counts["other_contents_after_it"]
                told = ["kills", "left_something", "not_whole", "left_after_the_next_run", "other_contents_after_it"]
                told += ["kept_a_run"] * (name == "generate")
                print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {counts[key]}" for key in told), flush=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
