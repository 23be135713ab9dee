"""Of which release a file is, by what the model hub's own client noted when it fetched it.

Releases agree in names, shapes and sizes: no file of weights says which one it is of. But `hf download REPO --local-dir
DIR` leaves notes in DIR/.cache/huggingface: download/NAME.metadata has the commit, the file's etag (of weights, their
SHA-256) and the time; newer versions also keep trees/COMMIT.json, the list of all files at a commit. The formats are
those of huggingface_hub's _local_folder.py and _tree_cache.py. They are read here without that library: it need not be
installed, and it locks and deletes where we only look.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import strict_json
from ..errors import MovaError

NOTES = ".cache/huggingface"
MAX_NOTE = 1000  # bytes; a record has some 130
MAX_LIST = 20_000_000


@dataclass(frozen=True)
class Record:
    """What was noted of one file. `name`: its path in the repository; `time`: when the note was true, Unix seconds."""

    root: Path  # the folder that was downloaded to
    name: str
    commit: str
    etag: str
    time: float


def record_of(file: Path) -> Record | None:
    """The note on a file; None if there is none, it is damaged, or the file was changed since.

    The client's own rule for the last: the file's time may be at most a second after the note's.
    """
    file = Path(os.path.abspath(file))
    for root in file.parents:
        name = file.relative_to(root).as_posix()
        note = root / NOTES / "download" / f"{name}.metadata"
        if os.path.isfile(note):
            try:
                with open(note, encoding="ascii") as opened:
                    commit, etag, time = opened.read(MAX_NOTE).split()
                known = re.fullmatch("[0-9a-f]{40}", commit) and os.stat(file).st_mtime - 1 <= float(time)
            except (OSError, ValueError):
                return None
            return Record(root, name, commit, etag, float(time)) if known else None
    return None


def release_name(root: Path) -> str:
    """A release's name: its folder's, or in the hub's own cache (models--OWNER--NAME/snapshots/COMMIT) the model's."""
    folder = Path(root).resolve()
    cache = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cache.startswith("models--"):
        return cache.split("--")[-1]
    return folder.name


def check_one_release(files: Iterable[Path], only_if_proven: bool) -> None:
    """Raise MovaError, naming two of the files, if they are of different releases.

    Two commits may be of one release, whose other files changed in between. Only the list that the client kept of the
    later commit tells. Without one, files of two commits are refused, unless it is to be `only_if_proven`.
    """
    records = [record for record in map(record_of, files) if record]
    for other in records[1:]:
        first = records[0]
        earlier, later = sorted((first, other), key=lambda record: record.time)
        listed = earlier.etag if first.commit == other.commit else listed_sha256(later, earlier.name)
        if listed == earlier.etag or (only_if_proven and listed is None):
            continue
        commits = f"{first.name} is of commit {first.commit[:7]}, {other.name} of {other.commit[:7]}"
        raise MovaError(
            f"{first.root} mixes two {'releases' if listed else 'downloads'}: {commits}; start the download into that "
            f"folder again and let it end (files that are right are kept), or delete its {NOTES} if they are meant to "
            "be together."
        )


def listed_sha256(record: Record, name: str) -> str | None:
    """The SHA-256 of the file `name` at the record's commit; None if no list is kept, or the file is not in it."""
    path = record.root / NOTES / "trees" / f"{record.commit}.json"
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as opened:
            listed = strict_json.parse(opened.read(MAX_LIST).decode())
        return str(listed["files"][name]["lfs_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
