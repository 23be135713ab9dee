"""The shipped workflows run as they are, but for the models (golden ones) and the size."""

import json
import shutil
from pathlib import Path

import pytest

from mova.media import read_clip_info

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))

# What stands for the released models: inputs to change, or another node with the same outputs.
SMALL_INPUTS = {
    "MOVAModelLoader": {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors"},
    "MOVAAudioVAELoader": {"vae_name": "MOVA-golden/audio_vae"},
    "MOVAConditioning": {"width": 48, "height": 32, "length": 9},
    "MOVAJointSampler": {"steps": 4},
    "LoadImage": {"image": "rocket.jpg"},
}
SMALL_NODES = {"VAELoader": "ProbeWanVAE", "CLIPLoader": "ProbeClip"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_node_and_input_of_a_workflow_is_known(server, file):
    for node in json.loads(file.read_text()).values():
        kind = node["class_type"]
        inputs = server.get_json(f"/object_info/{kind}")[kind]["input"]
        known = {name for group in inputs.values() for name in group}
        assert set(node["inputs"]) <= known
        linked = {name for name, value in node["inputs"].items() if isinstance(value, list)}
        assert set(inputs["required"]) <= set(node["inputs"]), (kind, linked)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_makes_a_clip(server, files, file, tmp_path):
    shutil.copy(ROOT / "examples" / "rocket.jpg", server.base / "input")
    workflow = json.loads(file.read_text())
    for node in workflow.values():
        node["inputs"].update(SMALL_INPUTS.get(node["class_type"], {}))
        if node["class_type"] in SMALL_NODES:
            node.update(class_type=SMALL_NODES[node["class_type"]], inputs={})
    result = server.run(workflow)
    assert result.error is None
    (output,) = (node for node in result.outputs.values() if "images" in node)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(server.view(output["images"][0]))
    found = read_clip_info(clip)
    assert (found.frames, found.width, found.height, found.fps) == (9, 48, 32, 24.0)
    assert found.audio_codec == "aac"
