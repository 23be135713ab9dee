"""A download on the node at work: bytes and files; and the stop button."""

import time
from typing import Any

import comfy.model_management
import comfy.utils

from . import notice

PAUSE = 0.3  # seconds between two lines: chunks come by the thousand
FETCHING = "fetching "  # begins what download says of bytes that arrive


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f}"


class ByteProgress:
    """Told what a download plans and does. The bar is over all bytes that are to arrive."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.files = self.finished = 0
        self.total = self.arrived = 0
        self.name, self.before = "", 0
        self.started = self.told = 0.0

    def planned(self, files: int, size: int) -> None:
        self.files, self.total, self.started = files, size, time.monotonic()
        self.bar = comfy.utils.ProgressBar(max(1, size))

    def __call__(self, name: str, done: int, total: int) -> None:
        """Raises what the host raises when its stop button was pressed."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if name.startswith(FETCHING):
            if name == self.name:
                self.arrived = max(0, self.arrived + done - self.before)
            self.before = done  # at first what was there from before, which is not among what is to arrive
        changed, self.name, now = name != self.name, name, time.monotonic()
        if self.bar is not None and (changed or now - self.told > PAUSE):
            self.told = now
            self.bar.update_absolute(min(self.arrived, self.total))
            notice.tell(f"{self.line(now)};\n{name}: {gigabytes(done)} of {gigabytes(total)} GB")

    def line(self, now: float) -> str:
        """All files, all bytes, and how long the rest takes if it goes on so."""
        line = f"{self.finished} of {self.files} files, {gigabytes(self.arrived)} of {gigabytes(self.total)} GB"
        if now - self.started > 10 and self.arrived:
            left = (now - self.started) * (self.total - self.arrived) / self.arrived
            line += f", about {max(1, round(left / 60))} min left"
        return line

    def finish_file(self) -> None:
        self.finished += 1
