import signal
from pathlib import Path

import pytest

from mova.tiny import write_tiny

# A shell has what it starts in the background ignore Ctrl-C, and so would the programs that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in the released layout. Shared: tests that change it must copy it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    write_tiny(folder)
    return folder


@pytest.fixture
def photograph() -> Path:
    return Path(__file__).parents[1] / "demos" / "rocket.jpg"
