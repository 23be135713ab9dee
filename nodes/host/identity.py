"""What makes a run of MOVA Joint Sampler what it is, in words and digests: another one must not be taken for it.

In doubt two runs are told apart: what begins anew costs time, what goes on with another run's latents is wrong.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from operator import itemgetter
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from ...mova.sampling.guidance_plan import GuidancePlan, Spans
from .settings import Settings

FEW = 64  # values of a weight: files of other weights differ in more than a thousandth of them
DEPTH = 12  # of what is plugged in: beyond it there are but whole programs

# What is plugged into a ModelPatcher, by the names of its attributes.
PLUGGED = ("model_options", "object_patches", "wrappers", "callbacks", "injections")


def identity(
    stages: Sequence[Any],
    given: Mapping[str, Any],
    seed: int,
    sampler: Any,
    plan: GuidancePlan,
    settings: Settings,
) -> dict[str, Any]:
    """All that makes a run, as JSON has it. `given`: tensors, nested ones, conditionings."""
    said: dict[str, Any] = {name: digest(value) for name, value in given.items()}
    said |= {"seed": seed, "guidance": asdict(plan.guidance), **asdict(settings)}  # samplers draw from the seed, too
    if plan.spans != Spans():
        said["spans"] = digest(asdict(plan.spans))
    said["sampler"] = getattr(sampler.sampler_function, "__name__", "?")
    said["sampler_options"] = digest([sampler.sampler_function, sampler.extra_options, sampler.inpaint_options])
    said["sigmas"] = [[float(sigma) for sigma in stage.sigmas] for stage in stages]
    said["models"] = [digest(weights_of(stage.model), FEW) for stage in stages]
    said["nodes_on_the_models"] = [digest([getattr(stage.model, name, None) for name in PLUGGED]) for stage in stages]
    return said


def weights_of(model: Any) -> list[Any]:
    """A ModelPatcher's sizes, its weights as they were before LoRAs, how they are stored, and the LoRAs."""
    return [asdict(model.model.mova_config), *weights_before(model), sorted(model.patches.items())]


def weights_before(model: Any) -> Iterator[tuple[Any, ...]]:
    """The weights of a ModelPatcher, and how each is stored."""
    for name, weight in model.model.named_parameters():
        before = model.backup.get(name)
        weight = weight if before is None else before.weight  # where the host has merged a LoRA into it
        stored = getattr(weight, "_qdata", weight)  # of the host's quantised tensors
        yield name, str(weight.dtype), [*weight.shape], type(weight).__name__, stored


def digest(value: Any, most: int | None = None) -> str:
    """Sixteen hexadecimal digits; `most`: of each tensor, no more than so many of its first values count."""
    whole = hashlib.sha256()
    for piece in pieces(value, most, set(), 0):
        whole.update(piece)
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def pieces(value: Any, most: int | None, seen: set[int], depth: int) -> Iterator[bytes]:
    """Bytes that tell values apart, the same in another process. Of an object that was seen before, none."""
    if getattr(value, "is_nested", False):
        value = list(value.unbind())
    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, Tensor):
        yield f"{value.dtype} {[*value.shape]}".encode()
        yield from content(value, most)
        return
    if value is None or isinstance(value, str | int | float | bytes | Enum | torch.dtype):
        yield str(value).encode()
        return
    if hasattr(value, "tobytes"):  # NumPy's
        yield value.tobytes()
        return
    if isinstance(value, dict):
        named = sorted(((key_of(key), item) for key, item in value.items()), key=itemgetter(0))
        inside = [part for pair in named for part in pair]
    elif isinstance(value, list | tuple):
        inside = [*value]
    elif id(value) in seen:
        return
    else:
        seen.add(id(value))
        inside = parts_of(value)
    yield f"{len(inside)}".encode()
    for item in inside if depth < DEPTH else ():
        yield from pieces(item, most, seen, depth + 1)


def key_of(key: Any) -> str:
    """A dict's key; of an object its kind, since its address says nothing."""
    return str(key) if isinstance(key, str | int | float | tuple) else type(key).__qualname__


def content(tensor: Tensor, most: int | None) -> Iterator[bytes]:
    """A tensor's bytes, or those of its first values; none of a tensor that has them nowhere, or will not say."""
    try:
        flat = tensor.detach().as_subclass(Tensor).flatten()[:most].cpu().contiguous()
        yield flat.view(torch.uint8).numpy().tobytes()
    except (RuntimeError, TypeError, NotImplementedError):
        return


def parts_of(value: Any) -> list[Any]:
    """What makes a function or an object another than one of the same kind: what it holds, not where it lies."""
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, type):
        return [name]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [name, value.__self__]
    if isinstance(value, FunctionType):
        cells = [contents(cell) for cell in value.__closure__ or ()]
        return [name, value.__defaults__, value.__kwdefaults__, cells]
    return [name, {key: item for key, item in getattr(value, "__dict__", {}).items() if is_setting(value, key)}]


def is_setting(value: Any, name: str) -> bool:
    """Whether an attribute is what an object was made with: _names are its notes, unless a property shows them."""
    return not name.startswith("_") or isinstance(getattr(type(value), name[1:], None), property)


def contents(cell: Any) -> list[Any]:
    """What is in a closure's cell; of a function that names itself it may not be there yet."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []
