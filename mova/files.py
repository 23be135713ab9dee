"""Files that are either whole or not there."""

import contextlib
import os
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import MovaError

WINDOWS = os.name == "nt"


@contextlib.contextmanager
def whole_file(path: Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed over it at the end of the block, or removed after any error.

    Raises MovaError in place of what the disk (OSError) or a writer (`errors`) raises.
    """
    check_name(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a network drive may say only now that it is full
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
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """os.replace, tried again for some seconds on Windows, where virus scanners hold a new file for a moment."""
    for pause in (0.2, 1.0, 4.0) if WINDOWS else ():
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(pause)
    os.replace(source, target)


def check_name(path: Path) -> None:
    """Raise MovaError for a colon on Windows: what follows it would be written into a hidden stream of another file."""
    if WINDOWS and ":" in path.name:
        raise MovaError(f"{path} cannot be a file's name on Windows; take the colon out of it.")


def temporary_name(path: Path) -> Path:
    """A hidden, unused name in the folder of `path`, on the same disk, so that renaming it is one step.

    The file's name is in it: of what a power cut leaves behind, people see what it was to be.
    """
    return path.parent / f".{path.name[:60]}.{uuid.uuid4().hex[:8]}.part"


def reason(error: Exception) -> str:
    """The system's words for an error, without the path of the temporary file."""
    return str(getattr(error, "strerror", None) or error)
