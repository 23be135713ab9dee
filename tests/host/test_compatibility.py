"""ComfyUI's own nodes on MOVA, each tried on the real server: docs/compatibility.md is the table of what came out.

The table is written anew with MOVA_WRITE_TABLE=1, otherwise compared with what is in the file. Nodes and choices that a
version of ComfyUI lacks are left out.
"""

import functools
import os
import re
from pathlib import Path

import pytest

pytest.register_assert_rewrite("compatibility")

from bench import Bench, Refused  # noqa: E402
from compatibility import TRIES, Try  # noqa: E402 - its asserts are rewritten

WRITE = bool(os.environ.get("MOVA_WRITE_TABLE"))
TABLE = Path(__file__).parents[2] / "docs/compatibility.md"
INTRODUCTION = """# ComfyUI's own nodes on MOVA

Made by `MOVA_WRITE_TABLE=1 python -m pytest tests/host/test_compatibility.py` on ComfyUI {version}; run without that
variable, the test compares. Each line is a workflow run on a real server, with a small model: **works** means that it
ends without an error and with the right result; **refuses** quotes what the user is told; **does not work** says why.

"Audio-video" is the latent that MOVA Conditioning makes and that samplers take and give; "video" and "audio" are its
parts (MOVA Separate Latent).
"""


@functools.cache
def outcome(server, index: int) -> str | None:
    """The line of the table for one try; None if this ComfyUI lacks the node or the choice."""
    this = TRIES[index]
    try:
        this.check(Bench(server))
        result = f"**works**{this.note and f'; {this.note}'}"
    except Refused as refused:
        if not refused.result.traceback and re.search("not in list|not found|does not exist", str(refused)):
            return None
        if "custom_nodes/comfyui-mova/" in (refused.result.traceback or [""])[-1]:  # said by the pack itself
            assert "\n" not in str(refused)
            result = f"**refuses**: “{refused}”"
        else:
            assert this.does_not, f"an error that nobody understands: {refused}"
            result = f"**does not work**: {this.does_not}"
    except AssertionError:
        if not this.does_not:
            raise
        result = f"**does not work**: {this.does_not}"
    return f"{start(this)} {result} |"


def start(this: Try) -> str:
    return f"| {this.node} | {this.on} |"


def table(server) -> str:
    text = INTRODUCTION.format(version=server.get_json("/system_stats")["system"]["comfyui_version"])
    for part in dict.fromkeys(this.part for this in TRIES):
        lines = [outcome(server, i) for i, this in enumerate(TRIES) if this.part == part]
        text += f"\n## {part}\n\n| node | tried with | result |\n| --- | --- | --- |\n"
        text += "".join(f"{line}\n" for line in lines if line)
    return text


@pytest.mark.parametrize("index", range(len(TRIES)), ids=[f"{this.node} {this.on}" for this in TRIES])
def test_a_node_of_comfyui_does_what_the_table_says(server, files, index):
    if TRIES[index].slow and not (WRITE or os.environ.get("MOVA_SLOW_TESTS")):
        pytest.skip("takes minutes: set MOVA_SLOW_TESTS=1")
    line = outcome(server, index)
    if line is None:
        pytest.skip("not in this ComfyUI")
    as_written = WRITE or line in TABLE.read_text().splitlines()
    assert as_written, f"docs/compatibility.md does not say: {line}"


def test_the_table_has_a_line_for_each_try_and_no_other(server, files):
    if WRITE:
        TABLE.write_text(table(server))
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    found = [line for line in lines if not line.startswith(("| node ", "| --- "))]
    assert len(found) == len(TRIES)
    assert all(line.startswith(start(this)) for line, this in zip(found, TRIES, strict=True))
