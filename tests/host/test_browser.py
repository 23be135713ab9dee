"""The workflows on ComfyUI's page in a real browser; without one these are skipped, and the summary says so."""

import json
import re

import pytest
from slow import few
from small_workflows import ALL, NAMES, WORKFLOWS_FOLDER, write_named

from authoring.steps import TEXT_ENCODER, WAN_VAE

ERROR = "error-overlay"
MAIN = "mova_1_image_to_video_with_sound"


def canvas(name):
    return json.loads((WORKFLOWS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def links_in_file(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = workflow["links"]  # newer pages have the nodes' numbers as text
    return {(str(origin), out, str(to), nodes[to]["inputs"][at]["name"]) for _, origin, out, to, at, _ in links}


GRAPH = """() => ({
  types: app.graph._nodes.map(n => n.type),
  unknown: app.graph._nodes.map(n => n.type).filter(t => !LiteGraph.registered_node_types[t]),
  links: [...app.graph.links.values()].map(
    l => [`${l.origin_id}`, l.origin_slot, `${l.target_id}`,
          app.graph.getNodeById(l.target_id).inputs[l.target_slot].name]),
})"""
# A title: text of LiteGraph's font, after the dot. Boxes: with their titles.
LAYOUT = """() => app.graph._nodes.map(n => {
  const pen = document.createElement('canvas').getContext('2d')
  pen.font = `${LiteGraph.NODE_TEXT_SIZE}px ${LiteGraph.NODE_FONT}`
  const top = LiteGraph.NODE_TITLE_HEIGHT
  return {title: n.title, box: [n.pos[0], n.pos[1] - top, n.pos[0] + n.size[0], n.pos[1] + n.size[1]],
          room: n.size[0] - top - 10 - pen.measureText(n.title).width,
          needed: n.computeSize()[1], height: n.size[1]}
})"""
GROUPS = "() => app.graph._groups.map(g => [g.pos[0], g.pos[1], g.pos[0] + g.size[0], g.pos[1] + g.size[1]])"
# Of a note's text the last line's lower edge, and the lower edge of the box that it stands in.
NOTES = """() => app.graph._nodes.filter(n => n.type === 'MarkdownNote').map(n => {
  const box = n.widgets[0].element
  const lines = [...box.querySelectorAll('p, li, h2')].filter(e => e.getClientRects().length)
  return {title: n.title, lines: lines.length, bottom: box.getBoundingClientRect().bottom,
          last: Math.max(...lines.map(e => e.getBoundingClientRect().bottom))}
})"""


def apart_from_each_other(nodes):
    for i, a in enumerate(nodes):
        for b in nodes[:i]:
            apart = any(a["box"][k] >= b["box"][k + 2] or b["box"][k] >= a["box"][k + 2] for k in (0, 1))
            assert apart, (a["title"], b["title"])


@pytest.mark.parametrize("name", few(NAMES, NAMES[0], "mova_6_low_memory", "mova_11_fast"))
def test_a_template_opens_as_it_is_in_the_file_and_can_be_read(tab, name):
    open_it = tab.open_template if name == MAIN else tab.open_workflow  # all are opened alike, and it takes long
    open_it(name)
    workflow, graph = canvas(name), tab.ask(GRAPH)
    assert graph["unknown"] == []
    assert sorted(graph["types"]) == sorted(node["type"] for node in workflow["nodes"])
    assert {tuple(link) for link in graph["links"]} == links_in_file(workflow)

    nodes, groups = tab.ask(LAYOUT), tab.ask(GROUPS)
    for a in nodes:
        left, top, right, bottom = a["box"]
        assert any(g[0] < left and g[1] < top and right < g[2] and bottom < g[3] for g in groups), a["title"]
        assert a["room"] > 0, (a["title"], "the title is cut off")
        assert a["height"] >= a["needed"], (a["title"], "the widgets do not fit")
    apart_from_each_other(nodes)

    tab.page.wait_for_timeout(200)
    notes = tab.ask(NOTES)
    assert len(notes) == graph["types"].count("MarkdownNote")
    for note in notes:
        assert note["lines"] and note["last"] <= note["bottom"], note


def test_each_template_has_its_picture(tab):
    tab.show_templates()
    for name in ALL:
        card = tab.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        picture = card.locator("img").element_handle()
        tab.page.wait_for_function("img => img.complete && img.naturalWidth === 512", arg=picture)
    tab.page.keyboard.press("Escape")
    tab.page.get_by_test_id("template-workflows-content").wait_for(state="hidden")


def test_missing_models_are_named_and_two_of_them_can_be_downloaded(tab):
    tab.open_workflow(MAIN)
    tab.page.get_by_test_id("error-overlay-see-errors").click()
    panel = tab.page.get_by_test_id("error-group-missing-model")
    panel.wait_for()
    names = {TEXT_ENCODER["name"], WAN_VAE["name"], "MOVA-360p_audio_vae.safetensors"}
    names |= {f"MOVA-360p_{part}_noise_fp8_e4m3_scaled.safetensors" for part in ("high", "low")}
    assert sorted(re.findall(r"\S+\.safetensors", panel.inner_text())) == sorted(names)  # these five, each once
    assert panel.get_by_test_id("missing-model-download").count() == 2
    asked = []

    def answer(route):
        asked.append(route.request.url)
        route.fulfill(body="weights", headers={"Content-Disposition": "attachment"})

    tab.context.route("https://huggingface.co/**", answer)
    for button in panel.get_by_test_id("missing-model-download").all():
        with tab.page.expect_download():
            button.click()
    tab.context.unroute("https://huggingface.co/**")
    assert set(asked) == {TEXT_ENCODER["url"], WAN_VAE["url"]}


def test_with_the_files_in_their_places_nothing_is_missing(tab):
    written = write_named(tab.server.base)
    try:
        tab.command("RefreshNodeDefinitions")
        for name in NAMES:
            tab.open_file(WORKFLOWS_FOLDER / f"{name}.json")
            tab.page.wait_for_timeout(800)  # time to find what is missing
            assert not tab.page.get_by_test_id(ERROR).is_visible(), (
                name,
                tab.page.get_by_test_id(ERROR).inner_text(),
            )
    finally:
        for path in written:
            path.unlink()
        tab.command("RefreshNodeDefinitions")
