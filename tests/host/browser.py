"""ComfyUI's page in a real browser: what a user sees and clicks. Chromium, driven by playwright."""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from client import Server
from small_workflows import SMALL_INPUTS, SMALL_NODES, WORKFLOWS_FOLDER, WRITER

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No GPU and, in a container, no sandbox; and nothing that asks the network by itself.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
]
# As of a user who has been here before: no tour, nothing that lies over the canvas.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.40.0",
    "Comfy.Minimap.Visible": False,
}
FULL_HD = {"width": 1920, "height": 1080}
READY = "() => window.app?.graph?._nodes?.length && window.app.extensionManager?.workflow?.activeWorkflow"
# Does in the page what a user does with the widgets, and puts the tests' nodes in place of loaders.
MAKE_SMALL = """({nodes, writer, inputs}) => {
  const replaced = (graph, node, [kind, values]) => {
    const other = LiteGraph.createNode(kind)
    other.pos = [...node.pos]
    other.mode = node.mode
    graph.add(other)
    for (const [name, value] of Object.entries(values ?? {})) other.widgets.find(w => w.name === name).value = value
    if (values === null)
      for (const {name, link} of node.inputs.filter(i => i.link != null)) {
        const {origin_id, origin_slot} = graph.links.get(link), into = other.findInputSlot(name)
        if (into >= 0) graph.getNodeById(origin_id).connect(origin_slot, other, into)
      }
    node.outputs.forEach((output, slot) => {
      for (const {target_id, target_slot} of [...(output.links ?? [])].map(id => graph.links.get(id)))
        if (target_id === graph.outputNode?.id) graph.outputNode.slots[target_slot].connect(other.outputs[slot], other)
        else other.connect(slot, graph.getNodeById(target_id), target_slot)
    })
    graph.remove(node)
  }
  const small = graph => {
    for (const node of [...graph._nodes]) {
      if (node.subgraph) small(node.subgraph)
      const writes = node.type === 'CLIPLoader' && node.widgets.find(w => w.name === 'type').value !== 'wan'
      const other = writes ? writer : nodes[node.type]
      const second = node.type === 'MOVAConditioning' && node.widgets.find(w => w.name === 'width').value === 1280
      for (const [name, value] of Object.entries(inputs[node.type] ?? {})) {
        const slot = node.inputs.find(i => i.widget?.name === name)
        const widget = node.widgets.find(w => w.name === name)
        if (slot?.link != null || widget.value === 0) continue  // 0: a video's own size
        widget.value = second && ['width', 'height'].includes(name) ? 2 * value : value
      }
      if (other) replaced(graph, node, other)
    }
  }
  small(app.graph)
}"""
# A little outside of a group, in the window's pixels.
CORNERS = """title => {
  const {pos, size} = app.graph._groups.find(group => group.title.startsWith(title))
  const area = app.canvas.canvas.getBoundingClientRect()
  const corners = [[pos[0] - 10, pos[1] - 10], [pos[0] + size[0] + 10, pos[1] + size[1] + 10]]
  return corners.flatMap(corner => {
    const [x, y] = app.canvas.ds.convertOffsetToCanvas(corner)
    return [x + area.left, y + area.top]
  })
}"""


def find_browser() -> Path | str:
    """Chromium, or why there is no browser to be had."""
    if importlib.util.find_spec("playwright") is None:
        return "no playwright: pip install playwright"
    given = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [given] if given else NAMES)), None)
    return Path(found) if found else f"no {given or ', '.join(NAMES)}: set CHROMIUM to the program's path"


def launch(playwright: Any, program: Path) -> Any:
    return playwright.chromium.launch(executable_path=str(program), args=ARGUMENTS)


