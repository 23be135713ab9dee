"""A converted file that grows shard by shard, each deleted once its tensors are written, and that goes on after a stop.

Its tensors are in the order of the shards, so the file is only ever appended to. A shard is deleted after its part of
the file is on the disk: what is there of both says where to go on.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from torch import Tensor

from ..checkpoint.formats import QUANTISED
from ..checkpoint.header import TensorInfo, broken, read_header
from ..checkpoint.weights import Weights
from ..convert.parts import Entry, Target, file_of
from ..convert.run import writer
from ..convert.safetensors_writer import BytesDone, byte_count, check_error, header, no_progress, read_ahead
from ..convert.sources import AT_ONCE
from ..errors import MovaError
from ..shorten import short
from .hub import size_of


@dataclass(frozen=True)
class Piece:
    """Neighbouring tensors of a target that are read from the same file, and where their bytes are in the target's."""

    file: Path
    entries: list[Entry]
    begin: int
    end: int

    @property
    def source_bytes(self) -> int:
        """How many bytes are read to write it."""
        return sum(byte_count(entry.source.tensors[entry.source_name]) for entry in self.entries)


def pieces(target: Target) -> list[Piece]:
    """The file after its header, piece by piece."""
    found, at = [], len(writer(target).header(target))
    for file, group in itertools.groupby(target.entries, file_of):
        entries = list(group)
        size = sum(writer(target).data_size(entry, target) for entry in entries)
        found.append(Piece(file, entries, at, at + size))
        at += size
    return found


def remaining(partial: Path, target: Target, planned: list[Piece]) -> list[Piece]:
    """The pieces that are still to be written.

    A piece whose file has not been deleted is among them: after a power cut, its bytes may not be what they should be.
    """
    planned_header = writer(target).header(target)
    try:
        with open(partial, "rb") as file:
            same = file.read(len(planned_header)) == planned_header
    except OSError:
        same = False
    if not same:
        return planned
    written = size_of(partial)
    return list(itertools.dropwhile(lambda piece: piece.end <= written and not piece.file.exists(), planned))


def write_header(partial: Path, target: Target) -> None:
    """Begin the file anew."""
    with open(partial, "wb") as file:
        file.write(writer(target).header(target))


def write_piece(
    partial: Path, target: Target, piece: Piece, verified: bool = False, progress: BytesDone = no_progress
) -> None:
    """Write a piece behind what comes before it, onto the disk; if `verified`, read it back.

    Raises MovaError if the file it is read from is not the planned one, and for what safetensors_writer.write refuses.
    """
    check_file(piece)
    with open(partial, "r+b") as file:
        file.truncate(piece.begin)
        file.seek(piece.begin)
        sums = []
        for entry, tensor in read_ahead(piece.entries, progress):
            found = hashlib.sha256()
            for part in writer(target).data(entry, tensor, target):
                file.write(part)
                if verified:
                    found.update(part)
            sums.append(found.digest())
            del tensor, part  # a mapped tensor keeps its pages in memory
        file.flush()
        os.fsync(file.fileno())
        if verified:
            file.seek(piece.begin)
            verify(file, piece.entries, sums, target, progress)


def check_file(piece: Piece) -> None:
    """Raise MovaError unless the tensors are those by whose header the file was laid out."""
    sources = {id(entry.source): entry.source for entry in piece.entries if isinstance(entry.source, Weights)}
    if not sources:
        return
    found, parts = read_header(piece.file)[0], False
    planned: dict[str, TensorInfo] = {}
    for source in sources.values():
        held = {name: info for name, info in source.tensors.items() if source.files[name] == piece.file}
        planned |= {source.stored.get(name, name): info for name, info in held.items()}
        parts = parts or bool(source.stored)  # of a file that holds more than these
    if planned != ({name: found.get(name) for name in planned} if parts else found):
        raise broken(piece.file, "is not the file that the hub announced", "delete it, and run the same command again")


def verify(
    file: BinaryIO, entries: Sequence[Entry], sums: Sequence[bytes], target: Target, progress: BytesDone
) -> None:
    """Raise MovaError unless the next bytes of the file have these SHA-256, entry by entry, and what is quantised
    among them is within its format's error of its source. Nothing is encoded once more: that takes minutes a shard.
    """
    decoded = target.dtype in QUANTISED
    for (entry, tensor), wanted in zip(sources(entries, decoded, progress), sums, strict=True):
        found, content = hashlib.sha256(), []
        for size in sizes(writer(target).data_size(entry, target)):
            part = file.read(size)
            found.update(part)
            if decoded:
                content.append(part)
        if found.digest() != wanted:
            raise MovaError(
                f"{target.name}: the tensor {short(entry.name)} read back is not what was written; check the disk, "
                "and run the same command again, which writes it once more."
            )
        if tensor is not None:
            alone = header(replace(target, entries=[entry]))  # a file of this entry only, as the library reads one
            check_error(entry, tensor, safetensors.torch.load(alone + b"".join(content)), target)
        del tensor


def sources(
    entries: Sequence[Entry], read: bool, progress: BytesDone
) -> Iterator[tuple[Entry, Tensor] | tuple[Entry, None]]:
    """Each entry, with its tensor if they are to be `read`."""
    if read:
        yield from read_ahead(entries, progress)
        return
    for entry in entries:
        yield entry, None
        progress(byte_count(entry.source.tensors[entry.source_name]))


def sizes(total: int) -> Iterator[int]:
    """So many bytes, in pieces that are read at once."""
    for done in range(0, total, AT_ONCE):
        yield min(AT_ONCE, total - done)
