"""From empty model folders to a clip that plays, without a terminal; in a real browser, as test_browser."""

import pytest
from browser import Tab
from get_models import FILES, SLOW, there
from small_workflows import write_media
from test_browser_runs import run_and_play

TEMPLATE = "image_to_video_and_sound"
# As the template has it, or will have it: beside what is there.
ADD = """() => {
  if (app.graph._nodes.some(n => n.type === 'MOVAGetModels')) return
  const node = LiteGraph.createNode('MOVAGetModels')
  node.pos = [-500, 0]
  app.graph.add(node)
}"""
TOLD = """() => app.graph._nodes.find(n => n.type === 'MOVAGetModels').widgets.at(-1).value ?? ''"""
LISTED = """() => app.graph._nodes.find(n => n.type === 'MOVAModelLoader').widgets[0].options.values"""
# The host knows Wan's VAE and UMT5 in their released size only; MOVA's own files are the downloaded ones.
SMALL_NODES = {"VAELoader": "ProbeWanVAE", "CLIPLoader": "ProbeClip"}


@pytest.fixture(scope="module")
def page(browser, bare):
    server, _ = bare
    (server.base / "models/loras").mkdir(exist_ok=True)
    write_media(server.base)
    tab = Tab(browser, server)
    yield tab
    tab.close()


def test_from_empty_folders_to_a_clip_in_five_clicks_with_a_stop_in_between(page, empty_host, hub):
    clicks = page.count_clicks()
    page.open_template(TEMPLATE)
    page.ask(ADD)
    page.make_small(MOVAModelLoader={}, MOVAAudioVAELoader={})
