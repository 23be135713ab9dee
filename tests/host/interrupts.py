"""python tests/host/interrupts.py: press ComfyUI's interrupt button at every moment of the shipped workflows' runs.

Small models, a CPU. A run that is left alone tells the moments: each node that begins, each step of the samplers. Then
the button is pressed at each of them, in a run of its own. That run must end as interrupted (or, where the button came
too late, with a whole clip); every file that is there must be whole, and none hidden; and the same workflow with resume
on must then make the latents of the run that was left alone, bit for bit, and leave no run behind. Exits with 1 if not.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import torch  # noqa: E402
from client import Result, Server, find_comfyui  # noqa: E402
from clips import read_clip  # noqa: E402
from PIL import Image  # noqa: E402
from small_workflows import NAMES, shipped, small_server  # noqa: E402

from mova import MovaError  # noqa: E402
from mova.checkpoint.weights import check_finite, open_weights  # noqa: E402
from mova.clip.rescue import read_run  # noqa: E402

SEED = 11
# Steps long enough to be interrupted, several for each expert.
LONGER = {
    **{kind: {"width": 96, "height": 64, "length": 9} for kind in ("MOVAConditioning", "MOVAFitVideo")},
    "MOVAJointSampler": {"steps": 6},
    "MOVAScheduler": {"steps": 6},
    "SplitSigmas": {"step": 3},
}
LATENTS, RUNS = "latents.safetensors", "mova_runs"


class Moment(NamedTuple):
    """A node that begins, or one that has done so many of its steps."""

    node: str
    step: int = 0


def moment_of(kind: str, data: dict[str, Any]) -> Moment | None:
    """What a message of the host's tells of; None for other messages."""
    if kind == "executing" and data["node"]:
        return Moment(data["node"])
    return Moment(data["node"], data["value"]) if kind == "progress" and data["node"] else None


def workflow_of(name: str, resume: bool = False) -> dict[str, Any]:
    """A shipped workflow that also writes the latents that it decodes."""
    workflow = shipped(name, SEED, LONGER)
    (separate,) = (one for one in workflow.values() if one["class_type"] == "MOVASeparateLatent")
    for one in workflow.values():
        if one["class_type"] == "MOVAJointSampler":
            one["inputs"]["resume"] = resume
    save = {"latent": separate["inputs"]["latent"], "name": LATENTS}
    return {**workflow, "latents": {"class_type": "ProbeSave", "inputs": save}}


def forget(server: Server) -> None:
    """So that the next run does everything: the host keeps what its nodes have made."""
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(0.3)  # the host does so behind the answer


def left_alone(server: Server, name: str) -> tuple[list[Moment], dict[str, torch.Tensor]]:
    """The moments of a run, and its latents."""
    found: dict[Moment, None] = {}

    def note(kind: str, data: dict[str, Any]) -> None:
        if moment := moment_of(kind, data):
            found[moment] = None

    forget(server)
    result = server.run(workflow_of(name), note)
    assert result.error is None, result.error
    return list(found), server.tensors(result, "latents")


def pressed(server: Server, name: str, at: Moment, late: float = 0.0) -> Result:
    """A run in which the button is pressed once, so many seconds after this moment."""
    waiting = True

    def press(kind: str, data: dict[str, Any]) -> None:
        nonlocal waiting
        if waiting and moment_of(kind, data) == at:
            waiting = False
            time.sleep(late)
            server.post("/interrupt", {})

    forget(server)
    result = server.run(workflow_of(name), press)
    while any(server.get_json("/queue").values()):
        time.sleep(0.02)
    return result


def files_of(server: Server) -> set[Path]:
    return {path for place in ("output", "temp") for path in (server.base / place).rglob("*") if path.is_file()}


def not_whole(path: Path) -> str:
    """What is wrong with a file that a run has left; empty if nothing is."""
    if path.name.startswith(".") or ".part" in path.name:
        return "it is hidden"
    try:
        if path.suffix == ".mp4":
            frames, waveform, *_ = read_clip(path)
            return (
                ""
                if len(frames) == 9 and waveform is not None
                else f"{len(frames)} frames, sound: {waveform is not None}"
            )
        if path.parent.name == RUNS:
            read_run(path)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix != ".csv" and path.name != LATENTS:
            check_finite(open_weights(path))
    except (MovaError, OSError, ValueError) as error:
        return str(error)
    return ""


