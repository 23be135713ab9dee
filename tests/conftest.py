import gc
import os
import shutil
import signal
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: before torch is imported, which counts the cores then
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from mova.tools.tiny import write_tiny

# A shell has what it starts in the background ignore Ctrl-C, and so would the programs that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    """Have garbage collection pass over what is there before a test; what the test makes is collected as ever.

    A run collects between its parts, and most of a small run's time would go into all that pytest and libraries hold.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or what is still there at the end is taken for leaks, by Triton's bindings aloud


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in the released layout. Shared: tests that change it must copy it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    write_tiny(folder)
    return folder


@pytest.fixture
def photograph() -> Path:
    return Path(__file__).parents[1] / "demos" / "rocket.jpg"


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A checkpoint folder whose files may be replaced (not written into: the large ones are links)."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy", copy_function=os.link)
