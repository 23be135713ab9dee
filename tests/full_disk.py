"""Let the disk run full, or Ctrl-C come, while files are written, and count what that leaves: python tests/full_disk.py

Each time: the work of kill.py on a disk (a tmpfs: Linux, as root) that has room for a part of it, or interrupted at a
random moment. It must end with one sentence, or stop; leave nothing under its name that is not whole, and nothing
hidden but what a download goes on from; and with room, the same work must make what it makes without trouble.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import huggingface_hub
import torch
from hub import Hub
from kill import KEPT, Work, finish, is_named, whole, works

from mova.progress import quiet_libraries
from mova.tools.tiny import write_tiny

ROOM = 256  # MiB, enough for any of the works


def told(work: Work, folder: Path, seconds: float | None) -> tuple[int, str]:
    """Do the work in a process of its own, interrupted after so many seconds: its exit status, and what it said."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.dup2(writing, 2)
        try:
            torch.set_num_threads(1)
            work(folder)
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGINT)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def try_once(name: str, work: Work, disk: Path, wanted: dict, room: int | None, seconds: float | None) -> Counter[str]:
    """The work with so many bytes of room, or interrupted after so many seconds; then once more, with room."""
    size = f"{ROOM}m" if room is None else str(room)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        status, said = told(work, disk, seconds)
        there = whole(disk)
        sentence = (said.startswith("MovaError: ") and said.isprintable()) or "KeyboardInterrupt" in said
        hidden = [found for found in there if not is_named(found)]
        counts = Counter(
            stopped=status != 0,
            no_sentence=status != 0 and not sentence,
            not_whole=any(content != wanted.get(found) for found, content in there.items() if is_named(found)),
            left_hidden=bool(hidden) and name != "download",
        )
        if counts["no_sentence"]:
            print(said[-500:], file=sys.stderr)
        subprocess.run(["mount", "-o", f"remount,size={ROOM}m", str(disk)], check=True)
        finish(work, disk)
        counts["other_contents_after_it"] = whole(disk) != wanted or (disk / KEPT).exists()
        return counts
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--times", type=int, default=100, help="full disks, and as many interrupts, of all works together"
    )
    parser.add_argument("--only", nargs="*", help="names of works")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    with tempfile.TemporaryDirectory() as base:
        place = Path(base)
        write_tiny(place / "source" / "tiny")
        hub = Hub(place / "source" / "tiny")
        hub.server.handle_error = lambda *_: None
        huggingface_hub.constants.ENDPOINT = hub.url
        huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        moments, faults = random.Random(options.seed), 0
        chosen = {name: work for name, work in works(hub.folder).items() if name in (options.only or [name])}
        with hub.running():
            for name, work in chosen.items():
                plain, warm, disk = (place / name / what for what in ("plain", "warm", "disk"))
                for folder in (plain, warm, disk):
                    folder.mkdir(parents=True)
                finish(work, warm)  # what is read is in memory from now on
                taken, wanted, needed = finish(work, plain), whole(plain), size_of(plain)
                for kind in ("full disk", "interrupt"):
                    counts: Counter[str] = Counter()
                    for _ in range(-(-options.times // len(chosen))):
                        room = int(moments.uniform(0.05, 0.95) * needed) if kind == "full disk" else None
                        seconds = None if room else moments.uniform(0, taken)
                        counts += try_once(name, work, disk, wanted, room, seconds)
                    faults += sum(count for key, count in counts.items() if key != "stopped")
                    keys = ("stopped", "no_sentence", "not_whole", "left_hidden", "other_contents_after_it")
                    print(
                        f"{name}, {kind}: " + ", ".join(f"{key.replace('_', ' ')} {counts[key]}" for key in keys),
                        flush=True,
                    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
