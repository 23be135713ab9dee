"""Files that are either whole or not there.

A process that is killed cannot remove what it was writing. So that the next one can, and leaves alone what another is
still writing, each temporary file is held open while it grows: locked, or on Windows, where nobody can delete an open
file, just open. Both end with the process, however it ends.
"""

import contextlib
import hashlib
import os
import re
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import MovaError

WINDOWS = os.name == "nt"
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)
TEMPORARY = re.compile(r"\..+\.mova-[0-9a-f]{8}\.part", re.DOTALL)  # names of temporary_name


@contextlib.contextmanager
def whole_file(path: Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed over it at the end of the block, or removed after any error.

    It is to be written in place: another file of its name would not be held. What processes that are dead have left in
    that folder is removed first. Raises MovaError in place of what the disk (OSError) or a writer (`errors`) raises.
    """
    check_name(path)
    remove_leftovers(path.parent)
    temporary = temporary_name(path)
    held: int | None = None
    try:
        held = hold(temporary)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a network drive may say only now that it is full
        if WINDOWS:
            os.close(held)
            held = None
        rename(temporary, path)
    except (OSError, *errors) as error:  # type: ignore[misc]
        remedy = "check that its folder exists and has room"
        if isinstance(error, PermissionError):  # what Windows says of a file in use, too
            remedy = "check its permissions, and that no other program has it open"
        raise MovaError(f"{path} could not be written ({reason(error)}); {remedy}.") from error
    except BaseException as error:
        # Tensors mapped from the temporary file, in functions that have failed: Windows may not delete it under them.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if held is not None:
            os.close(held)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def hold(path: Path) -> int:
    """Make a new file, locked for as long as the descriptor that is returned stays open."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        locked = lock(held, wait=True)
        if path.exists() or not locked:  # else, before it was locked, another process took it for a leftover
            return held
        os.close(held)


def lock(held: int, wait: bool = False) -> bool:
    """Lock an open file; False if another process holds it (and it is not to `wait`), or the disk has no locks."""
    if sys.platform == "win32":
        return True  # an open file is lock enough
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that are dead; those that are being written stay."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if TEMPORARY.fullmatch(name):
                with contextlib.suppress(OSError):
                    remove_if_left(folder / name)


def remove_if_left(path: Path) -> None:
    """Remove a temporary file unless a process holds it, which on Windows forbids that by itself."""
    if WINDOWS:
        path.unlink()
        return
    held = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if lock(held):
            path.unlink()
    finally:
        os.close(held)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep a second process from making the file at `path` while the block runs. Raises MovaError if one is at it.

    A file beside it, named as a temporary one and held as they are, stands for the process: of a dead one it is removed
    as they are. On disks that have no locks, nothing is kept off.
    """
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:8]
    mark = path.parent / f".{path.name[:60]}.mova-{digest}.part"
    remove_leftovers(path.parent)
    held: int | None = None
    try:
        held = hold(mark)
    except FileExistsError as error:
        if is_held(mark):
            raise MovaError(
                f"Another process is making {path}; wait until it is done, or give this one another name."
            ) from error
    except OSError:  # that the folder cannot be written to is told by what writes the file
        pass
    try:
        yield
    finally:
        if held is not None:
            if WINDOWS:
                os.close(held)
            with contextlib.suppress(OSError):
                mark.unlink()
            if not WINDOWS:
                os.close(held)


def is_held(path: Path) -> bool:
    """Whether another process holds a file that is there; False where the disk has no locks."""
    if sys.platform == "win32":
        return True  # else it had been removed
    import fcntl

    try:
        found = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(found)
    return False


def rename(source: Path, target: Path) -> None:
    """os.replace, tried again for some seconds on Windows, where virus scanners hold a new file for a moment."""
    for pause in (0.2, 1.0, 4.0) if WINDOWS else ():
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(pause)
    os.replace(source, target)


def check_name(path: Path) -> None:
    """Raise MovaError for what is no file on Windows: what follows a colon would be written into a hidden stream of
    another file, and what is called as a device is, in some versions whatever ending follows, would go to that device.
    """
    if WINDOWS and ":" in path.name:
        raise MovaError(f"{path} cannot be a file's name on Windows; take the colon out of it.")
    if WINDOWS and DEVICE.fullmatch(path.name):
        raise MovaError(f"{path} cannot be a file's name on Windows, where a device is called so; give another name.")


def temporary_name(path: Path) -> Path:
    """A hidden, unused name in the folder of `path`, on the same disk, so that renaming it is one step.

    The file's name is in it: of what a power cut leaves behind, people see what it was to be.
    """
    return path.parent / f".{path.name[:60]}.mova-{uuid.uuid4().hex[:8]}.part"


def reason(error: Exception) -> str:
    """The system's words for an error, without the path of the temporary file."""
    return str(getattr(error, "strerror", None) or error)
