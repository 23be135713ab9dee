"""One converted file: laid out beforehand, written tensor by tensor, and read back."""

import collections
import json
import math
import mmap
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import quantize
from ..checkpoint.formats import PLAIN
from ..checkpoint.header import DTYPE_BITS, FLOATS, TensorInfo, read_header
from ..checkpoint.weights import open_weights
from ..errors import MovaError
from ..files import whole_file
from ..shorten import short
from .parts import Entry, Target

PIECE = 2**24  # elements looked at together: beside a tensor that fills gigabytes, little else is in memory

BytesDone = Callable[[int], None]  # told how many bytes of the source are done since it was last told


def no_progress(done: int) -> None:
    pass


def layout(target: Target) -> dict[str, TensorInfo]:
    """The tensors of the file, in their order; known before anything is read."""
    found = {}
    for entry in target.entries:
        info = entry.source.tensors[entry.source_name]
        if target.dtype in PLAIN and info.dtype in FLOATS:
            found[entry.name] = TensorInfo(PLAIN[target.dtype].stored, info.shape)
        elif target.dtype is None or info.dtype not in FLOATS:
            found[entry.name] = info
        else:
            stored = quantize.layout(target.dtype, entry.name, info.shape, target.part)
            found |= {name: TensorInfo(*pair) for name, pair in stored.items()}
    return found


def metadata(target: Target) -> dict[str, str]:
    """The strings in the file's header."""
    found = {**target.metadata, "format": "pt"}
    if target.dtype is not None and target.dtype not in PLAIN:
        shapes = {entry.name: entry.source.tensors[entry.source_name].shape for entry in target.entries}
        found |= quantize.metadata(target.dtype, shapes, target.part)
    return found


