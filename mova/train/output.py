"""What a run writes: the LoRA, and what is needed to go on."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import strict_json
from ..checkpoint.release import EXPERT_FOLDERS, EXPERTS
from ..checkpoint.tensor_file import write_tensors
from ..checkpoint.weights import Weights, open_file
from ..errors import MovaError
from ..files import whole_file

COLUMNS = ("step", "expert", "timestep", "video_loss", "audio_loss", "grad_norm", "lr", "validation")
TOLD = "mova_training"  # in a LoRA's metadata
STATE = "mova_training_state"


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, plain, metadata)  # one entry: the order of several is another each time


def lora_tensors(parameters: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The LoRA as a file has it: each pair in float32, and its alpha."""
    layers = sorted({name.rpartition(".lora_")[0] for name in parameters})
    return {**parameters, **{f"{layer}.alpha": torch.tensor(float(alpha)) for layer in layers}}


def write_lora(path: Path, parameters: Mapping[str, Tensor], alpha: float, told: Mapping[str, Any]) -> None:
    """One file for both experts, in the names that MOVA LoRA Loader and `generate --lora` read."""
    save(path, lora_tensors(parameters, alpha), {TOLD: json.dumps(told, ensure_ascii=False)})


def read_lora_told(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of write_lora; the latter is empty of other files.

    Raises MovaError if the file is damaged.
    """
    weights = open_file(path)
    return {name: tensor.clone() for name, tensor in weights.read(weights.tensors)}, told_of(weights)


def told_of(weights: Weights) -> dict[str, Any]:
    """What the metadata of a file of write_lora says of its run; empty of other files."""
    try:
        return dict(strict_json.parse(weights.metadata[TOLD]))
    except (KeyError, TypeError, ValueError):
        return {}


def by_expert(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A LoRA's tensors as ComfyUI's own LoRA loaders name them, by "high_noise" and "low_noise".

    Both have what is of the audio tower and the bridge; an expert that was not trained beside another is left out.
    """
    found = {}
    for noise, expert in EXPERTS.items():
        others = tuple(f"{other}." for other in EXPERT_FOLDERS if other != expert)
        mine = {name: tensor for name, tensor in tensors.items() if not name.startswith(others)}
        if not any(name.startswith(f"{expert}.") for name in mine) and any(n.startswith(others) for n in tensors):
            continue
        found[noise] = {"diffusion_model." + name.removeprefix(f"{expert}."): part for name, part in mine.items()}
    return found


def split_paths(path: Path) -> dict[str, Path]:
    """What write_split writes beside a LoRA, by "high_noise" and "low_noise"."""
    return {noise: path.with_name(f"{path.stem}_{noise}{path.suffix}") for noise in EXPERTS}


def write_split(path: Path, parameters: Mapping[str, Tensor], alpha: float, told: Mapping[str, Any]) -> list[Path]:
    """A file for each expert as ComfyUI's own LoRA loaders read it."""
    written = []
    for noise, tensors in by_expert(lora_tensors(parameters, alpha)).items():
        target = split_paths(path)[noise]
        save(target, tensors, {TOLD: json.dumps(told, ensure_ascii=False)})
        written.append(target)
    return written


@dataclass(frozen=True)
class State:
    """A run that was stopped: how many steps are done, the LoRA and the optimizer's state by parameter."""

    step: int
    said: dict[str, Any]  # what the run was told
    parameters: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]


def write_state(path: Path, state: State) -> None:
    tensors = {f"lora/{name}": tensor for name, tensor in state.parameters.items()}
    for name, values in state.optimizer.items():
        tensors |= {f"optimizer/{name}/{key}": value for key, value in values.items()}
    save(path, tensors, {STATE: json.dumps({"step": state.step, "said": state.said}, ensure_ascii=False)})


def read_state(path: Path) -> State:
    """Raises MovaError if the file is damaged, or is something else."""
    try:
        weights = open_file(path)
    except MovaError as error:
        raise MovaError(f"{path} is damaged, so that no run can go on with it; leave out --resume.") from error
    try:
        told = strict_json.parse(weights.metadata[STATE])
        step, said = int(told["step"]), dict(told["said"])
    except (KeyError, TypeError, ValueError) as error:
        raise MovaError(f"{path} is not what is kept of a training run; leave out --resume.") from error
    parameters: dict[str, Tensor] = {}
    optimizer: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.read(weights.tensors):
        kind, _, rest = name.partition("/")
        if kind == "lora":
            parameters[rest] = tensor.clone()
        else:
            parameter, _, key = rest.rpartition("/")
            optimizer.setdefault(parameter, {})[key] = tensor.clone()
    return State(step, said, parameters, optimizer)


def write_log(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """The losses as a table (CSV)."""
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(records)


def read_log(path: Path, before: int) -> list[dict[str, Any]]:
    """The lines of steps before `before`; none if there is no such table, or what should be numbers is not."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [dict(row) for row in csv.DictReader(file) if int(row["step"]) < before]
        for row in rows:
            for name in ("video_loss", *(name for name in ("audio_loss", "validation") if row.get(name))):
                float(row[name])
        return rows
    except (OSError, ValueError, KeyError, TypeError, csv.Error):  # it is of use to look at only
        return []
