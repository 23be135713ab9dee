"""benchmarks/gpu.sh without a GPU: every part rehearsed, and what stays when one of them goes wrong."""

import json
import math
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from gpu import bound, carried, carry, expert, kernels, place, plan, run, table, variants
from gpu.parts import step
from gpu.plan import Part
from peak_memory import measure
from slow import slow

from mova import PRESETS

ROOT = Path(__file__).parents[1]
PARTS = [part.name for part in plan.PARTS if part.name != "comfyui"]  # that one is in tests/host
BROKEN = "audio_vae"


def read(folder):
    """The rows of gpu.json: {part: {row: figures}}."""
    results = json.loads((folder / "gpu.json").read_text())
    return {part["name"]: {row["name"]: row for row in part["rows"]} for part in results["parts"]}


def is_measured(row):
    figures = [value for name, value in row.items() if name != "name"]
    return "not_measured" not in row and any(isinstance(value, float) and math.isfinite(value) for value in figures)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The whole, small and on the CPU, with a device that cannot compute for one part."""
    folder = tmp_path_factory.mktemp("gpu")
    command = ["sh", str(ROOT / "benchmarks/gpu.sh"), "--rehearse", "--out", str(folder)]
    command += ["--parts", ",".join(PARTS), "--break", BROKEN]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


# Of each part a row that any PyTorch can measure on a CPU.
EVERYWHERE = {
    "computed": ["64x64, 9 frames", "96x64, 9 frames, low memory"],
    "ceilings": ["bf16 matrix product, 8192 x 8192 x 8192", "copy in memory, read and written"],
    "step": ["eager, sdpa", "low memory, fastest kernel", "compiled block by block, fastest kernel"],
    "profile": ["eager", "low memory"],
    "large": ["eager, fastest kernel, scaled from 3 of 3 layers"],
    "formats": ["fp8, torch", "int8, torch"],
    "whole": ["eager, fastest kernel"],
}


REHEARSAL = slow("the whole script on a processor")


@REHEARSAL
@pytest.mark.parametrize("part", EVERYWHERE)
def test_each_part_is_measured_in_a_rehearsal(rehearsed, part):
    rows = read(rehearsed)[part]
    for name in EVERYWHERE[part]:
        assert is_measured(rows[name]), rows[name]


@REHEARSAL
def test_each_row_has_figures_or_says_why_not(rehearsed):
    found = read(rehearsed)
    assert list(found) == PARTS
    for rows in found.values():
        assert rows
        for row in rows.values():
            assert is_measured(row) or row["not_measured"].strip(), row


@REHEARSAL
def test_a_part_that_fails_says_so_and_leaves_the_others_figures(rehearsed):
    found = read(rehearsed)
    assert [*found[BROKEN]] == ["decode", "encode"]
    assert all("meta" in row["not_measured"] for row in found[BROKEN].values()), found[BROKEN]
    assert any(is_measured(row) for row in found["step"].values())


@REHEARSAL
def test_the_table_holds_all_rows_in_even_columns_and_says_that_it_was_a_rehearsal(rehearsed):
    text = (rehearsed / "gpu.md").read_text()
    assert "REHEARSAL" in text
    for rows in read(rehearsed).values():
        assert all(f"\n| {name} |" in text for name in rows)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count(" | ") for line in block.splitlines() if " --- " not in line}) == 1, block


def test_the_parts_take_eight_minutes_at_most_together():
    assert sum(part.seconds for part in plan.PARTS if not part.beside) <= plan.WHOLE == 8 * 60


def fake(name, code, seconds=30.0):
    """A part that plans the rows "one" and "two", writes the first, and then does what the code says."""
    rows = [{"planned": ["one", "two"]}, {"name": "one", "s": 1.5}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    begin = f"import os, sys, time\nopen(sys.argv[2], 'w').write({text!r})\n"
    return Part(name, name, seconds, command=(sys.executable, "-c", begin + code))


WHOLE = """
with open(sys.argv[2], "a") as out:
    out.write('{"name": "two", "s": 2.5}\\n')
