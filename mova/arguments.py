"""How the command line takes its arguments, and tells mistakes in them."""

import argparse
import difflib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from .errors import MovaError


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that are values."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


class Command(Parser):
    """Names a mistyped option before what is missing without it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known = list(self._option_string_actions)
        for word in args[: args.index("--")] if "--" in args else args:
            name = word.partition("=")[0]
            is_option = name.startswith("--") and " " not in name  # as argparse sees it
            if is_option and not any(option.startswith(name) for option in known):
                close = difflib.get_close_matches(name, known, 1)
                self.error(f"there is no option {name}" + (f" (did you mean {close[0]}?)" if close else ""))
        return super().parse_known_args(args, namespace)


def lora(text: str) -> tuple[Path, float]:
    """FILE[:STRENGTH] as the file and its strength, 1 if none is given. A drive's colon is no strength's."""
    head, colon, tail = text.rpartition(":")
    if not colon or os.path.exists(text):
        return Path(text), 1.0
    try:
        return Path(head), float(tail)
    except ValueError:
        if os.path.exists(head) or head.endswith((".safetensors", ".pt")):
            message = f"{tail!r} behind {head} is no strength; give a number, as in FILE:0.8"
            raise argparse.ArgumentTypeError(message) from None
        return Path(text), 1.0


def span(text: str) -> tuple[float, float]:
    """START:END in percent, as shares."""
    try:
        start, end = (float(part) / 100 for part in text.split(":"))
    except ValueError:
        message = f"{text[:30]!r} is no range; give two percentages, as in 0:50"
        raise argparse.ArgumentTypeError(message) from None
    return start, end


def whole(text: str) -> int:
    """A whole number, of a length that can be meant."""
    if len(text) > 30:
        raise argparse.ArgumentTypeError(f"{text[:10]}... has {len(text)} letters; give a number")
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from None


def typed() -> str:
    """What was typed in front of the arguments: `python -m mova`, or `python PATH/TO/THE/PACK`."""
    return subprocess.list2cmdline(sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])])


def models_folder(pack: Path) -> Path:
    """ComfyUI's models, beside the custom_nodes that the pack is in. Raises MovaError if it is in none."""
    beside = Path(os.path.abspath(pack)).parent  # as it was called: a link in custom_nodes leads out of it
    models = beside.parent / "models"
    if beside.name.lower() != "custom_nodes" or not models.is_dir():
        raise MovaError(
            f"There is no models folder beside {beside}, as there is where a pack is in ComfyUI's custom_nodes; name "
            "the folder that the files should go to."
        )
    return models
