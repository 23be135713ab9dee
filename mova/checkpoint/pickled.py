"""A file of PyTorch's (.pt) with tensors by name, read by PyTorch's reader of tensors and plain values: no code that
could be in it is run, and a file with more in it is not read.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..errors import first_line, memory_is_full
from ..shorten import first_names, short
from .header import MORE_MEMORY, REFUSED, TensorInfo, broken, check_is_file
from .unmapped import TYPES

NESTED = ("module", "state_dict", "model")  # under which trainers put the tensors
NAMES = {dtype: name for name, dtype in TYPES.items()}
# Bytes that are handed out of one mapping of the file: what was read of it stays in memory as long as the mapping.
AT_ONCE = 2**28


class Pickle:
    """The tensors, mapped. To be used as a safetensors file that is opened: with it, get_tensor(name)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self.given = 0

    def __enter__(self) -> "Pickle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The mapping stays for the next tensors, a while."""

    def get_tensor(self, name: str) -> Tensor:
        """Mapped: its pages are read when first used. Raises MovaError if the file has changed."""
        if not self.tensors or self.given > AT_ONCE:
            self.tensors, self.given = mapped(self.path), 0
        if name not in self.tensors:
            raise broken(self.path, f"has no {short(name)} any more", "do not change files while they are in use")
        tensor = self.tensors[name]
        self.given += tensor.nbytes
        return tensor.contiguous()  # what reads it page by page wants its values in a row


def mapped(path: Path) -> dict[str, Tensor]:
    """All tensors by name, none of them read yet. Raises MovaError if there are none, or the file is not only that."""
    tensors = found(path)
    check_plain(path, tensors)
    if odd := sorted(name for name, value in tensors.items() if value.dtype not in NAMES):
        raise broken(path, f"holds {first_names(odd)}, no tensors of plain numbers", "save a .safetensors file")
    return tensors


def found(path: Path) -> dict[str, Tensor]:
    """As mapped, of whatever kind the tensors are."""
    check_is_file(path)
    try:
        values: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file leads to
        if memory_is_full(error):  # Linux maps no file that is larger than all memory
            raise broken(path, f"cannot be opened ({first_line(error)})", MORE_MEMORY) from error
        what = f"is damaged, of an old PyTorch, or has more than tensors in it ({first_line(error)[:100]}), {REFUSED}"
        raise broken(path, what, "get it again, or as a .safetensors file") from error
    if isinstance(values, dict):
        values = next((values[name] for name in NESTED if isinstance(values.get(name), dict)), values)
    items = values.items() if isinstance(values, dict) else ()
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise broken(path, "holds no tensors by name", "give the model's weights")
    return tensors


def check_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise MovaError unless all values of each tensor are in the file, as PyTorch's reader does not ask."""
    if odd := sorted(name for name, value in tensors.items() if not is_plain(value)):
        what = f"has something else than plain numbers in rows and columns in {first_names(odd)}, or not all of them"
        raise broken(path, what, "save a .safetensors file")


def is_plain(tensor: Tensor) -> bool:
    """Whether it is rows and columns of numbers that memory holds: not sparse, nested, a mere shape (meta), a view that
    turns signs, or one that shows some values again and again, as an expanded one does.
    """
    if tensor.is_nested or tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return not (tensor.is_neg() or tensor.is_conj()) and tensor.nbytes <= tensor.untyped_storage().nbytes()


def infos(path: Path) -> dict[str, TensorInfo]:
    """As header.read_header gives them of a safetensors file."""
    return {name: TensorInfo(NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in mapped(path).items()}
