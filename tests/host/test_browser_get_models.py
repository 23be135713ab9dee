"""From empty model folders to a clip that plays, without a terminal; in a real browser, as test_browser."""

import pytest
from browser import READY, Tab
from get_models import FILES, SLOW, there
from slow import slow
from small_workflows import NAMES, write_media
from test_browser_runs import run_and_play

TEMPLATE = next(name for name in NAMES if "image" in name)
COUNT = """() => {
  if (window.clicks === undefined) document.addEventListener('click', () => window.clicks++, true)
  window.clicks = 0
}"""
TOLD = "() => app.graph._nodes.find(n => n.type === 'MOVAGetModels').widgets.map(w => String(w.value)).join('\\n')"
LISTED = """names => ['MOVAModelLoader', 'MOVAAudioVAELoader', 'VAELoader', 'CLIPLoader'].every(type => {
  const {widgets} = app.graph._nodes.find(n => n.type === type)
  return widgets[0].options.values.some(value => names.includes(value))
})"""
OWN_LOADERS = ("MOVAModelLoader", "MOVAAudioVAELoader")  # which keep the files that were downloaded


@pytest.fixture(scope="module")
def opened(browser, bare):
    server, _ = bare
    write_media(server.base)
    tab = Tab(browser, server)
    yield tab
    tab.close()


@pytest.fixture
def page(opened, empty_host, hub):
    """The template on the page of a server without models: three clicks, which are counted."""
    page = opened.page
    opened.ask(COUNT)
    opened.ask("() => app.graph.clear()")
    page.get_by_text("Templates", exact=True).first.click()
    page.get_by_text("comfyui-mova", exact=True).click()
    page.get_by_test_id(f"template-workflow-{TEMPLATE}").click()
    page.wait_for_function(READY)
    page.get_by_test_id("template-workflows-content").wait_for(state="hidden")
    return opened


def told(tab, text):
    """Wait until the node says so."""
    tab.page.wait_for_function(f"text => ({TOLD})().includes(text)", arg=text, timeout=60_000)


def make_the_clip(tab):
    """Run it, with stand-ins for what the host knows in its released size only, Wan's VAE and UMT5."""
    tab.make_small(OWN_LOADERS)
    run_and_play(tab, [48, 32])


def test_from_empty_folders_to_a_clip_that_plays_in_five_clicks(page, empty_host):
    page.press_run()
    told(page, "Done: ")
    assert there(empty_host) == set(FILES.values())
    # Without R.
    page.page.wait_for_function(LISTED, arg=[path.split("/")[1] for path in FILES.values()])
    make_the_clip(page)
    assert page.ask("() => window.clicks") == 5


@slow("test_get_models stops it over the API")
def test_stopped_on_the_page_it_goes_on_with_the_next_press(page, empty_host, hub):
    hub.hold[SLOW] = 10_000  # for each time that it is asked
    page.press_run()
    told(page, "fetching video_dit 00002-of-00002")
    assert hub.held.wait(60)
    page.page.get_by_label("Cancel current run").first.click()
    page.page.wait_for_function("() => !app.runningNodeId")
    assert FILES["high_noise"] not in there(empty_host)
    hub.hold.clear()
    hub.released.set()
    page.press_run()
    told(page, "Done: ")
    assert there(empty_host) == set(FILES.values())
    assert hub.fetched(SLOW)[-1][0] > 0, "not from the beginning"
    make_the_clip(page)
    told(page, "Nothing to do: all is there")
    assert page.ask("() => window.clicks") == 7, "five, the stop, and one more press"
