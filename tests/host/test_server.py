"""What concerns the server as a whole: its start, its memory, the interrupt button."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from graphs import GIVEN, Graph, ref
from slow import slow

PACK = Path(__file__).parents[2]


def copy_of_the_pack(folder):
    shutil.copytree(PACK, folder, ignore=shutil.ignore_patterns("tests", ".*", "__pycache__", "docs", "demos", "demo"))
    return folder


def test_a_pack_that_cannot_be_imported_says_so_once_and_comfyui_starts(host_place, tmp_path):
    """Two copies, broken in two ways, and one server for both."""
    from client import Server

    comfyui, python = host_place
    faults = {
        "nodes/host/family.py": "import comfy.something_newer",
        "mova/model/joint.py": "raise RuntimeError('a line\\nand another')",
    }
    server = Server(comfyui, python, tmp_path / "base")
    for number, (file, fault) in enumerate(faults.items()):
        pack = copy_of_the_pack(tmp_path / f"pack{number}")
        (pack / file).write_text(fault + "\n" + (pack / file).read_text())
        server.add_pack(f"comfyui-mova-{number}", pack)
    try:
        server.start()
        assert "KSampler" in server.get_json("/object_info/KSampler")
        assert server.get_json("/object_info/MOVAScheduler") == {}
    finally:
        server.stop()
    log = server.log.read_text()
    lines = [line for line in log.splitlines() if "[MOVA]" in line]
    assert len(lines) == 2 and all("they need ComfyUI 0.26.0 or newer" in line for line in lines), lines
    assert (
        {"something_newer" in line for line in lines}
        == {"a line and another" in line for line in lines}
        == {True, False}
    )
    # The host may have troubles of its own; none of its tracebacks may come from the pack.
    assert not [line for line in log.splitlines() if line.strip().startswith("File ") and "comfyui-mova" in line]


def test_outside_comfyui_the_pack_is_harmless():
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("some_pack", PACK / "__init__.py", submodule_search_locations=[])
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert not any(name.startswith("comfy") for name in set(sys.modules) - before)


def joint(seed=1, steps=2, **settings):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    node = graph.joint(
        graph.model("mova_high"), given, model_low=graph.model("mova_low"), seed=seed, steps=steps, **settings
    )
    graph.save(ref(node))
    return graph


def test_the_interrupt_button_works_within_a_step(server, files):
    seen = []

    def press(kind, data):
        if kind == "progress":
            seen.append(data["value"])
            if data["value"] == 3:
                server.post("/interrupt", {})

    assert server.run(joint(steps=1000).nodes, on_event=press).error == "interrupted"
    assert max(seen) < 50  # a step takes a few milliseconds here, less than the way to the server and back
    assert server.run(joint(seed=3).nodes).error is None


def test_a_second_run_does_not_load_the_experts_again(server, files):
    assert server.run(joint(seed=11).nodes).error is None
    before = server.log.read_text().count("Requested to load")
    assert server.run(joint(seed=12, audio_shift=3.0).nodes).error is None
    assert server.log.read_text().count("Requested to load") == before


@slow("make many-runs makes 1,000")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the server's memory from /proc")
def test_fifty_runs_do_not_make_the_server_grow(server, files):
    def kilobytes():
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    settings = [{}, {"cfg": 1.0}, {"audio_shift": 3.0}, {"bridge_cfg": 2.0}, {"steps": 3}]
    sizes = []
    for i in range(60):
        assert server.run(joint(**{"seed": 100 + i, **settings[i % len(settings)]}).nodes).error is None
        sizes.append(kilobytes())
    assert sizes[-1] < 1.02 * sizes[9], sizes  # the first ten warm it up
    assert os.path.exists(f"/proc/{server.process.pid}")
