"""sh benchmarks/gpu.sh: a GPU measured in one command, in at most 8 minutes.

Each part runs in a process of its own with a time limit, so that one may fail, hang or run out of memory and the
others' figures stay. gpu.json and gpu.md are written anew after each row; gpu.log has what the parts said.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine, table
from .carried import unpacked
from .plan import PARTS, Part


def grace(limit: float) -> float:
    """Of a part's seconds, those that it has to end what it has started."""
    return min(5.0, limit / 4)


@dataclass
class Running:
    """A part's process, and the file that it writes its rows to."""

    part: Part
    process: subprocess.Popen
    rows: Path
    limit: float
    started: float
    stopped: float | None = None  # after how many seconds it was ended

    def found(self) -> dict[str, Any]:
        """What is known of the part so far, for gpu.json."""
        done, planned = read_rows(self.rows)
        about = {"name": self.part.name, "title": self.part.title, "limit": round(self.limit)}
        code = self.process.poll()
        if code is None:
            return {**about, "rows": done}
        why = f"the part ended with {f'signal {-code}' if code < 0 else f'exit code {code}'} (see gpu.log)"
        if self.stopped is not None:
            why = f"the part was ended after {self.stopped:.0f} s"
        names = [name for name in planned if name not in {row["name"] for row in done}]
        if not planned and not done:
            names = ["all"]
        rows = done + [{"name": name, "not_measured": why} for name in names]
        return {**about, "rows": rows}


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """A part's rows, and the names of all that it meant to measure. A last line may be half written."""
    rows, planned = [], []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if "planned" in row:
                planned = row["planned"]
            else:
                rows.append(row)
    return rows, planned


def start(part: Part, limit: float, rows: Path, log: Any, arguments: list[str]) -> Running:
    command = [*part.begins(), "--out", str(rows), "--seconds", str(limit - grace(limit)), *arguments]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    return Running(part, process, rows, limit, time.monotonic())


def end(running: Running) -> None:
    """End a part and what it has started: asked to first, so that it can end its server."""
    if running.process.poll() is None:
        running.stopped = time.monotonic() - running.started
    for word, wait in ((signal.SIGTERM, grace(running.limit)), (signal.SIGKILL, None)):
        if running.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, word)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(wait)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)


def write(out: Path, results: dict[str, Any]) -> None:
    """Both files, each whole at any moment."""
    for name, text in (("gpu.json", json.dumps(results, indent=1)), ("gpu.md", table.markdown(results))):
        unfinished = out / f"{name}.unfinished"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(out / name)


def measure(
    parts: list[Part], out: Path, rehearse: bool, carried: Path | None = None, broken: str = ""
) -> dict[str, Any]:
    """All parts, in turn; what is computed on the processor beside them. Returns what gpu.json holds."""
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {**machine.facts(rehearse), "rehearsed": rehearse, "parts": []}

    def arguments(part: Part) -> list[str]:
        given = ["--rehearse"] * rehearse + ["--broken"] * (part.name == broken)
        return given + (["--carried", str(carried)] if carried else [])

    with open(out / "gpu.log", "ab") as log, tempfile.TemporaryDirectory() as rows, contextlib.ExitStack() as ended:

        def begin(part: Part, limit: float) -> tuple[Running, dict[str, Any]]:
            running = start(part, limit, Path(rows, part.name), log, arguments(part))
            ended.callback(end, running)
            results["parts"].append(running.found())
            return running, results["parts"][-1]

        beside = [begin(part, part.seconds) for part in parts if part.beside]
        left_over = 0.0
        for part in parts:
            if part.beside:
                continue
            running, entry = begin(part, part.seconds + left_over)
            for _ in moments(running):
                entry.update(running.found())
                update(beside)
                write(out, results)
            took = time.monotonic() - running.started
            end(running)
            left_over = max(0.0, running.limit - took)
            entry.update(running.found(), seconds=round(took, 1))
            write(out, results)
            tell(entry)
        for running, entry in beside:
            if all(part.beside for part in parts):
                running.process.wait(running.limit)
            end(running)
            entry.update(running.found())
    write(out, results)
    return results


def update(beside: list[tuple[Running, dict[str, Any]]]) -> None:
    for running, entry in beside:
        entry.update(running.found())


def moments(running: Running) -> Iterator[None]:
    """Twice a second until the part has ended, or is to end."""
    while time.monotonic() - running.started < running.limit - grace(running.limit):
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(0.5)
            return
        yield


def tell(entry: dict[str, Any]) -> None:
    """A part's rows, on the screen."""
    print(f"\n{entry['title']} ({entry['seconds']} s)", *table.table(entry["rows"]), sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    add = parser.add_argument
    add("--rehearse", action="store_true", help="everything as on a GPU, with small models on the CPU")
    add("--out", type=Path, default=Path("gpu-results"), help="folder of gpu.json, gpu.md and gpu.log")
    add("--parts", default=",".join(names), help=f"which of them, with commas between: {', '.join(names)}")
    add("--carry", type=Path, help="folder that gpu_carry.sh has filled: ComfyUI, diffsynth and what they need")
    add("--break", dest="broken", default="", choices=["", *names], help="give this part a device that cannot compute")
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"there is no part called {', '.join(sorted(unknown))}; choose of {', '.join(names)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before all was measured"))
    with unpacked(options.carry) as carried:
        parts = [part for part in PARTS if part.name in wanted]
        measure(parts, options.out, options.rehearse, carried, options.broken)
    print(f"\n{options.out / 'gpu.md'} and gpu.json hold it all.")


if __name__ == "__main__":
    main()
