"""docs/packs.md says what was tried of other packs: at the commits that `make packs` brings, by tests that exist."""

import ast
from pathlib import Path

import pytest
from bring_packs import PINS

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs/packs.md"
LINES = [line.strip("| ").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if "::test_" in line]


def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]} {line[2]}")
def test_a_line_names_the_commit_that_is_tried_and_the_test_that_tries_it(line):
    pack, commit, _, result, test = line
    file, name = test.split("::")
    assert name in names_of_tests(file)
    assert commit == (PINS[pack][1][:7] if pack in PINS else "")
    assert result.startswith(("**works**", "**work**", "**refuse"))


def test_every_pack_has_a_line():
    assert set(PINS) <= {pack for pack, *_ in LINES}
