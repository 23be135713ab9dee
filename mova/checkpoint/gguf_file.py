"""GGUF files of an expert, for the community's GGUF loader: written tensor by tensor, described from their header.

To that loader the file is one of Wan's, with more tensors in it: its `general.architecture` is "wan", and names and
shapes are those of the joint state dict. Metadata strings (`config`, `source`) go in under their own names.

The `gguf` package is imported only here, when it is needed: most users of the pack never write such a file.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MovaError, first_line, install_command, memory_is_full
from ..files import whole_file
from ..shorten import short
from .formats import GGUF
from .header import FLOATS, MORE_MEMORY, TensorInfo, broken, check_is_file, impostor, unreadable

ARCHITECTURE = "wan"
# Embeddings and heads run once a step and are few: they keep the precision they have, as in the files people know.
KEPT = {"text_embedding", "time_embedding", "time_projection", "head"}
CHUNK = 1 << 18  # weights quantised at a time
ALIGNMENT = 32  # of each tensor's data, unless a file says otherwise


def library() -> Any:
    """The gguf package. Raises MovaError, saying how to install it, if it is not there."""
    try:
        import gguf
    except ImportError as error:
        raise MovaError(
            f"GGUF files need the package gguf ({first_line(error)}); run {install_command('gguf')}"
        ) from error
    return gguf


def type_of(name: str, info: TensorInfo, type_name: str) -> str:
    """How a tensor is stored in a file of this type (gguf's name of the type, as "Q8_0").

    The loader has quantised layers only for Linear: what is not the matrix of one (norms, biases, modulation,
    convolutions) is in float32, which holds bf16 and fp16 exactly. Rows that do not split into blocks stay as they
    are. Raises MovaError for a type that is unknown, and for weights that are quantised already.
    """
    if type_name not in GGUF:
        raise MovaError(f"There is no GGUF type called {type_name!r}; choose one of {', '.join(GGUF)}.")
    if info.dtype not in FLOATS:
        raise MovaError(
            f"{short(name)} is stored as {info.dtype}, and GGUF files are made of bf16, fp16 or fp32 weights; "
            "convert from the bf16 file, or the released folder."
        )
    gguf, wanted = library(), GGUF[type_name].type_name
    if len(info.shape) != 2:
        return "F32"
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[wanted]]
    if KEPT & set(name.split(".")) or info.shape[1] % block:
        return "F32" if info.dtype == "F64" else info.dtype
    return wanted


def byte_count(shape: Sequence[int], stored: str) -> int:
    """Bytes of a tensor's data."""
    gguf = library()
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[stored]]
    return math.prod(shape) // block * size


def file_size(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], type_name: str) -> int:
    """Bytes of the file that `write` makes of tensors like these."""
    strings = {"general.architecture": ARCHITECTURE, **metadata}
    # A string is its length in 8 bytes and its text; a value has its type in 4 bytes before it; numbers take 4 bytes.
    header = 24 + sum(8 + len(key.encode()) + 4 + 8 + len(value.encode()) for key, value in strings.items() if value)
    header += sum(8 + len(key) + 4 + 4 for key in ("general.quantization_version", "general.file_type"))
    data = 0
    for name, info in infos.items():
        header += 8 + len(name.encode()) + 4 + 8 * len(info.shape) + 4 + 8
        data += padded(byte_count(info.shape, type_of(name, info, type_name)))
    return padded(header) + data


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def write(
    path: Path,
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[Tensor],
    metadata: Mapping[str, str],
    type_name: str,
    check: Callable[[Path], None] = lambda written: None,
) -> None:
    """Write one file, whole or not at all.

    `tensors`: those of `infos`, in their order; none of them makes a header only. `check` is called with the finished
    file before it gets its name.
    Raises MovaError if the package is missing, for weights that cannot be stored so, or if the disk refuses.
    """
    gguf = library()
    stored = [type_of(name, info, type_name) for name, info in infos.items()]
    with whole_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
        with contextlib.closing(writer):
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{GGUF[type_name].type_name}"])
            for key, value in metadata.items():
                writer.add_string(key, value)
            for (name, info), kind in zip(infos.items(), stored, strict=True):
                size = byte_count(info.shape, kind)
                # The dtype given is used only where no type is.
                writer.add_tensor_info(name, info.shape, None, size, gguf.GGMLQuantizationType[kind])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for kind, tensor in zip(stored, tensors, strict=False):
                writer.write_tensor_data(encoded(tensor, kind))
                del tensor  # a mapped tensor keeps its pages in memory
        check(temporary)


def encoded(tensor: Tensor, stored: str) -> Any:
    """A tensor's data as a NumPy array in the given type."""
    gguf = library()
    if stored == "BF16" and tensor.dtype == torch.bfloat16:  # as it is: NumPy has no bfloat16
        return tensor.contiguous().view(torch.uint8).numpy()
    if stored == "F16" and tensor.dtype == torch.float16:
        return tensor.contiguous().numpy()
    # Some rows at a time, on all processors: the package works on one, and makes arrays several times as large.
    rows = tensor.split(max(1, CHUNK // tensor[0].numel())) if tensor.ndim == 2 else [tensor]

    def quantised(part: Tensor) -> Any:
        return gguf.quants.quantize(part.float().contiguous().numpy(), gguf.GGMLQuantizationType[stored])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(quantised, rows)))


def read_gguf_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Names, types ("Q8_0") and shapes of the tensors in a GGUF file, and its metadata as strings (lists left out).

    The file is mapped, not read. Raises MovaError if it is not there, is no GGUF file, or is not whole.
    """
    check_is_file(path)
    with open_file(path) as file:
        head = file.read(64)
    if not head.startswith(b"GGUF"):
        raise broken(path, impostor(head) or "is not a GGUF file")
    gguf = library()

    class Reader(gguf.GGUFReader):  # type: ignore[misc, name-defined]
        """Refuses what goes beyond the end of the file, where the package would see an empty array."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *more: Any, **named: Any) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError(f"it ends after {len(self.data)} bytes")
            return super()._get(offset, dtype, count, *more, **named)

    try:
        reader = Reader(path)
        metadata = {
            name: metadata_value(field, gguf)
            for name, field in reader.fields.items()
            if not name.startswith("GGUF.") and field.types[0] != gguf.GGUFValueType.ARRAY
        }
        tensors = {
            tensor.name: TensorInfo(tensor.tensor_type.name, tuple(int(n) for n in reversed(tensor.shape)))
            for tensor in reader.tensors
        }
    except Exception as error:  # the package checks little: damage shows as an impossible index, shape or type
        if memory_is_full(error):
            raise broken(path, f"cannot be opened ({first_line(error)})", MORE_MEMORY) from error
        raise broken(path, f"is a GGUF file that is damaged or cut off ({first_line(error)})") from error
    return tensors, metadata


def metadata_value(field: Any, gguf: Any) -> str:
    """A metadata field that is no list. (The package's own `contents` is missing from older releases of it.)"""
    value = field.parts[-1]
    return bytes(value).decode() if field.types[0] == gguf.GGUFValueType.STRING else str(value[0])


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise unreadable(path, error) from error
