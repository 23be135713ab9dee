"""Write docs/images/templates/NAME_RENDERER_WIDTH.webp: each template as ComfyUI's page opens it, in both renderers, on
a laptop and on a large screen: python tests/host/screenshots.py

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

SIZES = {1366: {"width": 1366, "height": 768}, 1920: {"width": 1920, "height": 1080}}
RENDERERS = {"canvas": False, "nodes2": True}
MOST = 150_000  # bytes of each
FOLDER = ROOT / "docs/images/templates"


def take(tab: Tab, name: str) -> Image.Image:
    tab.ask("() => { app.canvas.show_info = false }")
    tab.open_file(WORKFLOWS_FOLDER / f"{name}.json", as_template=True)
    tab.page.wait_for_timeout(1500)  # the view moves, pictures load
    return Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")


def main() -> None:
    browser, comfyui = find_browser(), find_comfyui()
    if isinstance(browser, str) or isinstance(comfyui, str):
        sys.exit(f"No screenshots: {browser if isinstance(browser, str) else comfyui}.")
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, sync_playwright() as playwright:
        server = Server(*comfyui, Path(base))
        server.add_pack("comfyui-mova", ROOT)
        (server.base / "models/loras").mkdir(parents=True)
        write_media(server.base)
        write_named(server.base)
        example = comfyui[0] / "input/example.png"  # ComfyUI ships it
        shutil.copy(example if example.is_file() else ROOT / "demos/rocket.jpg", server.base / "input/example.png")
        try:
            server.start()
            program = launch(playwright, browser)
            for renderer, nodes_2 in RENDERERS.items():
                for width, window in SIZES.items():
                    tab = Tab(program, server, window, nodes_2=nodes_2)
                    for name in sys.argv[1:] or NAMES:
                        path = FOLDER / f"{name}_{renderer}_{width}.webp"
                        take(tab, name).save(path, quality=70, method=6)
                        if path.stat().st_size > MOST:
                            sys.exit(f"{path} has {path.stat().st_size} bytes, more than {MOST}.")
                        print(path.name, path.stat().st_size)
                    tab.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
