"""Bars on the terminal."""

import sys
from typing import Any


class StepBar:
    """Which part is at work, and a bar over the steps."""

    def __init__(self, steps: int, shown: bool = True) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=steps, unit="step", dynamic_ncols=True, disable=not shown)

    def __enter__(self) -> "StepBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def part(self, name: str) -> None:
        self.bar.set_description(name)

    def tell(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stderr)

    def step(self, done: int, of: int) -> None:
        self.bar.update(done - self.bar.n)


class ByteBar:
    """A bar over the bytes of the file at work."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.name = ""

    def __enter__(self) -> "ByteBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if name != self.name:
            self.close()
        self.name = name
        if self.bar is None:
            self.bar = tqdm(total=total, desc=name, unit="B", unit_scale=True, unit_divisor=1024, dynamic_ncols=True)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None


def quiet_libraries() -> None:
    """Leave the terminal to our own progress bar."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def tell(text: str) -> None:
    """What the user should know, apart from what the command was asked for."""
    print(text, file=sys.stderr)
