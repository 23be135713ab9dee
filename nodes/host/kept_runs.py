"""Runs of MOVA Joint Sampler in the output folder: how far each has come, until its clip is saved.

A run is known again by all that makes it: one that was stopped, or whose clip could not be made, goes on when the same
inputs come again, also in another process.
"""

import contextlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import folder_paths
from comfy_execution.utils import get_executing_context

from ...mova import MovaError
from ...mova.clip.rescue import Keeper, Run, check_same, is_finished, read_run
from . import notice
from .identity import digest

FOLDER = "mova_runs"  # in the output folder
SUFFIX = ".run.safetensors"
# How many are left behind: stopped runs, and finished ones, whose clip was not saved, or by other nodes than ours. Of
# those more: they are whole, and several servers may share the folder.
KEPT_STOPPED, KEPT_FINISHED = 4, 16

finished: dict[str, Path] = {}  # by origin() of the sampler's node: those whose clip is not saved yet


def place() -> Path:
    return Path(folder_paths.get_output_directory()) / FOLDER


def saved() -> list[Path]:
    """The files, the newest last."""
    return sorted(place().glob(f"*{SUFFIX}"), key=written)


def written(path: Path) -> float:
    """When; 0 for one that another server has removed meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def keeper_of(said: dict[str, Any], steps: int) -> Keeper:
    """Where the run of these inputs is kept. Older ones that nobody came back to make room."""
    folder = place()
    path = folder / f"{digest(json.dumps(said, sort_keys=True))}{SUFFIX}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        others = [other for other in saved() if other != path]
        finished_ones = [other for other in others if is_finished(other)]
        stopped_ones = [other for other in others if other not in finished_ones]
        for old in (*stopped_ones[:-KEPT_STOPPED], *finished_ones[:-KEPT_FINISHED]):
            old.unlink(missing_ok=True)
    return Keeper(path, said, steps, notice.show)


def run_to_go_on_with(keeper: Keeper) -> Run | None:
    """What is kept of the same run; None, and a notice, if nothing is. Raises MovaError if the file is damaged."""
    if keeper.path.exists():
        done = read_run(keeper.path)
        check_same(keeper.path, done, keeper.said)
        keeper.kept = done.step
        notice.show(f"Goes on with {FOLDER}/{keeper.path.name}: {done.step} of {done.steps} steps are done.")
        return done
    others = ""
    for newest in saved()[-1:]:
        with contextlib.suppress(MovaError):
            run = read_run(newest)
            differ = [name for name in keeper.said if run.said.get(name) != keeper.said[name]]
            others = f" (the newest one has other {', '.join(differ)})"
    notice.show(f"No run of these inputs is kept{others}; it begins anew.")
    return None


def keep_finished(keeper: Keeper, latent: dict[str, Any], prompt: dict[str, Any]) -> None:
    """Keep the finished LATENT until its clip is saved, and say where."""
    if keeper.kept != keeper.steps:  # else the file is there, and the latent is from it
        video, audio = latent["samples"].unbind()
        keeper(keeper.steps, {"video": video, "audio": audio})
    context = get_executing_context()
    if keeper.kept == keeper.steps and context is not None:
        for gone in [name for name, path in finished.items() if not path.exists()]:
            del finished[gone]
        finished[origin(context.node_id, prompt)] = keeper.path
        logging.info(f"[MOVA] Until its clip is saved, the latent is kept in {keeper.path} (MOVA Load Run opens it).")


def clip_is_saved(origins: Iterable[str]) -> None:
    """Remove what is kept of the runs of these nodes."""
    for node in origins:
        path = finished.pop(node, None)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def origins_of(node: str, prompt: dict[str, Any]) -> set[str]:
    """origin() of all nodes that a node gets something from."""
    return {origin(before, prompt) for before in nodes_before(node, prompt)}


def origin(node: str, prompt: dict[str, Any]) -> str:
    """A node, and all that it is made of: in another workflow the same number is another node."""
    graph = {name: prompt[name] for name in nodes_before(node, prompt)}
    return f"{node} {digest({name: [made.get('class_type'), made.get('inputs')] for name, made in graph.items()})}"


def nodes_before(node: str, prompt: dict[str, Any]) -> set[str]:
    """The nodes of a prompt (the host's API format) that a node gets something from, itself included."""
    found, open_ends = set(), [node]
    while open_ends:
        at = open_ends.pop()
        if at in found or at not in prompt:
            continue
        found.add(at)
        given = prompt[at].get("inputs", {}).values()
        open_ends += [str(link[0]) for link in given if isinstance(link, list) and len(link) == 2]
    return found
