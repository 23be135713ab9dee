"""info and tiny: what a file is, and a small checkpoint to try things with."""

import argparse
from pathlib import Path
from typing import Any

from ..arguments import Defaults, whole


def add_to(commands: Any) -> None:
    """Both commands and their options."""
    info = commands.add_parser("info", help="say what a checkpoint or a clip is")
    info.set_defaults(run=run_info)
    info.add_argument("path", type=Path, help="a model folder, a weights file (also GGUF), a LoRA or an .mp4 clip")

    tiny = commands.add_parser("tiny", help="write a small checkpoint with random weights", formatter_class=Defaults)
    tiny.set_defaults(run=run_tiny)
    tiny.add_argument("folder", type=Path, help="a new one, or an empty one")
    tiny.add_argument("--seed", type=whole, default=0, help="of the weights")


def run_info(options: argparse.Namespace) -> None:
    from ..tools.info import describe

    for line in describe(options.path):
        print(line)


def run_tiny(options: argparse.Namespace) -> None:
    from ..tools.tiny import write_tiny

    write_tiny(options.folder, seed=options.seed)
    print(f"{options.folder}: a small MOVA checkpoint with random weights")