"""


def test_a_part_that_hangs_or_dies_is_ended_and_the_next_one_runs(tmp_path):
    hangs = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('pid', 'w').write(str(os.getpid()))\n"
    parts = [fake("dies", "os.abort()"), fake("hangs", f"os.chdir({str(tmp_path)!r})\n{hangs}time.sleep(60)", 2.0)]
    start = time.monotonic()
    # What an earlier part leaves over is not for one that would only hang.
    run.measure([parts[1], parts[0], fake("works", WHOLE)], tmp_path, rehearse=True)
    assert time.monotonic() - start < 20
    found = read(tmp_path)
    assert found["hangs"]["one"]["s"] == found["dies"]["one"]["s"] == 1.5
    assert "ended after 2 s" in found["hangs"]["two"]["not_measured"]
    assert "signal 6" in found["dies"]["two"]["not_measured"]
    assert found["works"] == {"one": {"name": "one", "s": 1.5}, "two": {"name": "two", "s": 2.5}}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_run_that_is_killed_leaves_what_was_measured_until_then(tmp_path):
    code = "import sys; from pathlib import Path; from gpu import run; from test_gpu_benchmark import WHOLE, fake\n"
    code += "run.measure([fake('first', WHOLE), fake('second', 'time.sleep(5)')], Path(sys.argv[1]), True)"
    path = os.pathsep.join(str(ROOT / folder) for folder in ("benchmarks", "tests", "."))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}  # what it leaves there goes with the test
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (tmp_path / "gpu.json").exists() and "second" in (found := read(tmp_path)) and "one" in found["second"]:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    found = read(tmp_path)
    assert found["first"]["two"]["s"] == 2.5 and found["second"]["one"]["s"] == 1.5
    assert "| two | 2.50 |" in (tmp_path / "gpu.md").read_text()


def test_the_work_of_a_forward_is_what_pytorch_counts():
    small = place.find(rehearse=True, seconds=1).small
    assert bound.of_forward(small).products == measure(small)[1]


@pytest.mark.parametrize(
    ("name", "products", "scores"), [("MOVA-360p", 1.21e15, 1.52e15), ("MOVA-720p", 4.94e15, 2.55e16)]
)
def test_the_work_of_the_released_sizes(name, products, scores):
    """Of the scores those of self-attention were worked out: the others are a hundredth."""
    work = bound.of_forward(PRESETS[name])
    assert work.products == pytest.approx(products, rel=0.003) and work.scores == pytest.approx(scores, rel=0.03)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.1684, "4.17"),
        (41.684, "41.7"),
        (798.2, "798"),
        (0.0041684, "0.00417"),
        (12345.6, "12,346"),
        (0.0, "0"),
        (3, "3"),
    ],
)
def test_figures_have_three_digits(value, text):
    assert table.number(value) == text


def test_a_compiled_variant_makes_one_program_for_each_tower():
    from torch._dynamo.utils import counters  # seconds to import, in every process that collects tests

    here = place.find(rehearse=True, seconds=60)
    weights, given = expert.build(here), expert.inputs(here, here.small)
    choice = kernels.at_hand(here)[0].attention
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad():
        compiled = variants.VARIANTS[variants.COMPILED](weights, here.small.model, choice)
        outputs = compiled(*given), weights(*given)
    assert counters["stats"]["unique_graphs"] == 2
    for ours, wanted in zip(*outputs, strict=True):
        assert (ours - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_a_kernel_that_a_variant_cannot_do_with_is_replaced_by_pytorch_s_choice(monkeypatch):
    here = place.find(rehearse=True, seconds=60)
    fails = kernels.Kernel("fails", lambda *_: 1 / 0)
    monkeypatch.setattr(kernels, "fastest", lambda _: fails)
    with torch.no_grad():
        assert step.with_fastest(here, variants.EAGER)["kernel"] == kernels.CHOICE


def test_what_is_carried_is_pinned_and_of_comfyui_what_its_server_needs(tmp_path):
    lines = (ROOT / "benchmarks/gpu/carry.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    wanted = {"main.py", "comfy/ldm/models/autoencoder.py"}
    others = {"blueprints/a.json", "models/x", "comfy/__pycache__/a.pyc", ".git/config", "comfy/tokenizer.json"}
    for name in wanted | others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * (carry.LARGEST + 1) if "tokenizer" in name else "x")
    assert {str(path) for path in carry.sources(tmp_path)} == wanted


def test_a_package_that_was_left_out_can_be_imported_and_not_used(tmp_path):
    (tmp_path / "left_out").mkdir()
    (tmp_path / "left_out/__init__.py").write_text((ROOT / "benchmarks/gpu/stub.py").read_text())
    code = """
import left_out, left_out.b.c
from left_out.d.e import Reader
assert left_out.b.c.Color.RED is not None and Reader.open
try:
    Reader()
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "left_out was left out by gpu_carry.sh\n", done.stderr


def test_what_was_carried_is_there_for_the_time_of_a_run(tmp_path):
    (tmp_path / "main.py").write_text("")
    with tarfile.open(tmp_path / carried.ARCHIVE, "w:xz") as archive:
        archive.add(tmp_path / "main.py", "ComfyUI/main.py")
    with carried.unpacked(tmp_path) as folder:
        assert (folder / "ComfyUI/main.py").is_file()
    assert not folder.exists()
    with carried.unpacked(None) as folder:
        assert folder is None
