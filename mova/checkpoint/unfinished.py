"""What the model hub's own client has begun in a folder and not finished.

While a file NAME arrives, `hf download REPO --local-dir DIR` keeps it in DIR/.cache/huggingface/download, in NAME's
folder, as HASH.ETAG.incomplete or HASH.ETAG.ID.incomplete, HASH being the base64 of the SHA-1 of "NAME.metadata" (the
format is that of huggingface_hub's _local_folder.py). Of a client that was killed, such a file stays for ever, since
the next one begins another: it says nothing of a file that has arrived since.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from .hub_record import NOTES, record_of

DOWNLOADS = f"{NOTES}/download"
ENDING = ".incomplete"


def unfinished(root: Path) -> list[str]:
    """Paths in `root` of the files that are still arriving, sorted; of one whose name is not known, its temporary's.

    Not among them is a file that has its name and came after what is left of the attempt, or whose note says that it
    has the content that the attempt was to bring.
    """
    found = set()
    for folder, _, names in os.walk(root / DOWNLOADS):
        arriving = [name for name in names if name.endswith(ENDING)]
        if not arriving:
            continue
        place = Path(root, os.path.relpath(folder, root / DOWNLOADS))
        known = {hash_of(name): place / name for name in names_in(place, names)}
        for name in arriving:
            target = known.get(name.partition(".")[0])
            if target is None or not has_arrived(target, Path(folder, name)):
                found.add(os.path.relpath(target or Path(folder, name), root))
    return sorted(found)


def names_in(place: Path, noted: list[str]) -> Iterator[str]:
    """The files of a folder that are there, or of which the client left a note or a lock."""
    for name in noted:
        for ending in (".metadata", ".lock"):
            if name.endswith(ending):
                yield name.removesuffix(ending)
    if place.is_dir():
        yield from os.listdir(place)


def hash_of(name: str) -> str:
    """What begins the temporary's name of a file."""
    return base64.urlsafe_b64encode(hashlib.sha1(f"{name}.metadata".encode()).digest()).decode()


def has_arrived(target: Path, arriving: Path) -> bool:
    """Whether a file is there for which this attempt's remains count no more."""
    try:
        later = os.stat(target).st_mtime >= os.stat(arriving).st_mtime
    except OSError:
        return not arriving.exists()  # it may just have got its name
    record = record_of(target)
    return later or (record is not None and record.etag == arriving.name.split(".")[1])
