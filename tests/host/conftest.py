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
