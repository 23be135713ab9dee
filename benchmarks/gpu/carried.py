"""What gpu_carry.sh has put together, unpacked for the time of a run."""

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ARCHIVE = "carried.tar.xz"


@contextlib.contextmanager
def unpacked(folder: Path | None) -> Iterator[Path | None]:
    """A folder with `site` (Python packages) and `ComfyUI`; None if nothing was carried."""
    if folder is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="carried-") as place:
        with tarfile.open(folder / ARCHIVE, "r:xz") as archive:
            archive.extractall(place, filter="data")
        yield Path(place)
