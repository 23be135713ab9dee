"""Inputs that several nodes have: the same limits and steps in each."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..mova.model.presets import DEFAULT
from ..mova.shorten import short


def side_input(name: str, default: int, tooltip: str) -> io.Int.Input:
    """Pixels of a side."""
    return io.Int.Input(name, default=default, min=16, max=16384, step=16, tooltip=tooltip)


def length_input(tooltip: str) -> io.Int.Input:
    """Frames of a clip, 4 k + 1."""
    return io.Int.Input("length", default=DEFAULT.frames, min=1, max=16385, step=4, tooltip=tooltip)


def fps_input(tooltip: str) -> io.Float.Input:
    """Frames a second."""
    return io.Float.Input("fps", default=DEFAULT.fps, min=1.0, max=120.0, step=0.01, tooltip=tooltip)


def shift_input(name: str, tooltip: str, advanced: bool | None = None) -> io.Float.Input:
    """A shift of the schedule, 5 in the release."""
    return io.Float.Input(
        name, default=DEFAULT.shift, min=0.01, max=100.0, step=0.1, tooltip=tooltip, advanced=advanced
    )


def steps_input(tooltip: str) -> io.Int.Input:
    """Denoising steps of both experts together."""
    return io.Int.Input("steps", default=DEFAULT.steps, min=1, max=1000, tooltip=tooltip)


def cfg_input(tooltip: str) -> io.Float.Input:
    """Guidance by the text."""
    return io.Float.Input("cfg", default=DEFAULT.guidance, min=0.0, max=100.0, step=0.1, tooltip=tooltip)


def file_fault(slot: str, name: Any, names: Sequence[str]) -> str | None:
    """What is wrong with a file's name: it is not in the list, and how it gets there if it is one of MOVA's."""
    if name in names:
        return None
    get = "run MOVA Get Models, or " if "mova" in str(name).lower() else ""
    return f"{slot} is {short(name)}, which is not there; {get}choose one of its list."