def faults_behind(server: Server, result: Result, before: set[Path]) -> Iterator[str]:
    """Of a run in which the button was pressed."""
    if result.error not in (None, "interrupted"):
        yield f"it ended with {result.error}"
    for path in files_of(server) - before:
        if fault := not_whole(path):
            yield f"{path.relative_to(server.base)}: {fault}"


def faults_of_the_next(server: Server, name: str, wanted: dict[str, torch.Tensor], before: set[Path]) -> Iterator[str]:
    """Of the same workflow with resume on, sent behind it."""
    result = server.run(workflow_of(name, resume=True))
    if result.error is not None:
        yield f"the next run ended with {result.error}"
        return
    made = server.tensors(result, "latents")
    if made.keys() != wanted.keys() or not all(torch.equal(made[part], wanted[part]) for part in wanted):
        yield "the next run's latents are others"
    new = files_of(server) - before
    yield from (f"{path.name} of the next run: {fault}" for path in new if (fault := not_whole(path)))
    if not any(path.suffix == ".mp4" for path in new):
        yield "the next run made no clip"
    if left := [path.name for path in files_of(server) if path.parent.name == RUNS]:
        yield f"{left} is kept behind the saved clip"


def tried(server: Server, name: str, at: Moment, wanted: dict[str, torch.Tensor], late: float = 0.0) -> dict[str, Any]:
    """What came of pressing the button at this moment, or so many seconds later."""
    before = files_of(server)
    result = pressed(server, name, at, late)
    faults = [*faults_behind(server, result, before)]
    kept = [read_run(path).step for path in files_of(server) if path.parent.name == RUNS]
    said = len(server.logged())
    faults += faults_of_the_next(server, name, wanted, before)
    workflow = workflow_of(name)
    for path in files_of(server) - before:
        path.unlink()
    return {
        "workflow": name,
        "at": workflow[at.node]["class_type"],
        "step": at.step,
        "heard": result.error == "interrupted",
        "kept": kept[0] if kept else None,
        "went_on": "Goes on with mova_runs" in server.logged()[said:],
        "faults": faults,
    }


def counted(entries: list[dict[str, Any]]) -> str:
    """A line for each kind of moment."""
    lines = []
    for place in dict.fromkeys((one["at"], one["step"]) for one in sorted(entries, key=lambda one: one["step"] > 0)):
        here = [one for one in entries if (one["at"], one["step"]) == place]
        counts = Counter(key for one in here for key in ("heard", "went_on") if one[key])
        step = f", step {place[1]}" if place[1] else ""
        told = f"{len(here)} pressed, {counts['heard']} ended the run, {counts['went_on']} went on from a kept step"
        lines.append(f"{place[0]}{step}: {told}")
    heard, went_on = (sum(one[key] for one in entries) for key in ("heard", "went_on"))
    faults = sum(bool(one["faults"]) for one in entries)
    total = f"{len(entries)} pressed, {heard} ended the run, {len(entries) - heard} came too late"
    return "\n".join([*lines, f"all: {total}, {went_on} went on from a kept step, {faults} with faults"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=NAMES, help="names of workflows")
    parser.add_argument("--late", type=float, default=0.0, help="seconds between each moment and the button")
    parser.add_argument("--out", type=Path, help="write what came of each here, as JSON")
    given = parser.parse_args()
    found = find_comfyui()
    if isinstance(found, str):
        print(found)
        return 2
    entries: list[dict[str, Any]] = []
    with small_server(found) as server:
        for name in given.only:
            moments, wanted = left_alone(server, name)
            for at in moments:
                entries.append(tried(server, name, at, wanted, given.late))
                if entries[-1]["faults"]:
                    print(json.dumps(entries[-1]), flush=True)
            print(f"# {name}: {len(moments)} moments", flush=True)
    if given.out:
        given.out.write_text(json.dumps(entries, indent=0))
    print(counted(entries))
    return int(any(one["faults"] for one in entries))


if __name__ == "__main__":
    sys.exit(main())
