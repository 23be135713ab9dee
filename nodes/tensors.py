"""What the tensors in a linked value must be: numbers in rows and columns, in memory, that torch can reckon with."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..mova import MovaError
from ..mova.shorten import short

PICTURES = ("IMAGE", "SIGMAS")  # the host's types that are tensors themselves
IN_FULL = ("text", "latent", "noise mask")  # what must not be in fp8, in which torch has little arithmetic


def unbound(value: Any) -> list[Any]:
    """The parts of a nested tensor of the host's; of another value, itself."""
    return list(value.unbind()) if getattr(value, "is_nested", False) else [value]


def tensors_in(kind: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What should be tensors in a value of one of the host's types, each with its name there."""
    if kind in PICTURES:
        yield "picture" if kind == "IMAGE" else "list", value
    elif kind == "AUDIO" and isinstance(value, dict):  # others' sounds are read from a file when they are asked for
        yield "waveform", value.get("waveform")
    elif kind == "LATENT":
        for key, name in (("samples", "latent"), ("noise_mask", "noise mask")):
            if (given := value.get(key)) is not None:
                yield from ((name, part) for part in unbound(given))
    elif kind == "CONDITIONING":
        for text, entries in value:
            yield "text", text
            yield from ((short(name), entry) for name, entry in entries.items() if isinstance(entry, Tensor))


def check_tensors(slot: str, kind: str, value: Any) -> None:
    """Raise MovaError, naming the input, for the first that is not what this file's first line says."""
    for name, found in tensors_in(kind, value):
        if fault := fault_of(found, name):
            raise MovaError(f"The {name} in {slot} {fault}; connect another.")
    index = value.get("batch_index") if kind == "LATENT" else None
    if index is not None and (isinstance(index, str) or not hasattr(index, "__len__")):
        raise MovaError(
            f"The batch_index in {slot} is a {type(index).__name__}, not a list of numbers; connect another."
        )


def fault_of(found: Any, name: str) -> str | None:
    """What is wrong with what should be a tensor, to put behind its name; None if nothing is."""
    if found is None or (name == "waveform" and not isinstance(found, Tensor)):
        return None  # the nodes speak of it
    if not isinstance(found, Tensor):
        return f"is a {type(found).__name__}, not a tensor"
    if found.is_meta:
        return "has no numbers in memory"
    if found.layout != torch.strided:
        return "is a sparse tensor"
    if found.is_complex():
        return "is of complex numbers"
    if name in IN_FULL and found.is_floating_point() and found.dtype.itemsize == 1:
        return f"is in {str(found.dtype).removeprefix('torch.')}, in which nothing can be reckoned"
    return None


def plain_tensor(value: Tensor) -> Tensor:
    """A picture or sigmas as they are, or, of fp8, in float32."""
    return value.float() if value.is_floating_point() and value.dtype.itemsize == 1 else value
