"""python -m gpu.part NAME: one part, in this process. Started by run.py."""

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from mova.errors import first_line

from . import place
from .task import carry_out, write


def stop(*_: Any) -> None:
    """What run.py asks for at the part's limit: what the part has started ends with it."""
    raise SystemExit("ended at its limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--carried", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    if options.carried is not None:
        sys.path.append(str(options.carried / "site"))  # what is installed goes before
    torch.manual_seed(0)
    with open(options.out, "a", encoding="utf-8") as out, torch.no_grad():
        try:
            here = place.find(options.rehearse, options.seconds, options.carried, options.broken)
            tasks = importlib.import_module(f"gpu.parts.{options.name}").tasks(here)
        except Exception as error:  # no GPU, or a module that is not there: told in the table
            write(out, {"name": "all", "not_measured": f"{type(error).__name__}: {first_line(error)}"})
            raise
        carry_out(here, tasks, out)


if __name__ == "__main__":
    main()
