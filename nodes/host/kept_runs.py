"""Runs of MOVA Joint Sampler in the output folder: how far each has come, until its clip is saved.

A run is known again by all that makes it: one that was stopped, or whose clip could not be made, goes on when the same
inputs come again, also in another process.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...mova import MovaError
from ...mova.clip.rescue import Keeper, Run, check_same, read_run
from ...mova.sampling.guidance import Guidance
from . import notice
from .settings import Settings

FOLDER = "mova_runs"  # in the output folder
SUFFIX = ".run.safetensors"
KEPT = 4  # that are left behind: stopped ones, and those whose clip was saved by other nodes than ours

finished: dict[str, Path] = {}  # by the sampler's node in the graph: those whose clip is not saved yet


def place() -> Path:
    return Path(folder_paths.get_output_directory()) / FOLDER


def saved() -> list[Path]:
    """The files, the newest last."""
    return sorted(place().glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)


def identity(
    stages: Sequence[Any],
    given: dict[str, Any],
    sampler: Any,
    guidance: Guidance,
    settings: Settings,
) -> dict[str, Any]:
    """All that makes a run, in words and digests, as JSON has it. `given`: tensors, nested ones, conditionings."""
    said: dict[str, Any] = {name: digest(value) for name, value in given.items()}
    said |= {"guidance": asdict(guidance), **asdict(settings)}
    said["sampler"] = getattr(sampler.sampler_function, "__name__", "?")
    said["sampler_options"] = digest(sampler.extra_options)
    said["sigmas"] = [[float(sigma) for sigma in stage.sigmas] for stage in stages]
    said["models"] = [digest(about(stage.model)) for stage in stages]
    return said


def about(model: Any) -> list[Any]:
    """What tells a ModelPatcher from another: sizes, how weights are stored, each block's modulation, and LoRAs."""
    network = model.model.diffusion_model
    found: list[Any] = [asdict(model.model.mova_config)]
    for name, weight in network.named_parameters():
        found.append((name, str(weight.dtype), [*weight.shape], type(weight).__name__))
        if name.endswith("modulation"):
            found.append(weight)
    return [*found, sorted(model.patches.items())]


def digest(value: Any) -> str:
    whole = hashlib.sha256()
    for piece in pieces(value):
        whole.update(piece)
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def pieces(value: Any) -> Iterable[bytes]:
    """The bytes of tensors, nested in tuples, lists and dicts, and the text of what else is there."""
    if getattr(value, "is_nested", False):
        value = list(value.unbind())
    if isinstance(value, Tensor):
        yield f"{value.dtype} {[*value.shape]}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            yield str(name).encode()
            yield from pieces(value[name])
    elif isinstance(value, list | tuple):
        yield f"{len(value)}".encode()
        for item in value:
            yield from pieces(item)
    elif hasattr(value, "weights"):  # an adapter of the host's
        yield from pieces(value.weights)
    elif value is None or isinstance(value, str | int | float | bool):
        yield repr(value).encode()
    else:  # a hook, a function: its address says nothing in another process
        yield type(value).__name__.encode()


def keeper_of(said: dict[str, Any], steps: int) -> Keeper:
    """Where the run of these inputs is kept. Older ones that nobody came back to make room."""
    folder = place()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for old in saved()[: -KEPT or None]:
            old.unlink(missing_ok=True)
    return Keeper(folder / f"{digest(json.dumps(said, sort_keys=True))}{SUFFIX}", said, steps, notice.show)


def run_to_go_on_with(keeper: Keeper) -> Run | None:
    """What is kept of the same run; None, and a notice, if nothing is. Raises MovaError if the file is damaged."""
    if keeper.path.exists():
        done = read_run(keeper.path)
        check_same(keeper.path, done, keeper.said)
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


def keep_finished(keeper: Keeper, latent: dict[str, Any]) -> None:
    """Keep the finished LATENT until its clip is saved, and say where."""
    video, audio = latent["samples"].unbind()
    keeper(keeper.steps, {"video": video, "audio": audio})
    context = get_executing_context()
    if keeper.kept == keeper.steps and context is not None:
        finished[context.node_id] = keeper.path
        logging.info(f"[MOVA] Until its clip is saved, the latent is kept in {keeper.path} (MOVA Load Run opens it).")


def clip_is_saved(samplers: Iterable[str]) -> None:
    """Remove what is kept of the runs of these nodes."""
    for node in samplers:
        path = finished.pop(node, None)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


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
