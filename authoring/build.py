"""Write the files of all workflows: python -m authoring.build, in the repository's root.

Of each, in workflows/: NAME.json (what people open on the canvas), NAME.jpg (its picture among ComfyUI's templates),
and api/NAME.json (what programs post); the first two in Chinese, too. What is in them stands in
pages.py. And the files of subgraphs/, of which blueprints.py tells.
"""

import argparse
import json
import re
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from .blueprints import BLUEPRINTS, blueprint_file
from .canvas import Page
from .pages import WORKFLOWS
from .to_api import to_api
from .zh import ENGLISH, in_chinese

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
SHORT = re.compile(r'\[\n([^\[\]{}"]*(?:"\w*"\s*)?)\]')  # a list of numbers, which may end in a name


def canvas_form(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A workflow as ComfyUI opens it, by its file's name. `definitions` is what /object_info answers."""
    english = ENGLISH.get(name, name)
    page = Page(name, definitions, str if name in WORKFLOWS else in_chinese)
    WORKFLOWS[english](page)
    return page.to_json()


def write(path: Path, value: dict[str, Any]) -> None:
    """As JSON with places, sizes and links in a line each: a third less, for people load all of them with the pack."""
    text = SHORT.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(value, indent=1, ensure_ascii=False))
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def definitions_at(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=60) as answer:
        return json.load(answer)


def definitions_of_an_own_server() -> dict[str, Any]:
    """Start ComfyUI with this pack, as the tests do. Exits with one sentence if there is none."""
    sys.path.insert(0, str(ROOT / "tests" / "host"))
    from client import Server, find_comfyui

    found = find_comfyui()
    if isinstance(found, str):
        sys.exit(f"Workflows are built with ComfyUI's node definitions: {found}; or give --url.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base:
        server = Server(*found, Path(base))
        server.add_pack("comfyui-mova", ROOT)
        try:
            return definitions_at(server.start().url)
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write all workflows.")
    parser.add_argument("--url", help="of a running ComfyUI with this pack; else one is started")
    url = parser.parse_args().url
    from .card import draw

    definitions = definitions_at(url) if url else definitions_of_an_own_server()
    for name in (*WORKFLOWS, *ENGLISH):
        canvas = canvas_form(name, definitions)
        write(FOLDER / f"{name}.json", canvas)
        if name in WORKFLOWS:
            write(FOLDER / "api" / f"{name}.json", to_api(canvas, definitions))
        draw(name).save(FOLDER / f"{name}.jpg", quality=85, optimize=True)
        print(name)
    for blueprint in BLUEPRINTS:
        write(ROOT / "subgraphs" / f"{blueprint.name}.json", blueprint_file(blueprint, definitions))


if __name__ == "__main__":
    main()
