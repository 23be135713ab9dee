"""A converted file that grows shard by shard, each deleted once its tensors are written, and that goes on after a stop.

Its tensors are in the order of the shards, so the file is only ever appended to. A shard is deleted after its part of
the file is on the disk: what is there of both says where to go on.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.formats import QUANTISED
from ..checkpoint.header import broken, read_header
from ..checkpoint.weights import Weights
from ..convert.parts import Entry, FileBytes, Target
from ..convert.run import writer
from ..convert.safetensors_writer import BytesDone, byte_count, check_error, encoded, no_progress, read_ahead
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


def file_of(entry: Entry) -> Path:
    """The file in which an entry's tensor is read."""
    source: Any = entry.source
    path: Path = source.path if isinstance(source, FileBytes) else source.files[entry.source_name]
    return path


def remaining(partial: Path, target: Target, planned: list[Piece]) -> list[Piece]:
    """The pieces that are still to be written.

    A piece whose file has not been deleted is among them: after a power cut, its bytes may not be what they should be.
    """
    header = writer(target).header(target)
    try:
        with open(partial, "rb") as file:
            same = file.read(len(header)) == header
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
        for entry, tensor in read_ahead(piece.entries, progress):
            for part in writer(target).data(entry, tensor, target):
                file.write(part)
            del tensor, part  # a mapped tensor keeps its pages in memory
        file.flush()
        os.fsync(file.fileno())
        if verified:
            file.seek(piece.begin)
            verify(file, piece.entries, target, progress)


def check_file(piece: Piece) -> None:
    """Raise MovaError unless the tensors are those by whose header the file was laid out."""
    source = piece.entries[0].source
    if not isinstance(source, Weights):
        return
    planned = {name: info for name, info in source.tensors.items() if source.files[name] == piece.file}
    if read_header(piece.file)[0] != planned:
        raise broken(piece.file, "is not the file that the hub announced", "delete it, and run the same command again")


def verify(file: Any, entries: Sequence[Entry], target: Target, progress: BytesDone) -> None:
    """Raise MovaError unless the next bytes of the file are those of the entries, within their format's error."""
    for entry, tensor in read_ahead(entries, progress):
        for part in writer(target).data(entry, tensor, target):
            if file.read(len(part)) != part:
                raise MovaError(
                    f"{target.name}: the tensor {short(entry.name)} read back is not what was written; check the disk, "
                    "and run the same command again, which writes it once more."
                )
        if target.dtype in QUANTISED:
            check_error(entry, tensor, dict(encoded(entry, tensor, target)), target)
        del tensor, part