def header(target: Target) -> bytes:
    """All that comes before the tensors' bytes."""
    entries: dict[str, object] = {"__metadata__": metadata(target)}
    at = 0
    for name, info in layout(target).items():
        size = byte_count(info)
        entries[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": (at, at + size)}
        at += size
    text = json.dumps(entries, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8, as the library's own files have them
    return struct.pack("<Q", len(text)) + text


def byte_count(info: TensorInfo) -> int:
    return math.prod(info.shape) * DTYPE_BITS[info.dtype] // 8


def source_bytes(target: Target) -> int:
    """How many bytes are read to write the file."""
    return sum(byte_count(entry.source.tensors[entry.source_name]) for entry in target.entries)


def file_size(target: Target) -> int:
    """Bytes of the file."""
    return len(header(target)) + sum(map(byte_count, layout(target).values()))


def is_whole(path: Path, target: Target) -> bool:
    """Whether the file is there with the same tensors and metadata, to its last byte."""
    if not path.is_file():
        return False
    try:
        return read_header(path) == (layout(target), metadata(target))
    except MovaError:
        return False


def write(path: Path, target: Target, progress: BytesDone = no_progress, verified: bool = False) -> None:
    """Write the file, and if `verified` read it back before it gets its name.

    Two tensors of the source are in memory at a time: the one at work, and the next, which is on its way from disk.
    Raises MovaError for a value that is not finite, or too large for the dtype, and if the disk refuses.
    """
    with whole_file(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(header(target))
            for entry, tensor in read_ahead(target.entries, progress):
                for part in data(entry, tensor, target):
                    file.write(part)
                del tensor, part  # a mapped tensor keeps its pages in memory
        if verified:
            verify(temporary, replace(target, name=str(path)), progress)


def data(entry: Entry, tensor: Tensor, target: Target) -> Iterator[memoryview]:
    """The bytes that the file holds of a tensor, in pieces."""
    for _, part in encoded(entry, tensor, target):
        yield part.contiguous().flatten().view(torch.uint8).numpy().data


def data_size(entry: Entry, target: Target) -> int:
    """Bytes that the file holds of an entry."""
    return sum(map(byte_count, layout(replace(target, entries=[entry])).values()))


def read_ahead(entries: Sequence[Entry], progress: BytesDone = no_progress) -> Iterator[tuple[Entry, Tensor]]:
    """Each entry and its tensor, as it is stored, once it is found to be finite.

    While the caller works on one, a thread brings the next from the disk, so that neither waits for the other.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = collections.deque(reader.submit(fetched, entry) for entry in entries[:1])
        for i, entry in enumerate(entries):
            coming.extend(reader.submit(fetched, following) for following in entries[i + 1 : i + 2])
            tensor = coming.popleft().result()
            refuse_not_finite(entry, tensor)
            size = tensor.nbytes
            yield entry, tensor
            del tensor
            progress(size)


def fetched(entry: Entry) -> Tensor:
    """The tensor of an entry, in memory."""
    ((_, tensor),) = entry.source.read([entry.source_name])
    # A mapped tensor comes from the disk page by page, as each is first touched.
    tensor.flatten().view(torch.uint8).numpy()[:: mmap.PAGESIZE].sum()
    return tensor


def refuse_not_finite(entry: Entry, tensor: Tensor) -> None:
    """Raise MovaError, naming the tensor, if there are values that are NaN or infinite."""
    if bad := not_finite(tensor):
        numbers = "value that is" if bad == 1 else "values that are"
        raise MovaError(
            f"{entry.source.where}: the tensor {short(entry.source_name)} holds {bad} {numbers} NaN or infinite; "
            "download that file again."
        )


def not_finite(tensor: Tensor) -> int:
    """How many NaN and infinite values there are."""
    if not tensor.is_floating_point() or tensor.itemsize == 1:
        return 0
    count = 0
    for piece in pieces(tensor):
        # The extremes of a piece are NaN if any of it is, and are found 20 times as fast as isfinite looks.
        if piece.numel() and not all(extreme.isfinite() for extreme in piece.aminmax()):
            count += int((~piece.isfinite()).sum())
    return count


def pieces(tensor: Tensor) -> Iterable[Tensor]:
    return tensor.contiguous().flatten().split(PIECE)


def encoded(entry: Entry, tensor: Tensor, target: Target) -> Iterator[tuple[str, Tensor]]:
    """What is stored of a tensor, in the order of `layout`: (name, tensor), or several flat pieces of one name."""
    if target.dtype is None or not tensor.is_floating_point() or tensor.itemsize == 1:
        yield entry.name, tensor
    elif target.dtype in PLAIN:
        dtype = PLAIN[target.dtype].dtype
        for piece in pieces(tensor):
            cast = piece.to(dtype)
            if dtype.itemsize < piece.itemsize or dtype == torch.float16:
                check_fits(entry, cast, target.dtype)
            yield entry.name, cast
    else:
        yield from quantize.encode(target.dtype, entry.name, tensor, target.part).items()


def check_fits(entry: Entry, cast: Tensor, dtype: str) -> None:
    if bad := not_finite(cast):
        raise MovaError(
            f"{entry.source.where}: the tensor {short(entry.source_name)} holds {bad} values too large for {dtype}; "
            "choose --dtype bf16 or fp32."
        )


def verify(path: Path, target: Target, progress: BytesDone = no_progress) -> None:
    """Read a written file back against its source: exactly, and what is quantised also within its format's error.

    Raises MovaError, naming the tensor (and the file by the target's name), for any difference.
    """
    written = open_weights(path)
    if (written.tensors, written.metadata) != (layout(target), metadata(target)):
        raise differs(target, "the header")
    for entry, tensor in read_ahead(target.entries, progress):
        names = list(layout(replace(target, entries=[entry])))
        stored = dict(written.read(names))
        at = dict.fromkeys(names, 0)
        for name, part in encoded(entry, tensor, target):
            there = stored[name].contiguous().flatten()[at[name] : at[name] + part.numel()]
            at[name] += part.numel()
            if not same_bytes(there, part):
                raise differs(target, f"the tensor {short(name)}")
        check_error(entry, tensor, stored, target)
        del tensor, stored, there, part


def same_bytes(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.view(torch.uint8), second.contiguous().flatten().view(torch.uint8))


def check_error(entry: Entry, tensor: Tensor, stored: Mapping[str, Tensor], target: Target) -> None:
    if target.dtype is None or target.dtype in PLAIN or not tensor.is_floating_point():
        return
    decoded = quantize.decode(target.dtype, entry.name, stored, target.part).flatten()
    largest = max(float(piece.abs().max()) for piece in pieces(tensor))
    bound = largest * quantize.error_bound(target.dtype) * (1 + 1e-5)  # decoding rounds in float32 once more
    for found, wanted in zip(decoded.split(PIECE), pieces(tensor), strict=True):
        if not float((found - wanted).abs().max()) <= bound:
            raise differs(target, f"the tensor {short(entry.name)}, decoded,")


def differs(target: Target, what: str) -> MovaError:
    return MovaError(
        f"{target.name}: {what} is not what the source gives; delete the file if it is there, and convert again."
    )
