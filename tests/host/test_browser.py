"""The pack on ComfyUI's page in a real browser; without one these are skipped, and the summary says so."""

import json
import re
import warnings
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import Tab, find_browser, launch
from client import HERE
from PIL import Image
from small_workflows import NAMES, WORKFLOWS_FOLDER, write_media, write_named

from workflows.pages import TEXT_ENCODER, WAN_VAE

ROOT = HERE.parents[1]
ERROR = "error-overlay"


@pytest.fixture(scope="module")
def browser():
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


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_as_it_is_in_the_file_and_can_be_read(tab, name):
    tab.open_template(name)
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

    if name not in ("image_to_video_and_sound", "text_to_video_and_sound"):  # others need a larger window
        tab.view(0.58)
    else:
        tab.page.wait_for_function("() => app.canvas.ds.scale < 0.9", timeout=3000)  # the view moves there
        assert not tab.ask("() => app.canvas.low_quality"), "opened so small that no text is drawn"
    tab.page.wait_for_timeout(200)
    notes = tab.ask(NOTES)
    assert len(notes) == graph["types"].count("MarkdownNote")
    for note in notes:
        assert note["lines"] and note["last"] <= note["bottom"], note


def test_each_template_has_its_picture(tab):
    tab.show_templates()
    for name in NAMES:
        card = tab.page.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        picture = card.locator("img").element_handle()
        tab.page.wait_for_function("img => img.complete && img.naturalWidth === 512", arg=picture)
    tab.page.keyboard.press("Escape")
    tab.page.get_by_test_id("template-workflows-content").wait_for(state="hidden")


def test_missing_models_are_named_and_two_of_them_can_be_downloaded(tab):
    tab.open_template("image_to_video_and_sound")
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


NODES_2 = """() => [...document.querySelectorAll('[data-node-id]')].map(e => {
  const {left, top, right, bottom} = e.getBoundingClientRect()
  return {title: app.graph.getNodeById(e.dataset.nodeId).title, box: [left, top, right, bottom]}
})"""


def test_in_nodes_2_no_nodes_lie_over_each_other(browser, server, english):
    written = write_named(server.base)
    tab = Tab(browser, server, {"width": 2900, "height": 1400}, nodes_2=True)
    try:
        for name in NAMES:
            tab.open_file(WORKFLOWS_FOLDER / f"{name}.json")
            tab.view(0.8)
            tab.page.wait_for_timeout(500)  # the nodes take their heights
            nodes = tab.ask(NODES_2)
            assert len(nodes) == len(canvas(name)["nodes"])
            apart_from_each_other(nodes)
    finally:
        tab.close()
        server.post("/settings/Comfy.VueNodes.Enabled", False)
        for path in written:
            path.unlink()


VIDEO = """before => {
  const video = document.querySelector("video[src*='filename=MOVA_']")
  return video && video.src !== before && video.readyState >= 2 && {error: video.error?.message ?? null,
    duration: video.duration, size: [video.videoWidth, video.videoHeight], src: video.src}
}"""
PLAY = """async () => {
  const video = document.querySelector("video[src*='filename=MOVA_']")
  Object.assign(video, {muted: true, loop: false})
  await video.play()
  await new Promise(done => { video.onended = done; setTimeout(done, 3000) })
  return video.currentTime
}"""


def run_and_play(tab, size, before=None):
    """The address of the clip that a press of Run puts on the page; `before` is the last one's."""
    with tab.page.expect_response("**/api/prompt") as answer:
        tab.press_run()
    assert answer.value.json()["node_errors"] == {}
    video = tab.page.wait_for_function(VIDEO, arg=before, timeout=60_000).json_value()
    source = video.pop("src")
    assert video == {"error": None, "duration": pytest.approx(9 / 24, abs=0.03), "size": size}
    assert tab.ask(PLAY) == pytest.approx(9 / 24, abs=0.03)
    return source


@pytest.mark.parametrize("name", NAMES)
def test_the_run_button_makes_a_clip_that_plays_in_the_page(tab, name):
    tab.open_template(name)
    tab.make_small()
    source = run_and_play(tab, [96, 64] if name == "sound_for_a_video" else [48, 32])  # given frames stay as they were
    (file,) = parse_qs(urlsplit(source).query)["filename"]
    tab.press_assets()
    tab.page.get_by_text(file.removesuffix(".mp4")).first.wait_for()
    tab.press_assets()


KEPT = """() => app.graph._nodes.filter(n => n.type === 'MOVALoadConditioning').map(n => n.widgets[0].options.values)"""
CHOOSE = """files => app.graph._nodes.filter(n => n.type === 'MOVALoadConditioning').forEach(
  (n, i) => { n.widgets[0].value = files[i] })"""


def test_after_its_first_clip_low_memory_does_without_the_text_encoder_as_its_note_says(tab):
    tab.open_template("low_memory")
    tab.make_small()
    before = run_and_play(tab, [48, 32])
    tab.view(0.5)
    tab.page.keyboard.press("r")
    folder = tab.server.base / "output/conditioning"
    files = [f"conditioning/{max(folder.glob(f'{name}_*')).name} [output]" for name in ("positive", "negative")]
    tab.page.wait_for_function(f"files => ({KEPT})().every((list, i) => list.includes(files[i]))", arg=files)
    tab.ask(CHOOSE, files)
    tab.draw_frame("2a")
    tab.page.keyboard.press("Control+m")
    run_and_play(tab, [48, 32], before)
    (run,) = tab.server.get_json("/history?max_items=1").values()
    sent = {node["class_type"]: node["inputs"] for node in run["prompt"][2].values()}
    assert not {"ProbeClip", "MOVATextEncode", "MOVASaveConditioning"} & set(sent)
    assert sent["MOVALoadConditioning"] == {"file": files[1]}


