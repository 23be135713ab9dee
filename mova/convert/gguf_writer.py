"""The same for GGUF files as safetensors_writer.py for safetensors files."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..checkpoint import gguf_file
from ..checkpoint.header import TensorInfo
from ..errors import MovaError
from ..shorten import short
from .parts import Entry, Target
from .safetensors_writer import BytesDone, differs, no_progress, read_ahead


def given(target: Target) -> dict[str, TensorInfo]:
    """The tensors that the file is made of, as their sources have them."""
    return {entry.name: entry.source.tensors[entry.source_name] for entry in target.entries}


def layout(target: Target) -> dict[str, TensorInfo]:
    """The tensors of the file; "dtype" is GGUF's type."""
    kind = str(target.dtype)
    return {name: TensorInfo(gguf_file.type_of(name, info, kind), info.shape) for name, info in given(target).items()}


def file_size(target: Target) -> int:
    """Bytes of the file."""
    return gguf_file.file_size(given(target), target.metadata, str(target.dtype))


def is_whole(path: Path, target: Target) -> bool:
    """Whether the file is there with the same tensors and metadata, to its last byte."""
    if not path.is_file() or path.stat().st_size != file_size(target):
        return False
    try:
        tensors, metadata = gguf_file.read_gguf_header(path)
    except MovaError:
        return False
    return tensors == layout(target) and target.metadata.items() <= metadata.items()


def header(target: Target) -> bytes:
    """All that comes before the tensors' bytes: what the package writes of tensors whose data never comes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        gguf_file.write(path, given(target), (), target.metadata, str(target.dtype))
        written = path.read_bytes()
    return written.ljust(gguf_file.padded(len(written)), b"\0")


def data(entry: Entry, tensor: Tensor, target: Target) -> Iterator[bytes]:
    """The bytes that the file holds of a tensor, with those up to the next one."""
    info = entry.source.tensors[entry.source_name]
    written: bytes = gguf_file.encoded(tensor, gguf_file.type_of(entry.name, info, str(target.dtype))).tobytes()
    yield written.ljust(gguf_file.padded(len(written)), b"\0")


def data_size(entry: Entry, target: Target) -> int:
    """Bytes that the file holds of an entry."""
    info = entry.source.tensors[entry.source_name]
    kind = gguf_file.type_of(entry.name, info, str(target.dtype))
    return gguf_file.padded(gguf_file.byte_count(info.shape, kind))


def write(path: Path, target: Target, progress: BytesDone = no_progress, verified: bool = False) -> None:
    """Write the file, and if `verified` read it back before it gets its name. Raises MovaError as the other one's."""

    def check(written: Path) -> None:
        if verified:
            verify(written, dataclasses.replace(target, name=str(path)), progress)

    tensors = (tensor for _, tensor in read_ahead(target.entries, progress))
    gguf_file.write(path, given(target), tensors, target.metadata, str(target.dtype), check)


def verify(path: Path, target: Target, progress: BytesDone = no_progress) -> None:
    """Read a written file back: each tensor's bytes must be those that its source gives once more."""
    gguf = gguf_file.library()
    # Read, not mapped: pages of a map would stay in memory as long as the reader does.
    places = {tensor.name: (int(tensor.data_offset), int(tensor.n_bytes)) for tensor in gguf.GGUFReader(path).tensors}
    kinds = layout(target)
    with gguf_file.open_file(path) as file:
        for entry, tensor in read_ahead(target.entries, progress):
            wanted = gguf_file.encoded(tensor, kinds[entry.name].dtype)
            offset, size = places.get(entry.name, (0, 0))
            file.seek(offset)
            if not np.array_equal(np.frombuffer(file.read(size), np.uint8), wanted.reshape(-1).view(np.uint8)):
                raise differs(target, f"the tensor {short(entry.name)}")
            del tensor, wanted
