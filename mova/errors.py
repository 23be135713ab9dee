"""What can go wrong for a user, each raised with one sentence: what is wrong, where, and what to do."""

import sys


class MovaError(ValueError):
    """An input from outside is wrong. The message is one sentence meant for the user, shown without a traceback."""

    __module__ = "mova"  # ComfyUI shows it before the message; else that would be the whole path of the pack


class Cancelled(Exception):
    """The user stopped the run between two model evaluations."""


def install_command(package: str) -> str:
    """What installs a package for this Python, which may not be the one that the user's shell finds."""
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install {package}"


def first_line(error: Exception) -> str:
    """What another library has to say, short enough for a sentence of ours."""
    return str(error).strip().split("\n")[0]
