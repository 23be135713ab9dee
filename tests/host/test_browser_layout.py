"""Every template on a laptop's page, in both renderers and both languages: it opens readable, nothing lies over
anything, also with all notices and previews there, no link passes behind a node, and its words can be read. In a real
browser, as test_browser."""

import io

import pytest
from browser import Tab
from PIL import Image
from slow import RUNS, slow
from small_workflows import ALL, NAMES, WORKFLOWS_FOLDER, write_media, write_named

LAPTOP = {"width": 1366, "height": 768}
READABLE = 8 / 14  # below this zoom the canvas draws no text: letters of 14 pixels would be smaller than 8
CONTRAST = 4.5  # of text, as the Web Content Accessibility Guidelines ask for
NOTICES = ["MOVASize", "MOVAConditioning", "MOVAJointSampler", "MOVAFitVideo", "MOVALoraLoader", "MOVAGetModels"]
NOTICES += ["MOVAEnhancePrompt", "MOVATrainingClip", "MOVATrainLoRA"]
FILES_TOLD = (
    "Done: 5 files. Run once more: the loaders have them now. Kept, though not marked as of MOVA-360p: "
    "MOVA-360p_high_noise_fp8_e4m3_scaled.safetensors and 2 more."
)  # the longest that MOVA Get Models says when it is done
SAMPLERS = ["MOVAJointSampler", "SamplerCustomAdvanced"]
# As while it runs: a notice wherever one may come, as long as these are, and a frame at each sampler.
FILL = """async ({notices, samplers, files}) => {
  const api = window.comfyAPI.api.api
  const frame = Object.assign(document.createElement('canvas'), {width: 640, height: 352})
  frame.getContext('2d').fillRect(0, 0, 640, 352)
  const blob = await new Promise(done => frame.toBlob(done))
  for (const {id, type} of app.graph._nodes) {
    const nodeId = String(id), names = {nodeId, displayNodeId: nodeId, parentNodeId: nodeId, realNodeId: nodeId}
    if (notices.includes(type))
      api.dispatchCustomEvent('progress_text', {nodeId, text: type === 'MOVAGetModels' ? files
        : 'Step 12 of 20, about 12:34 left; 40 evaluations; 1.9 GiB for the clip, 10.2 GiB free'})
    if (samplers.includes(type)) api.dispatchCustomEvent('b_preview_with_metadata', {blob, ...names, jobId: 'a'})
  }
}"""
# Boxes in the graph's own units, titles included: of what the canvas draws, or of Nodes 2.0's elements.
CANVAS = """() => app.graph._nodes.map(n => ({id: n.id, title: n.title, needed: n.computeSize()[1], height: n.size[1],
  box: [n.pos[0], n.pos[1] - LiteGraph.NODE_TITLE_HEIGHT, n.pos[0] + n.size[0], n.pos[1] + n.size[1]]}))"""
