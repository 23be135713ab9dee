"""benchmarks/gpu.sh's part that runs in ComfyUI, rehearsed: random fp8 files, a server, three steps a row."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import client
from gpu import host, place
from slow import slow

ROOT = Path(__file__).parents[2]
ROWS = ["all memory", "12 GiB", "24 GiB", "all memory, comfy_kitchen", "16 GiB", "all memory, triton"]
STEPS = ["first step s, with loading", "second step s", "third step s, with loading"]


def test_the_server_that_is_measured_starts(host_place, tmp_path, monkeypatch):
    for name in ("START_SECONDS", "RUN_SECONDS"):  # it sets them for its process, which is this one here
        monkeypatch.setattr(client, name, getattr(client, name))
    server = host.start(place.find(rehearse=True, seconds=60), tmp_path)
    assert "BenchmarkFree" in server.get_json("/object_info")
    server.stop()


@slow("the script on a processor, with a server of its own")
def test_the_joint_sampler_is_measured_in_comfyui(host_place, tmp_path):
    comfyui, python = host_place
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": ""}
    environment |= {"COMFYUI_PATH": str(comfyui), "COMFYUI_PYTHON": python}
    command = ["sh", str(ROOT / "benchmarks/gpu.sh"), "--rehearse", "--parts", "comfyui", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (part,) = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [row["name"] for row in part["rows"]] == ROWS
    for row in part["rows"]:
        if row["name"].endswith("triton"):
            assert "GPU" in row["not_measured"]
            continue
        assert "not_measured" not in row, row
        assert all(row[step] > 0 for step in STEPS)
        assert math.isclose(row["sampling s"], sum(row[step] for step in STEPS))
