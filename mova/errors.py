"""What can go wrong for a user, each raised with one sentence: what is wrong, where, and what to do."""

import errno
import sys

# What torch and systems say when memory is full: CUDA, MPS, Windows (1455: its page file is too small), and others.
FULL = ("out of memory", "not enough memory", "allocate memory", "error 1455", "os error 12")


class MovaError(ValueError):
    """An input from outside is wrong. The message is one sentence meant for the user, shown without a traceback."""

    __module__ = "mova"  # ComfyUI shows it before the message; else that would be the whole path of the pack


class Cancelled(Exception):
    """The user stopped the run between two model evaluations."""


def install_command(package: str) -> str:
    """What installs a package for this Python, which may not be the one that the user's shell finds."""
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install {package}"


def memory_is_full(error: BaseException) -> bool:
    """Whether it was memory that ran out, whoever says so, and not a file that is at fault."""
    short_of_it = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return short_of_it or any(words in str(error).lower() for words in FULL)


def first_line(error: Exception) -> str:
    """What another library has to say, short enough for a sentence of ours."""
    return str(error).strip().split("\n")[0] or type(error).__name__