class Tab:
    """ComfyUI's page, open in a browser; `page` is playwright's."""

    def __init__(
        self,
        browser: Any,
        server: Server,
        viewport: dict[str, int] = FULL_HD,
        locale: str = "en",
        nodes_2: bool = False,
    ) -> None:
        for name, value in {**SETTINGS, "Comfy.Locale": locale, "Comfy.VueNodes.Enabled": nodes_2}.items():
            server.post(f"/settings/{name}", value)
        self.server = server
        self.context = browser.new_context(viewport=viewport)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)  # others may be at work on the machine
        self.complaints: list[str] = []  # what the page threw, and what of ours went wrong
        self.page.on("pageerror", lambda error: self.complaints.append(f"thrown: {error}"))
        self.page.on("console", lambda m: m.type == "error" and self.note_ours(f"{m.text} {m.location.get('url')}"))
        self.page.on("response", lambda r: r.status >= 400 and self.note_ours(f"{r.status} {r.url}"))
        self.page.goto(server.url)
        self.page.wait_for_function(READY)
        self.page.get_by_test_id("queue-button").wait_for()
        self.page.wait_for_timeout(500)  # what is selected before the page has settled is forgotten

    def note_ours(self, text: str) -> None:
        # The page asks for a help page NODE/en.md first, and for NODE.md when there is none.
        if re.search("/comfyui-mova/|MOVA", text) and "/en.md" not in text:
            self.complaints.append(text)

    def ask(self, script: str, value: Any = None) -> Any:
        return self.page.evaluate(script, value)

    def command(self, name: str) -> None:
        self.ask("name => app.extensionManager.command.execute(name)", f"Comfy.{name}")

    def show_templates(self) -> None:
        self.command("BrowseTemplates")
        self.page.get_by_text("comfyui-mova", exact=True).click()

    def open_template(self, name: str) -> None:
        """As a user does: Templates, comfyui-mova, a click on the card."""
        self.ask("() => app.graph.clear()")
        self.show_templates()
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        self.page.wait_for_function(READY)
        self.page.get_by_test_id("template-workflows-content").wait_for(state="hidden")

    def open_file(self, path: Path, as_template: bool = False) -> None:
        """As a file that is dropped on the page. As a template: the view goes to all of it."""
        workflow = json.loads(path.read_text(encoding="utf-8"))
        how = {"openSource": "template"} if as_template else {}
        self.ask("([data, name, how]) => app.loadGraphData(data, true, true, name, how)", [workflow, path.stem, how])

    def open_workflow(self, name: str) -> None:
        """A shipped one, without the gallery of templates: drawing all of ComfyUI's takes many times as long."""
        self.open_file(WORKFLOWS_FOLDER / f"{name}.json")
        self.page.wait_for_function(READY)
        self.command("Canvas.FitView")

    def view(self, scale: float) -> None:
        """Show the graph at this scale, from its upper left corner."""
        self.ask(
            "scale => { app.canvas.ds.scale = scale; app.canvas.ds.offset = [80 / scale, 80 / scale];"
            " app.canvas.setDirty(true, true) }",
            scale,
        )
        self.page.wait_for_timeout(300)

    def make_small(self, keep: tuple[str, ...] = (), **inputs: Any) -> None:
        """Small models and sizes in the graph that is open; `inputs` by node type, beside SMALL_INPUTS.

        keep: types of nodes that stay as they are.
        """
        kinds = {*SMALL_INPUTS, *inputs}.difference(keep)
        given = {kind: {**SMALL_INPUTS.get(kind, {}), **inputs.get(kind, {})} for kind in kinds}
        self.ask(MAKE_SMALL, {"nodes": SMALL_NODES, "writer": WRITER, "inputs": given})

    def press_run(self) -> None:
        self.page.get_by_test_id("queue-button").click()

    def draw_frame(self, title: str) -> None:
        """Select the nodes of the group whose title begins so: with Ctrl held down, a frame from corner to corner."""
        left, top, right, bottom = self.ask(CORNERS, title)
        self.page.keyboard.down("Control")
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move((left + right) / 2, (top + bottom) / 2)
        self.page.mouse.move(right, bottom)
        self.page.mouse.up()
        self.page.keyboard.up("Control")

    def select_new(self, kind: str) -> None:
        """A graph of one new node, which is selected."""
        self.ask(
            "kind => { app.graph.clear(); const node = LiteGraph.createNode(kind); node.pos = [200, 200];"
            " app.graph.add(node); app.canvas.ds.scale = 1; app.canvas.ds.offset = [100, 100];"
            " app.canvas.selectNode(node) }",
            kind,
        )

    def press_assets(self) -> None:
        """Open the panel of what was made, or close it."""
        self.page.get_by_text("Assets", exact=True).first.click()

    def close(self) -> None:
        self.context.close()
