"""Write web/docs/NODE/en.webp and zh.webp, the picture of each node in its help page, as ComfyUI's page draws it in
that language: python tests/host/node_pictures.py

Names of nodes as arguments: only these. It needs ComfyUI (client.py) and a browser (browser.py). A help page names its
picture as the page finds it: relative to web/docs.
"""

import io
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

from browser import Tab, find_browser, launch  # noqa: E402
from client import Server, find_comfyui  # noqa: E402
from PIL import Image  # noqa: E402
from small_workflows import write_media, write_named  # noqa: E402

MOST = 25_000  # bytes of each
FOLDER = ROOT / "web/docs"
LOCALES = {"en": "en", "zh": "zh"}
# The node alone, as wide as its values need, and where it is then in the window.
PLACE = """async kind => {
  app.graph.clear()
  const node = LiteGraph.createNode(kind), pen = document.createElement('canvas').getContext('2d')
  app.graph.add(node)
  for (const w of node.widgets ?? []) w.value ??= ''  // of an empty list
  pen.font = `12px ${LiteGraph.NODE_FONT}`
  const [width, height] = node.computeSize()
  const values = (node.widgets ?? []).map(w => w.element ? 0
    : pen.measureText(`${w.label ?? w.name}  ${w.value}`).width)
  node.setSize([Math.max(width, 240, ...values.map(value => value + 80)), height])
  app.canvas.show_info = false
  app.canvas.deselectAll()
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [300, 200]
  node.pos = [100, 100]
  app.canvas.setDirty(true, true)
  await new Promise(done => setTimeout(done, 500))
  const area = app.canvas.canvas.getBoundingClientRect()
  return {x: area.left + 390, y: area.top + 245, width: node.size[0] + 20, height: node.size[1] + 65}
}"""


def main() -> None:
    browser, comfyui = find_browser(), find_comfyui()
    if isinstance(browser, str) or isinstance(comfyui, str):
        sys.exit(f"No pictures: {browser if isinstance(browser, str) else comfyui}.")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, sync_playwright() as playwright:
        server = Server(*comfyui, Path(base))
        server.add_pack("comfyui-mova", ROOT)
        (server.base / "models/loras").mkdir(parents=True)
        write_media(server.base)
        write_named(server.base)
        try:
            program = launch(playwright, browser)
            server.start()
            for locale in LOCALES:
                tab = Tab(program, server, {"width": 1366, "height": 1040}, locale)
                for kind in sys.argv[1:] or sorted(page.stem for page in FOLDER.glob("*.md")):
                    picture = Image.open(io.BytesIO(tab.page.screenshot(clip=tab.ask(PLACE, kind))))
                    path = FOLDER / kind / f"{locale}.webp"
                    picture.convert("RGB").save(path, quality=60, method=6)
                    if path.stat().st_size > MOST:
                        sys.exit(f"{path} has {path.stat().st_size} bytes, more than {MOST}.")
                    print(path.relative_to(FOLDER), *picture.size, path.stat().st_size)
                tab.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
