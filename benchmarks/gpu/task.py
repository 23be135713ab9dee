"""Rows of the result, and how one that cannot be measured says so."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import torch

from mova.errors import first_line

from . import clock
from .place import Place

Figures = dict[str, Any]  # what is measured, with its unit -> number or a word


@dataclass(frozen=True)
class Task:
    """A row: measured by a function that returns its figures. seconds: what it takes at the least, on a GPU."""

    name: str
    measure: Callable[[], Figures]
    seconds: float = 0.0


class NotMeasured(Exception):
    """Raised with the reason by a task that cannot be done here."""


def carry_out(place: Place, tasks: Iterable[Task], out: TextIO) -> None:
    """Measure one after the other; a line of JSON for each as soon as it is done, and their names first."""
    tasks = list(tasks)
    write(out, {"planned": [task.name for task in tasks]})
    for task in tasks:
        figures = attempt(place, task)
        write(out, {"name": task.name, **figures})
        clock.make_room(place)


def attempt(place: Place, task: Task) -> Figures:
    """The task's figures, or why there are none."""
    if not place.rehearsed and place.left() < task.seconds:
        return {"not_measured": f"no time left (takes {task.seconds:.0f} s)"}
    try:
        figures = task.measure()
    except NotMeasured as reason:
        return {"not_measured": str(reason)}
    except torch.OutOfMemoryError:
        return {"not_measured": "out of memory"}
    except Exception as error:  # of any library: one row that fails leaves the others
        return {"not_measured": f"{type(error).__name__}: {first_line(error)[:200]}"}
    wrong = [name for name, value in figures.items() if isinstance(value, float) and not math.isfinite(value)]
    return {"not_measured": f"{', '.join(wrong)} is not a finite number"} if wrong else figures


def write(out: TextIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()
