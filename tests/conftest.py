import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: before torch is imported, which counts the cores then
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from mova.tools.tiny import write_tiny

# A shell has what it starts in the background ignore Ctrl-C, and so would the programs that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
DISK = 8_000_000_000  # bytes; 5.6e9 were measured, of which nothing stays where all pass


def pytest_sessionstart(session: pytest.Session) -> None:
    """A whole run ends at once where the disk is too small for it: half-way, it fails in a thousand places."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if session.config.getoption("numprocesses", None) and free < DISK:
        pytest.exit(
            f"The tests write up to {DISK / 1e9:.0f} GB into {tempfile.gettempdir()}, where {free / 1e9:.1f} GB are "
            "free; make room there, or name another folder in TMPDIR.",
            returncode=1,
        )


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


@pytest.fixture(scope="session")
def release(tiny_checkpoint, tmp_path_factory):
    """A small checkpoint with the tokenizer in ComfyUI's form, too. Shared, as tiny_checkpoint."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("release") / "tiny")
    first = b"\n\x0e\n\x05<pad>\x15\x00\x00\x00\x00\x18\x03"  # bytes of every such file
    (folder / "tokenizer" / "spiece.model").write_bytes(first + bytes(range(256)))
    return folder


@pytest.fixture(scope="session")
def converted(release, tmp_path_factory):
    """What conversion of `release` gives, by dtype."""
    from mova.convert.run import convert

    made = {}

    def of(dtype):
        if dtype not in made:
            made[dtype] = tmp_path_factory.mktemp(dtype)
            list(convert(release, made[dtype], dtype))
        return made[dtype]

    return of


@pytest.fixture
def hub(release, monkeypatch):
    """`release` on a hub, which the hub's library takes for its own."""
    from hub import Hub, take_for_the_hub

    with Hub(release).running() as hub:
        take_for_the_hub(hub, monkeypatch)
        yield hub


@pytest.fixture(scope="session")
def place(tiny_checkpoint, tmp_path_factory):
    """A folder to train in: a checkpoint, and two clips prepared, in cache (small) and large."""
    from train_runs import prepared

    return prepared(tiny_checkpoint, tmp_path_factory.mktemp("train"))