def names_in(text):
    """What a help page sets as code: the names of inputs and outputs among them."""
    return set(re.findall(r"`(\w+)`", text))


def ours(server):
    return [name for name, info in server.get_json("/object_info").items() if info["category"] == "MOVA"]


def help_of(tab, kind, title):
    """The text of the help panel of a node, opened by the button above it."""
    tab.select_new(kind)
    help_text = tab.page.locator(".node-help-content")
    if not help_text.is_visible():
        tab.page.get_by_test_id("info-button").click()
    help_text.get_by_role("heading", name=title, exact=True).wait_for()
    return help_text.inner_text()


def test_each_node_shows_its_help_page(tab):
    for kind in ours(tab.server):
        page = (ROOT / f"web/docs/{kind}.md").read_text(encoding="utf-8")
        shown = help_of(tab, kind, page.split("\n")[0].removeprefix("# "))
        assert names_in(page) and all(name in shown for name in names_in(page)), kind


@pytest.fixture
def chinese(browser, server, files):
    tab = Tab(browser, server, locale="zh")
    yield tab
    server.post("/settings/Comfy.Locale", "en")
    tab.close()


def test_on_a_chinese_page_names_tooltips_search_and_help_are_chinese(chinese):
    tab, texts = chinese, json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    for kind in ours(tab.server):
        page = (ROOT / f"web/docs/{kind}/zh.md").read_text(encoding="utf-8")
        shown = help_of(tab, kind, texts[kind]["display_name"])
        assert names_in(page) and all(name in shown for name in names_in(page)), kind
        title, labels = tab.ask(
            "() => { const n = app.graph._nodes[0]; return [n.getTitle(), Object.fromEntries("
            "n.inputs.map(i => [i.name, i.label ?? i.localized_name]))] }"
        )
        names = {name: entry["name"] for name, entry in texts[kind]["inputs"].items()}
        assert title == texts[kind]["display_name"] and names.items() <= labels.items()

    tab.select_new("MOVAScheduler")
    tooltip = tab.page.locator(".node-tooltip", has_text=texts["MOVAScheduler"]["inputs"]["steps"]["tooltip"])
    for _ in range(
        20
    ):  # a pointer is not noticed before the node is drawn, and the panel beside the canvas has settled
        x, y = tab.ask(
            "() => { const n = app.graph._nodes[0], box = app.canvas.canvas.getBoundingClientRect()\n"
            "const p = app.canvas.ds.convertOffsetToCanvas([n.pos[0] + 100, n.pos[1] + n.widgets[0].y + 8])\n"
            "return [p[0] + box.left, p[1] + box.top] }"
        )
        tab.page.mouse.move(x - 5, y)
        tab.page.mouse.move(x, y)
        tab.page.wait_for_timeout(1500)
        if tooltip.is_visible():
            break
    assert tooltip.is_visible()
    tab.ask("() => { app.extensionManager.command.execute('Workspace.SearchBox.Toggle') }")
    tab.page.get_by_role("dialog").wait_for()
    tab.page.keyboard.type(texts["MOVAScheduler"]["display_name"])
    tab.page.get_by_role("dialog").get_by_text(texts["MOVAScheduler"]["display_name"]).first.wait_for()


def test_what_a_node_says_stands_on_it(tab):
    Image.linear_gradient("L").resize((72, 128)).save(tab.server.base / "input/upright.png")
    tab.open_template("lora")
    tab.make_small(LoadImage={"image": "upright.png"})
    tab.ask(
        "() => { const n = app.graph._nodes.find(n => n.type === 'MOVAJointSampler');"
        " n.disconnectInput(n.inputs.findIndex(i => i.name === 'model_low')) }"
    )
    tab.view(0.6)
    tab.press_run()
    for text in ("No low-noise expert is connected", "62% of the first picture (72 x 128) is cropped away"):
        tab.page.get_by_text(text).wait_for()
    told = tab.ask("() => app.graph._nodes.find(n => n.type === 'MOVALoraLoader').widgets.at(-1).value")
    assert "small.safetensors" in told
    report = tab.ask("() => app.graph._nodes.find(n => n.type === 'PreviewAny').widgets.map(w => w.value)")
    assert told in report


def test_a_wrong_model_is_told_in_the_error_panel(tab):
    tab.open_template("image_to_video_and_sound")
    tab.make_small(MOVAModelLoader={"high_noise": "wan.safetensors"})
    tab.press_run()
    told = tab.page.get_by_text("wan.safetensors is not a MOVA file").first
    details = tab.page.get_by_test_id("error-overlay-see-errors")  # not there if the panel of errors is open already
    for _ in range(60):
        if told.is_visible():
            break
        if details.is_visible():
            details.click()
        tab.page.wait_for_timeout(500)
    assert "choose an expert of MOVA." in told.inner_text()
    tab.complaints.clear()  # the page logs what the server told it
