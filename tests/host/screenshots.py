"""Write docs/images/workflow_NAME.png of all workflows, as ComfyUI's page shows them: python tests/host/screenshots.py

Names of workflows as arguments: only these. It needs ComfyUI (client.py) and a browser (browser.py).
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

from browser import Tab, find_browser, launch  # noqa: E402
from client import Server, find_comfyui  # noqa: E402
from PIL import Image  # noqa: E402
from small_workflows import NAMES, WORKFLOWS_FOLDER, write_media, write_named  # noqa: E402

WINDOW = {"width": 3900, "height": 2000}
LARGE = "mova_1_image_to_video_with_sound"  # the one in README.md; the others are smaller, for the archive's sake
MARGIN = 20  # pixels around the graph
MOST = 160_000  # bytes; they are in the registry's archive
# Put the graph into the window's free part, without the background's grid (half of a picture's bytes); its box there.
SHOW = """({scale, margin}) => {
  const boxes = app.graph._groups.map(g => [...g._bounding])
  const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]))
  app.canvas.show_info = false
  app.canvas.background_image = app.canvas._bg_img = app.canvas._pattern = null
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [300 / scale, 200 / scale]
  app.canvas.setDirty(true, true)
  const area = app.canvas.canvas.getBoundingClientRect()
  return {x: area.left + 300 - margin, y: area.top + 200 - margin,
          width: right * scale + 2 * margin, height: bottom * scale + 2 * margin}
}"""


def take(tab: Tab, name: str) -> Image.Image:
    tab.open_file(WORKFLOWS_FOLDER / f"{name}.json")
    tab.page.wait_for_timeout(1500)  # pictures load, and what is missing would be found
    clip = tab.ask(SHOW, {"scale": 1.0 if name == LARGE else 0.8, "margin": MARGIN})
    tab.page.wait_for_timeout(700)
    return Image.open(io.BytesIO(tab.page.screenshot(clip=clip))).convert("RGB")


def main() -> None:
    browser, comfyui = find_browser(), find_comfyui()
    if isinstance(browser, str) or isinstance(comfyui, str):
        sys.exit(f"No screenshots: {browser if isinstance(browser, str) else comfyui}.")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, sync_playwright() as playwright:
        server = Server(*comfyui, Path(base))
        server.add_pack("comfyui-mova", ROOT)
        (server.base / "models/loras").mkdir(parents=True)
        write_media(server.base)
        write_named(server.base)
        example = comfyui[0] / "input/example.png"  # ComfyUI ships it
        shutil.copy(example if example.is_file() else ROOT / "demos/rocket.jpg", server.base / "input/example.png")
        try:
            tab = Tab(launch(playwright, browser), server.start(), WINDOW)
            for name in sys.argv[1:] or NAMES:
                picture = take(tab, name).quantize(256, dither=Image.Dither.NONE)
                path = ROOT / f"docs/images/workflow_{name}.png"
                picture.save(path, optimize=True)
                if path.stat().st_size > MOST:
                    sys.exit(f"{path} has {path.stat().st_size} bytes, more than {MOST}.")
                print(path.name, picture.size, path.stat().st_size)
            tab.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
