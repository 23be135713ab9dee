"""Files that are either whole or not there."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import MovaError


@contextlib.contextmanager
def whole_file(path: Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed over it at the end of the block, or removed after any error.

    Raises MovaError in place of what the disk (OSError) or a writer (`errors`) raises.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a network drive may say only now that it is full
        os.replace(temporary, path)
    except (OSError, *errors) as error:  # type: ignore[misc]
        raise MovaError(
            f"{path} could not be written ({reason(error)}); check that its folder exists and has room."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A hidden, unused name in the folder of `path`, on the same disk, so that renaming it is one step."""
    return path.parent / f".{uuid.uuid4().hex}.part"


def reason(error: Exception) -> str:
    """The system's words for an error, without the path of the temporary file."""
    return str(getattr(error, "strerror", None) or error)
