"""Of which contents a file is made: the SHA-256 of each file that it was read from, in its metadata.

By it a finished file is kept, or made anew: releases, and later versions of one, agree in names, shapes and sizes.
Times and what the hub's client has noted prove nothing, since files can be moved over others with their times.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..checkpoint.header import unreadable
from .parts import Target, file_of

KEY = "source_sha256"
UNKNOWN = "0" * 64  # stands for a sum while only the size of the header is asked for
AT_ONCE = 2**24  # bytes

# Called with what is read, the bytes of it that are done, and all of them.
FileProgress = Callable[[str, int, int], None]


def with_sums(target: Target, root: Path, sum_of: Callable[[Path], str]) -> Target:
    """A target whose metadata names its sources, by their paths in `root` (of the base of another: by the part), with
    the SHA-256 of each.
    """
    paths = sorted({file_of(entry) for entry in target.entries})
    names = {path: path.relative_to(root if path.is_relative_to(root) else path.parents[1]) for path in paths}
    sums = {name.as_posix(): sum_of(path) for path, name in names.items()}
    return replace(target, metadata={**target.metadata, KEY: json.dumps(sums)})


def sha256_of(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """The SHA-256 of a file; `progress` is told how many bytes are done. Raises MovaError if it cannot be read."""
    found, done = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(AT_ONCE):
                found.update(piece)
                done += len(piece)
                progress(done)
    except OSError as error:
        raise unreadable(path, error) from error
    return found.hexdigest()


class Sums:
    """The SHA-256 of files, each read once: both experts are made of the parts they share."""

    def __init__(self, progress: FileProgress) -> None:
        self.found: dict[Path, str] = {}
        self.progress = progress

    def __call__(self, path: Path) -> str:
        if path not in self.found:
            name, size = f"reading {path.parent.name}/{path.name}", path.stat().st_size
            self.found[path] = sha256_of(path, lambda done: self.progress(name, done, size))
        return self.found[path]
