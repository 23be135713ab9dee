"""Other people's node packs, where they are found: in $MOVA_PACKS, else in ~/packs."""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from client import Server
from graphs import write_files

HERE = Path(__file__).parent


def find_pack(name: str) -> Path | None:
    place = Path(os.environ.get("MOVA_PACKS") or "~/packs").expanduser() / name
    return place if (place / "__init__.py").is_file() else None


def pack(name: str) -> Path:
    """Its folder; without it the test is skipped, and the summary says so."""
    place = find_pack(name)
    if place is None:
        told = f"NOT TESTED: no pack {name} (set MOVA_PACKS to the folder that it is in)"
        warnings.warn(told, stacklevel=1)
        pytest.skip(told)
    return place


@contextmanager
def pack_server(host_place, base: Path, *names: str):
    """A ComfyUI with these packs beside ours, and the golden models and inputs."""
    comfyui, python = host_place
    server = Server(comfyui, python, base)
    for name in names:
        server.add_pack(name, pack(name))
    server.add_pack("comfyui-mova", HERE.parents[1])
    server.add_pack("probe", HERE / "probe")
    server.start()
    write_files(base)
    try:
        yield server
    finally:
        server.stop()
