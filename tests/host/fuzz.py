"""python tests/host/fuzz.py: change the shipped workflows in every way, send them to a real ComfyUI, judge the answers.

Small models, a CPU, a server that is watched and may be killed. The same seed makes the same workflows; `--only N` runs
one of them again and prints it. What counts as a fault is in fuzz_judge.py. Exits with 1 if there was one.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from client import Server, find_comfyui  # noqa: E402
from fuzz_judge import FAULT, Verdict, judge, with_witnesses  # noqa: E402
from fuzz_media import write_odd_media  # noqa: E402
from fuzz_mutate import Mutation, Mutator  # noqa: E402
from fuzz_watch import Answer, Watched  # noqa: E402
from graphs import write_files  # noqa: E402
from small_workflows import write_media  # noqa: E402


class Fuzzer:
    """A watched server with the small models and the odd media in its folders."""

    def __init__(self, comfyui: Path, python: str, root: Path, seed: int, seconds: float) -> None:
        self.root, self.base = root, root / "base"
        (root / "outside").mkdir(parents=True)

        def make() -> Server:
            server = Server(comfyui, python, self.base)
            for name, folder in (("comfyui-mova", HERE.parents[1]), ("probe", HERE / "probe")):
                if not (self.base / "custom_nodes" / name).exists():
                    server.add_pack(name, folder)
            return server

        make()  # makes the folders
        write_files(self.base)
        write_media(self.base)
        media = write_odd_media(self.base / "input")
        self.watched = Watched(make, seconds)
        self.definitions = self.watched.server.get_json("/object_info")
        self.mutator = Mutator(seed, self.definitions, media, str(root))

    def try_one(self, number: int) -> tuple[Mutation, Answer, Verdict]:
        return self.send(self.mutator.make(number))

    def send(self, made: Mutation) -> tuple[Mutation, Answer, Verdict]:
        answer = self.watched.ask(with_witnesses(made.workflow, self.definitions))
        return made, answer, judge(answer, made, self.base / "output")

    def stop(self) -> None:
        self.watched.stop()


def entry_of(made: Mutation, answer: Answer, verdict: Verdict) -> dict:
    return {
        "number": made.number,
        "workflow": made.name,
        "told": made.told,
        "kind": verdict.kind,
        "what": verdict.what,
        "node": verdict.node,
        "detail": verdict.detail,
        "seconds": round(answer.seconds, 2),
        "grew_mib": answer.grew >> 20,
    }


def counted(entries: list[dict]) -> str:
    """The counts, and the faults by kind with their numbers."""
    lines = [f"{count:6} {kind}" for kind, count in Counter(one["kind"] for one in entries).most_common()]
    faults = Counter((one["what"], one["node"]) for one in entries if one["kind"] == FAULT)
    for (what, node), count in faults.most_common():
        numbers = [one["number"] for one in entries if (one["kind"], one["what"], one["node"]) == (FAULT, what, node)]
        lines.append(f"{count:6}   {what} in {node or 'no node'}: {numbers[:8]}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutation")
    parser.add_argument("--only", type=int, help="run this mutation alone, and print its workflow and its answer")
    parser.add_argument("--objects", action="store_true", help="each odd object in each input instead, one at a time")
    parser.add_argument("--seconds", type=float, default=120.0, help="after which there is no answer")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after this time")
    parser.add_argument("--out", type=Path, help="write what came of each mutation here, as JSON")
    given = parser.parse_args()
    found = find_comfyui()
    if isinstance(found, str):
        print(found)
        return 2
    entries, end = [], time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(*found, Path(folder, "fuzz"), given.seed, given.seconds)
        try:
            numbers = [given.only] if given.only is not None else range(given.first, given.first + given.count)
            made_ones = fuzzer.mutator.each_object() if given.objects else map(fuzzer.mutator.make, numbers)
            if given.objects:
                made_ones = itertools.islice(made_ones, given.first, None)
            for mutation in made_ones:
                number = mutation.number
                if given.only not in (None, number):
                    continue
                made, answer, verdict = fuzzer.send(mutation)
                entries.append(entry_of(made, answer, verdict))
                if given.only is not None:
                    print(
                        json.dumps(made.workflow, indent=1), answer.refused, answer.error and answer.error["traceback"]
                    )
                if verdict.kind == FAULT or given.only is not None:
                    print(json.dumps(entries[-1]), flush=True)
                if number % 100 == 99:
                    print(f"# {number + 1}: {dict(Counter(one['kind'] for one in entries))}", flush=True)
                if given.out:
                    given.out.write_text(json.dumps({"seed": given.seed, "entries": entries}, indent=0))
                if time.monotonic() > end:
                    break
        finally:
            fuzzer.stop()
    print(f"seed {given.seed}, {len(entries)} mutations, {fuzzer.watched.starts} starts of ComfyUI\n{counted(entries)}")
    return int(any(one["kind"] == FAULT for one in entries))


if __name__ == "__main__":
    sys.exit(main())
