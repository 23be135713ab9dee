"""A safetensors file that the system does not map, being larger than its memory: each tensor is read by itself.

Prism's file has 61 GiB. Linux refuses to map at once what is larger than memory and swap together.
"""

from functools import cached_property
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import first_line
from .header import MORE_MEMORY, broken, read_layout, unreadable

TYPES = {
    **{"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


class Unmapped:
    """To be used as a safetensors file that is opened: with it, get_tensor(name)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "Unmapped":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    @cached_property
    def places(self) -> dict[str, tuple[torch.dtype | None, tuple[int, ...], int, int]]:
        """Of each tensor its type, shape, first byte and number of bytes."""
        tensors, _, places = read_layout(self.path)
        return {name: (TYPES.get(info.dtype), info.shape, *places[name]) for name, info in tensors.items()}

    def get_tensor(self, name: str) -> Tensor:
        """In memory of its own. Raises MovaError if it cannot be read, or does not fit."""
        if name not in self.places:
            raise SafetensorError(f"File does not contain tensor {name}")
        dtype, shape, begin, size = self.places[name]
        if dtype is None:
            raise broken(self.path, "is larger than all memory, and its format cannot be read in parts", MORE_MEMORY)
        try:
            content = bytearray(size)
            with open(self.path, "rb") as file:
                file.seek(begin)
                found = file.readinto(content)
        except MemoryError as error:
            raise broken(self.path, f"cannot be read ({first_line(error)})", MORE_MEMORY) from error
        except OSError as error:
            raise unreadable(self.path, error) from error
        if found != size:
            raise SafetensorError("the file has become shorter")
        return torch.frombuffer(content, dtype=dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
