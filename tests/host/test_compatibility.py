"""ComfyUI's own nodes on MOVA, each tried on the real server: docs/compatibility.md is the table of what came out.

With MOVA_WRITE_TABLE=1 the table is written anew: all of it on the newest version, on an older one what differs there.
Otherwise it is compared. Nodes and choices that a version of ComfyUI lacks are left out.
"""

import functools
import os
import re
from pathlib import Path

import pytest
from slow import RUNS

pytest.register_assert_rewrite("compatibility")

from bench import Bench, Refused  # noqa: E402
from compatibility import TRIES, Try  # noqa: E402 - its asserts are rewritten

WRITE = bool(os.environ.get("MOVA_WRITE_TABLE"))
TABLE = Path(__file__).parents[2] / "docs/compatibility.md"
INTRODUCTION = """# ComfyUI's own nodes on MOVA

Made by `MOVA_WRITE_TABLE=1 python -m pytest tests/host/test_compatibility.py` on ComfyUI {version}; run without that
variable, the test compares. Each line is a workflow run on a real server, with a small model: **works** means that it
ends without an error and with the right result; **refuses** quotes what the user is told; **does not work** says why.
What differs on older versions stands at the end.

Newer versions, up to v0.46, were read and not run: single files of theirs as far as they could be had (previews,
samplers, model base, patcher, prefetching, audio, Save Video, attention, Wan's model), not all of them and not all of
one version. Nothing in them breaks the pack as far as was read; `python tests/host/watch.py PATH/TO/ComfyUI` looks in
a checkout. Known to differ: torchaudio is not required any more (not needed here), pictures of templates are not
served (the templates are), CUDA graphs of prefetched layers and containers that free q, k, v early are not used by
MOVA.

"Audio-video" is the latent that MOVA Conditioning makes and that samplers take and give; "video" and "audio" are its
parts (MOVA Separate Latent).
"""
HEAD = "| node | tried with | result |\n| --- | --- | --- |\n"
OLDER = "\n## On ComfyUI {}\n\nAs above, but:\n\n"


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


def version_of(server) -> str:
    return server.get_json("/system_stats")["system"]["comfyui_version"].removeprefix("v")


def sections() -> dict[str, list[str]]:
    """The lines of the file by the version that they are of; the first is the newest, with all lines."""
    text = TABLE.read_text()
    whole, *older = re.split("^## On ComfyUI ", text, flags=re.MULTILINE)
    parts = {re.search(r"on ComfyUI ([\d.]+\d)", whole)[1]: whole} | {part.split("\n")[0]: part for part in older}
    return {
        version: [line for line in part.splitlines() if line.startswith("| ") and line + "\n" not in HEAD]
        for version, part in parts.items()
    }


def expected(version: str) -> dict[str, str]:
    """What the file says of a version, by the beginnings of the lines."""
    found = sections()
    newest, *_ = found
    lines = found[newest] + (found.get(version, []) if version != newest else [])
    starts = [start(this) for this in TRIES]
    return {begin: line for line in lines for begin in starts if line.startswith(begin)}


def write(server) -> None:
    """Write the file anew if this is its newest version or a newer one, else what differs on this version."""
    version, outcomes = version_of(server), [outcome(server, i) for i in range(len(TRIES))]
    found = sections() if TABLE.exists() else {version: []}
    newest, *_ = found
    numbers = [tuple(map(int, v.split("."))) for v in (version, newest)]
    if numbers[0] >= numbers[1]:
        text = INTRODUCTION.format(version=version)
        for part in dict.fromkeys(this.part for this in TRIES):
            lines = [line for line, this in zip(outcomes, TRIES, strict=True) if this.part == part and line]
            text += f"\n## {part}\n\n{HEAD}" + "".join(f"{line}\n" for line in lines)
        found = {version: [], **{v: lines for v, lines in found.items() if v not in (newest, version)}}
    else:
        text = re.split("^\n## On ComfyUI ", TABLE.read_text(), flags=re.MULTILINE)[0]
        known = set(found[newest])
        found[version] = [line for line in outcomes if line and line not in known]
    _, *older = sorted(found, key=lambda v: tuple(map(int, v.split("."))), reverse=True)
    for v in older:
        text += OLDER.format(v) + (HEAD + "".join(f"{line}\n" for line in found[v]) if found[v] else "nothing\n")
    TABLE.write_text(text)


@pytest.mark.parametrize("index", range(len(TRIES)), ids=[f"{this.node} {this.on}" for this in TRIES])
def test_a_node_of_comfyui_does_what_the_table_says(server, files, index):
    if TRIES[index].slow and not (WRITE or RUNS):
        pytest.skip("minutes: make slow runs it, or MOVA_SLOW_TESTS=1")
    line = outcome(server, index)
    if line is None:
        pytest.skip("not in this ComfyUI")
    wanted = line if WRITE else expected(version_of(server)).get(start(TRIES[index]))
    assert line == wanted, f"docs/compatibility.md does not say: {line}"


def test_the_table_has_a_line_for_each_try_and_no_other(server, files):
    if WRITE:
        write(server)
    newest, *_ = sections().values()
    assert len(newest) == len(TRIES)
    assert all(line.startswith(start(this)) for line, this in zip(newest, TRIES, strict=True))


def test_each_older_version_that_is_tested_has_its_differences(server, files):
    """Also if there are none: an empty list says that it was tried."""
    assert version_of(server) in sections()
