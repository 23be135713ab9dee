"""Whether the disks have room, and how much is to come: asked before anything large arrives."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import MovaError
from . import append
from .hub import Repository, part_of, size_of
from .plan import Job
from .singles import Wanted


def to_fetch(repository: Repository, state: Path, jobs: Iterable[Job]) -> int:
    """Bytes of the repository's files that have not arrived and are needed for what is still to be written."""
    files = {piece.file for job in jobs for piece in append.remaining(job.partial, job.target, job.pieces)}
    return sum(not_here(repository, state, file) for file in files)


def not_here(repository: Repository, state: Path, file: Path) -> int:
    return repository.files[file.relative_to(state).as_posix()].size - size_of(file) - size_of(part_of(file))


def check_room(root: Path, repository: Repository | None, state: Path, jobs: list[Job], singles: list[Wanted]) -> None:
    """Raise MovaError unless every disk has room for the fullest moment to come."""
    used: Counter[int] = Counter()  # bytes by disk, beside those used now
    for wanted in singles:
        used[device(wanted.path.parent)] += wanted.left
    peak = used.copy()
    here: set[Path] = set()
    shards = device(state) if jobs else 0
    for number, job in enumerate(jobs):
        assert repository is not None  # of which the jobs are
        at = device(job.path.parent)
        left = append.remaining(job.partial, job.target, job.pieces)
        used[at] += (left[0].begin if left else job.pieces[-1].end) - size_of(job.partial)
        later = {piece.file for other in jobs[number + 1 :] for piece in other.pieces}
        for piece in left:
            if piece.file not in here:
                here.add(piece.file)
                used[shards] += not_here(repository, state, piece.file)
            used[at] += piece.end - piece.begin
            peak |= used  # the larger of both, disk by disk
            if piece.file not in later:
                used[shards] -= repository.files[piece.file.relative_to(state).as_posix()].size
    folders = {device(path.parent): path.parent for path in (*(w.path for w in singles), *(job.path for job in jobs))}
    folders |= {shards: root} if jobs else {}
    for disk, needed in peak.items():
        free = shutil.disk_usage(folders[disk]).free
        if needed > free:
            raise MovaError(
                f"{folders[disk]} has {free / 1e9:.2f} GB free, and the download needs {needed / 1e9:.2f} GB there at "
                "its fullest (the files, and the shards at work); make room, or choose another folder, fewer --parts "
                "or a smaller --dtype."
            )


def device(folder: Path) -> int:
    return os.stat(folder).st_dev
