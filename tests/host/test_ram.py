"""How much of the server's memory the experts take: their files are mapped, not copied."""

from pathlib import Path

import pytest
from graphs import GIVEN, Graph, ref


def mapped(server, folders):
    """Bytes of these folders' files in the server's memory; pages that are mapped twice count once."""
    smaps = Path(f"/proc/{server.process.pid}/smaps").read_text()
    total, inside = 0, False
    for line in smaps.splitlines():
        words = line.split()
        if "-" in words[0]:
            inside = any(f"{folder}/" in line for folder in folders)
        elif inside and words[0] == "Pss:":
            total += int(words[1]) * 1024
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads the server's memory from /proc")
def test_the_weights_of_a_released_folder_are_in_memory_once(server, files):
    folder = files / "models/diffusion_models/MOVA-golden"
    parts = ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge")
    size = sum(file.stat().st_size for part in parts for file in (folder / part).glob("*.safetensors"))
    graph = Graph()
    loader = graph.add("MOVAModelLoader", high_noise=folder.name, low_noise=folder.name, weight_dtype="default")
    made = graph.joint(ref(loader, 0), graph.add("ProbeGiven", **GIVEN), model_low=ref(loader, 1), steps=4)
    graph.save(ref(made))
    assert server.run(graph.nodes).error is None
    assert 0.95 * size < mapped(server, [folder / part for part in parts]) <= 1.05 * size
