"""A download on the node at work: bytes and files; and the stop button."""

import time
from typing import Any

import comfy.model_management
import comfy.utils

from ...mova.download.totals import Totals, gigabytes
from . import notice

PAUSE = 0.3  # seconds between two lines: chunks come by the thousand


class ByteProgress:
    """Told what a download plans and does. The bar is over all bytes that are to arrive."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.bar: Any = None
        self.told = 0.0

    def planned(self, files: int, size: int) -> None:
        """Of each download, if there are several in turn."""
        self.totals.files += files
        self.totals.size += size
        self.totals.started = self.totals.started or time.monotonic()
        self.bar = comfy.utils.ProgressBar(max(1, self.totals.size))

    def __call__(self, name: str, done: int, total: int) -> None:
        """Raises what the host raises when its stop button was pressed."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        changed, now = name != self.totals.name, time.monotonic()
        self.totals.tell(name, done)
        if self.bar is not None and (changed or now - self.told > PAUSE):
            self.told = now
            self.bar.update_absolute(min(self.totals.arrived, self.totals.size))
            notice.show_line(f"{self.totals.line(now)};\n{name}: {gigabytes(done)} of {gigabytes(total)} GB")

    def finish_file(self) -> None:
        self.totals.finished += 1
