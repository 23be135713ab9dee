"""Other people's node packs in a server of the tests: those that bring_packs.py brings."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from bring_packs import find_pack, folder
from client import Server
from graphs import write_files

HERE = Path(__file__).parent


def pack(name: str) -> Path:
    """Its folder; without it the test is skipped, and the summary says so."""
    place = find_pack(name)
    if place is None:
        told = f"NOT TESTED: no pack {name} in {folder()}: run make packs, or set MOVA_PACKS"
        warnings.warn(told, stacklevel=1)
        pytest.skip(told)
    return place


@contextmanager
def pack_server(host_place, base: Path, *names: str, own: Sequence[str] = (), arguments: Sequence[str] = ()):
    """A ComfyUI with these packs beside ours, and the golden models and inputs; `own`: files here that are packs."""
    comfyui, python = host_place
    server = Server(comfyui, python, base, *arguments)
    for name in names:
        server.add_pack(name, pack(name))
    for name in own:
        (base / "custom_nodes" / name).symlink_to(HERE / name)
    server.add_pack("comfyui-mova", HERE.parents[1])
    server.add_pack("probe", HERE / "probe")
    server.start()
    write_files(base)
    try:
        yield server
    finally:
        server.stop()
