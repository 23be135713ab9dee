"""The house: rooms with arrows one way, no circles, no long files (docs/development.md draws it)."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HERE = ("authoring", "benchmarks", "demos", "mova", "nodes", "tests")
FILES = sorted(file for folder in ("mova", "nodes") for file in (ROOT / folder).rglob("*.py"))
# From the ground up: a room imports from those before it, and from itself.
FLOORS = [
    {"errors", "shorten"},
    {"strict_json", "files"},
    {"sampling"},
    {"model"},
    {"checkpoint"},
    {"lora"},
    {"convert", "clip", "enhance"},
    {"train"},
    {"download", "tools"},
    {"arguments", "progress"},
    {"commands"},
    {"__main__"},
]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(name: str) -> set[str]:
    """The pack's own modules that a module imports, wherever in it."""
    here = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            start = ".".join(filter(None, parts))
            named = (f"{start}.{alias.name}" for alias in node.names)
            found |= {one if one in MODULES else start for one in named}
    return {one for one in found if one in MODULES and one != name}


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def test_no_file_imports_itself_by_way_of_others():
    order = TopologicalSorter({name: imported(name) for name in MODULES if name != "mova"})
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_arrows_between_the_rooms_of_the_model_s_side_run_one_way():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for name in MODULES:
        if not name.startswith("mova."):
            continue
        for other in imported(name) - {"mova"}:
            assert other.startswith("mova."), f"{name} imports {other}: mova/ knows nothing of nodes/"
            here, there = room_of(name), room_of(other)
            assert here == there or floor[there] < floor[here], f"{name} imports {other}, which is not below it"


def test_the_adapter_to_the_host_knows_nothing_of_the_nodes():
    for name in MODULES:
        if name.startswith("nodes.host"):
            assert all(other.startswith(("mova", "nodes.host")) for other in imported(name)), name


def test_mova_imports_nothing_of_the_host_and_itself_by_relative_names_only():
    """The pack's folder can have any name, and another mova may be installed."""
    host = {"mova", "comfy", "comfy_api", "folder_paths", "nodes", "server"}
    for name, file in MODULES.items():
        if name.split(".")[0] != "mova":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            assert not host & {one.split(".")[0] for one in names}, name


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_a_file_is_about_one_thing(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), "it says at its head what it is for"


def test_no_file_is_long():
    files = [file for folder in HERE for file in (ROOT / folder).rglob("*.py")]
    assert [file for file in files if len(file.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_what_ships_as_workflows_is_data():
    kinds = {path.suffix for path in (ROOT / "workflows").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert kinds == {".json", ".jpg"}