ELEMENTS = """() => [...document.querySelectorAll('[data-node-id]')].map(e => {
  const node = app.graph.getNodeById(e.dataset.nodeId), {scale, offset} = app.canvas.ds
  const area = app.canvas.canvas.getBoundingClientRect(), r = e.getBoundingClientRect()
  const at = (x, y) => [(x - area.left) / scale - offset[0], (y - area.top) / scale - offset[1]]
  return {id: node.id, title: node.title, box: [...at(r.left, r.top), ...at(r.right, r.bottom)]}
})"""
# Links that pass behind a node which is neither of their ends. Each curve that the page has drawn, from output over
# reroutes to input, is drawn once more, alone and half as large, and what of it lies in a node's box is counted.
LINKS_BEHIND = """boxes => {
  const {reroutes, links} = app.graph, behind = [], node = id => app.graph.getNodeById(id)
  const sheet = Object.assign(document.createElement('canvas'), {width: 1000, height: 650})
  const pen = sheet.getContext('2d', {willReadFrequently: true}), on = value => Math.round((value + 100) / 2)
  pen.setTransform(0.5, 0, 0, 0.5, 50, 50)
  let drawn = 0
  pen.lineWidth = 4
  for (const link of links.values()) {
    const curves = [link.path]
    for (let dot = reroutes.get(link.parentId); dot; dot = reroutes.get(dot.parentId)) curves.push(dot.path)
    if (!curves.every(Boolean)) continue
    drawn += 1
    pen.clearRect(-100, -100, 2000, 1300)
    for (const curve of curves) pen.stroke(curve)
    const {data} = pen.getImageData(0, 0, sheet.width, sheet.height)
    for (const {id, title, box} of boxes) {
      if (id == link.origin_id || id == link.target_id) continue
      const [left, top, right, bottom] = box.map(on)
      let points = 0
      for (let y = top + 1; y < bottom - 1; y++)
        for (let x = left + 1; x < right - 1; x++) points += data[4 * (y * sheet.width + x) + 3] > 127
      if (points) behind.push([node(link.origin_id).title, node(link.target_id).title, title, points])
    }
  }
  return {links: links.size, drawn, behind}
}"""
GROUPS = "() => app.graph._groups.map(g => [g.pos[0], g.pos[1], g.pos[0] + g.size[0], g.pos[1] + g.size[1]])"
OPENED = "() => ({scale: app.canvas.ds.scale, textless: app.canvas.low_quality})"
# Names of files that are cut off. The canvas shortens a widget's label first, and keeps 70 pixels for its arrows.
CUT_ON_CANVAS = """() => app.graph._nodes.flatMap(n => (n.widgets ?? []).map(w => {
  const pen = document.createElement('canvas').getContext('2d')
  pen.font = `12px ${LiteGraph.NODE_FONT}`
  const name = String(w.value)
  return name.endsWith('.safetensors') && pen.measureText(name).width > n.size[0] - 70 ? name : null
}).filter(Boolean))"""
CUT_ELEMENTS = """() => [...document.querySelectorAll('[data-node-id] *')].filter(e => !e.children.length
  && e.textContent.endsWith('.safetensors') && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
# Titles of nodes and groups that are cut off, or run into the next group: on the canvas, or of Nodes 2.0's elements.
CUT_TITLES = """nodes_2 => {
  const pen = document.createElement('canvas').getContext('2d'), wide = (font, text) => {
    pen.font = font
    return pen.measureText(text).width
  }
  const shown = n => [...document.querySelectorAll(`[data-node-id="${n.id}"] *`)]
    .filter(e => !e.children.length && e.textContent.trim() === n.getTitle())
  const cut = n => nodes_2 ? shown(n).length === 0 || shown(n).some(e => e.scrollWidth > e.clientWidth + 1)
    : wide(n.titleFontStyle, n.getTitle()) > n.size[0] - 2 * LiteGraph.NODE_TITLE_HEIGHT
  const group = `${LiteGraph.GROUP_TEXT_SIZE}px ${LiteGraph.GROUP_FONT}`
  return [...app.graph._nodes.filter(cut).map(n => n.getTitle()), ...app.graph._groups
    .filter(g => wide(group, g.title) > g.size[0] - LiteGraph.GROUP_TEXT_SIZE / 2).map(g => g.title)]
}"""
NOTE = """() => {
  const note = app.graph._nodes.find(n => n.type === 'MarkdownNote')
  const root = document.querySelector(`[data-node-id="${note.id}"]`) ?? note.widgets[0].element
  const lines = [...root.querySelectorAll('p, li, td, th')].filter(e => e.getClientRects().length)
  const box = (root.querySelector('.comfy-markdown') ?? root).getBoundingClientRect()
  const rects = lines.map(e => e.getBoundingClientRect()), [{left, top}] = rects
  const last = Math.max(...rects.map(r => r.bottom))
  const size = {x: left, y: top, width: box.right - left - 4, height: last - top}
  return {lines: lines.length, bottom: box.bottom, last, ...size}
}"""


def overlaps(nodes):
    def apart(a, b):
        return any(a["box"][k] > b["box"][k + 2] - 1 or b["box"][k] > a["box"][k + 2] - 1 for k in (0, 1))

    return [(a["title"], b["title"]) for i, a in enumerate(nodes) for b in nodes[:i] if not apart(a, b)]


def outside(nodes, groups):
    def within(box, group):
        return group[0] < box[0] and group[1] < box[1] and box[2] < group[2] and box[3] < group[3]

    return [node["title"] for node in nodes if not any(within(node["box"], group) for group in groups)]


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(picture):
    """Between the commonest colour and the one that is farthest from it, of those that are no rarity."""
    counts = sorted(((n, luminance(colour)) for n, colour in picture.getcolors(1 << 24)), reverse=True)
    common = [light for n, light in counts if n > picture.width * picture.height / 1000]
    back = common[0]
    front = max(common, key=lambda light: abs(light - back))
    return (max(back, front) + 0.05) / (min(back, front) + 0.05)


@pytest.fixture(params=[pytest.param("canvas", marks=slow("the older of two renderers")), "nodes 2.0"])
def nodes_2(request):
    return request.param == "nodes 2.0"


@pytest.fixture(params=["en", pytest.param("zh", marks=slow("the same boxes with other words"))])
def pages(browser, server, files, nodes_2, request):
    """The page in one of both renderers and languages, and the templates in that language."""
    version = server.get_json("/system_stats")["system"]["comfyui_version"]
    if nodes_2 and tuple(map(int, version.split(".")[:2])) < (0, 30):
        pytest.skip(f"Nodes 2.0 of ComfyUI {version} have other sizes: the pages are laid out for those since 0.30")
    write_media(server.base)
    written = write_named(server.base)
    tab = Tab(browser, server, LAPTOP, request.param, nodes_2)
    yield tab, NAMES if request.param == "en" else ALL[len(NAMES) :]
    tab.close()
    server.post("/settings/Comfy.VueNodes.Enabled", False)
    server.post("/settings/Comfy.Locale", "en")
    for path in written:
        path.unlink()


FEW = [NAMES[0], NAMES[4], NAMES[9], NAMES[11]]  # the simplest, and those with the most in them


def test_every_template_can_be_read_as_it_opens_and_keeps_its_order_as_it_runs(pages, nodes_2):
    tab, names = pages
    assert len(names) == len(ALL) / 2
    for name in names if RUNS else FEW:  # the others where the slow tests are
        tab.open_file(WORKFLOWS_FOLDER / f"{name}.json", as_template=True)
        tab.page.wait_for_function("() => app.canvas.ds.scale < 0.9", timeout=10_000)  # the view moves there
        tab.page.wait_for_timeout(600)  # pictures are loaded, and Nodes 2.0 take their heights
        opened = tab.ask(OPENED)
        assert opened["scale"] >= READABLE and not opened["textless"], (name, opened)
        assert tab.ask(CUT_ELEMENTS if nodes_2 else CUT_ON_CANVAS) == [], name
        assert tab.ask(CUT_TITLES, nodes_2) == [], name
        tab.ask(FILL, {"notices": NOTICES, "samplers": SAMPLERS, "files": FILES_TOLD})
        tab.page.wait_for_timeout(600)
        nodes = tab.ask(ELEMENTS if nodes_2 else CANVAS)
        assert len(nodes) == tab.ask("() => app.graph._nodes.length")
        assert overlaps(nodes) == [], name
        assert outside(nodes, tab.ask(GROUPS)) == [], name
        links = tab.ask(LINKS_BEHIND, nodes)
        assert links["behind"] == [] and links["drawn"] == links["links"] > 15, (name, links)
        if not nodes_2:
            assert [node for node in nodes if node["height"] < node["needed"]] == [], name


@slow("twelve pages once more")
def test_the_note_of_every_template_can_be_read_to_its_end(pages):
    tab, names = pages
    for name in names:
        tab.open_file(WORKFLOWS_FOLDER / f"{name}.json", as_template=True)
        tab.view(1.0)
        tab.page.wait_for_timeout(300)
        note = tab.ask(NOTE)
        assert note["lines"] > 20 and note["last"] <= note["bottom"] + 1, (name, note)
        clip = {key: note[key] for key in ("x", "y", "width", "height")}
        picture = Image.open(io.BytesIO(tab.page.screenshot(clip=clip))).convert("RGB")
        assert contrast(picture) >= CONTRAST, (name, contrast(picture))
