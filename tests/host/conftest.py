"""A real ComfyUI, started once for all tests here; without one they are skipped, and the summary says so."""

import os
import sys
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # client and graphs, for the tests
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a quarter of each of ComfyUI's starts would go into compiling it


@pytest.fixture(scope="session")
def host_place():
    from client import find_comfyui

    found = find_comfyui()
    if isinstance(found, str):
        warnings.warn(f"NOT TESTED ON COMFYUI: {found}", stacklevel=1)
        pytest.skip(f"NOT TESTED ON COMFYUI: {found}")
    return found


@pytest.fixture(scope="session")
def server(host_place, tmp_path_factory):
    from client import Server

    comfyui, python = host_place
    server = Server(comfyui, python, tmp_path_factory.mktemp("comfyui"))
    server.add_pack("comfyui-mova", HERE.parents[1])
    server.add_pack("probe", HERE / "probe")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def files(server):
    """The golden models and inputs, where the server finds them."""
    from graphs import write_files

    write_files(server.base)
    return server.base


@pytest.fixture(scope="session")
def training_vae(server, files, place):
    """What the workflows of training_graphs need is where the server finds it: the name of the VAE's file."""
    from training_graphs import write_files

    return write_files(server, place)


@pytest.fixture(scope="session")
def bare(host_place, release, tmp_path_factory):
    """A server without a single model, and the hub that it asks."""
    from get_models import empty_server, stand_in

    with (
        stand_in(release, tmp_path_factory.mktemp("wan")).running() as hub,
        empty_server(host_place, tmp_path_factory.mktemp("bare"), hub) as server,
    ):
        yield server, hub


@pytest.fixture
def hub(bare):
    """That hub, well and unasked."""
    for one in (bare[1], *bare[1].beside):
        one.asked.clear()
        one.refusal = None
        one.hold.clear()
        one.changed.clear()
        one.held.clear()
        one.released.clear()
    return bare[1]


@pytest.fixture
def empty_host(bare, hub):
    """That server, emptied."""
    from get_models import empty

    empty(bare[0])
    return bare[0]


@pytest.fixture(scope="module")
def browser():
    from browser import find_browser, launch

    found = find_browser()
    if isinstance(found, str):
        warnings.warn(f"NOT TESTED IN A BROWSER: {found}", stacklevel=1)
        pytest.skip(f"NOT TESTED IN A BROWSER: {found}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright, found)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def english(browser, server, files):
    from browser import Tab
    from small_workflows import write_media

    write_media(server.base)
    server.post("/history", {"clear": True})  # after a hundred runs of other tests the page lists no clip
    tab = Tab(browser, server)
    yield tab
    tab.close()


@pytest.fixture
def tab(english):
    """The page in English; afterwards it must have nothing to complain of."""
    english.complaints.clear()
    yield english
    assert not english.complaints
