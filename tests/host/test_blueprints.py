"""The blueprints: ComfyUI offers them, they are what they are made from, and each makes a clip from its own file."""

import json
from pathlib import Path

import pytest
from clips import read_clip
from small_workflows import SMALL_NODES, write_media
from test_workflows import STALE, made_by, made_small, without_unused_outputs

from authoring.blueprints import BLUEPRINTS, blueprint_file
from authoring.to_api import to_api

FOLDER = Path(__file__).parents[2] / "subgraphs"
NAMES = [blueprint.name for blueprint in BLUEPRINTS]
# What gives each type, and its widgets' values.
SOURCES = {
    "MODEL": ("MOVAModelLoader", ["mova_high.safetensors", "mova_low.safetensors", "default"]),
    "CLIP": ("ProbeClip", []),
    "VAE": ("ProbeWanVAE", []),
    "IMAGE": ("LoadImage", ["small.png", "image"]),
    "VIDEO": ("LoadVideo", ["small.mp4", "image"]),
    "AUDIO": ("LoadAudio", ["small.wav", None, None]),
}


@pytest.fixture(scope="module")
def definitions(server, files):
    write_media(server.base)
    return server.get_json("/object_info")


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_comfyui_offers_each_blueprint(server):
    offered = [one for one in server.get_json("/global_subgraphs").values() if "MOVA" in one["name"]]
    assert sorted(one["name"] for one in offered) == sorted(NAMES) == sorted(path.stem for path in FOLDER.iterdir())
    assert {one["info"]["node_pack"] for one in offered} == {"custom_nodes.comfyui-mova"}


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=NAMES)
def test_a_blueprint_is_what_its_description_says(definitions, blueprint):
    built = json.loads(json.dumps(blueprint_file(blueprint, definitions)))
    assert without_unused_outputs(read(blueprint.name)) == without_unused_outputs(built), STALE


def with_sources(canvas, definitions):
    """The page of a blueprint, whose sockets get what they ask for, and whose video is saved."""
    (node,) = canvas["nodes"]

    def add(kind, values, slots=()):
        outputs = [{"name": name, "type": name, "links": []} for name in definitions[kind]["output"]]
        canvas["nodes"].append(
            {"id": len(canvas["nodes"]) + 1, "type": kind, "mode": 0, "inputs": list(slots), "outputs": outputs}
            | {"widgets_values": values}
        )
        return canvas["nodes"][-1]

    def link(origin, slot, target, into):
        number = len(canvas["links"]) + 1
        canvas["links"].append([number, origin["id"], slot, target["id"], 0, into["type"]])
        into["link"] = number
        origin["outputs"][slot]["links"].append(number)

    for slot in node["inputs"]:
        if "widget" not in slot:
            kind, values = SOURCES[slot["type"]]
            if slot["name"] == "audio_vae":
                kind, values = "MOVAAudioVAELoader", ["MOVA-golden/audio_vae"]
            link(add(kind, values), int(slot["name"] == "model_low"), node, slot)
    video = {"name": "video", "type": "VIDEO", "link": None}
    saver = add("SaveVideo", ["video/MOVA", "mp4", "h264"], [video])
    link(node, 0, saver, video)
    return canvas


@pytest.mark.parametrize("name", [name for name in NAMES if "decode" not in name])  # that one is in each of these
def test_a_blueprint_makes_a_clip(server, definitions, name, tmp_path):
    workflow = made_small(to_api(with_sources(read(name), definitions), definitions))
    assert not {node["class_type"] for node in workflow.values()} & set(SMALL_NODES)
    frames, waveform, rate, fps = read_clip(made_by(server, server.run(workflow), tmp_path))
    assert fps == 24.0 and len(frames) == 9
    assert waveform.shape[1] / rate == pytest.approx(9 / 24, abs=2048 / rate)
