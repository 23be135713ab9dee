"""What a download leaves on the disk while it is not finished, and who may work on it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..checkpoint.weights import read_json
from ..errors import MovaError
from ..files import reason
from ..shorten import short

PIN = "download.json"


@contextlib.contextmanager
def errors_of(destination: Path) -> Iterator[None]:
    """What the disk refuses, as one sentence."""
    try:
        yield
    except OSError as error:
        remedy = "make room or choose another folder"
        if isinstance(error, PermissionError):  # what Windows says of a file in use, too
            remedy = "check its permissions, and that no other program has it open"
        raise MovaError(
            f"{error.filename or destination} cannot be written ({reason(error)}); {remedy}, then run the same command "
            "again, it goes on from there."
        ) from error


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Keep a second download off the same folder: both would count on its room. Leaves no empty folder behind."""
    from filelock import FileLock, Timeout  # the hub's library brings it

    there = [folder for folder in (state.parent, *state.parent.parents) if folder.exists()]
    state.parent.mkdir(parents=True, exist_ok=True)
    path = state.with_name("lock")
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout as error:
        raise MovaError(f"Another download to {state.parent} is at work; wait for it, or stop it.") from error
    finally:
        if not state.exists():
            with contextlib.suppress(OSError):  # not empty, or in use
                path.unlink()
            for folder in (state.parent, *state.parent.parents):
                if folder in there:
                    break
                with contextlib.suppress(OSError):
                    folder.rmdir()


def pinned_commit(state: Path, wanted: dict[str, object]) -> str | None:
    """The commit at which an unfinished download began, None if there is none.

    Raises MovaError if that one was of another repository, or makes other files.
    """
    if not (state / PIN).exists():
        return None
    found = read_json(state / PIN)
    commit = found.pop("commit", None)
    if found != wanted or not isinstance(commit, str):
        raise MovaError(
            f"{state} holds an unfinished download of {short(found.get('repository'))} as {short(found.get('dtype'))} "
            f"{'with' if found.get('verify') else 'without'} --verify; finish it so, or delete that folder to start "
            "anew."
        )
    return commit
