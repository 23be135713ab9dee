"""The canvas form of the workflows, read as ComfyUI's canvas reads it; no ComfyUI is needed."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from authoring.canvas import PACK
from authoring.card import CARDS
from authoring.pages import WORKFLOWS
from authoring.steps import HUB
from authoring.to_api import NOTES, to_api

ROOT = Path(__file__).parents[1]
NAMES = [describe.__name__ for describe in WORKFLOWS]
NODE_ID = re.compile(r'node_id="(\w+)"')
MINE = {name for file in (ROOT / "nodes").glob("*.py") for name in NODE_ID.findall(file.read_text(encoding="utf-8"))}
CORE = """
    CLIPLoader DisableNoise KSamplerSelect LoadAudio LoadImage LoadVideo PreviewAny PrimitiveFloat PrimitiveInt
    RandomNoise SamplerCustomAdvanced SaveVideo SplitSigmas VAEDecode VAEDecodeTiled VAEEncode VAELoader
"""
# Values that only the canvas has: upload buttons and players by node, the seed's control by widget.
ONLY_ON_CANVAS = {"LoadImage": 1, "LoadVideo": 1, "LoadAudio": 2, "PrimitiveInt": 1, "seed": 1, "noise_seed": 1}
TITLE = 30  # height of a node's title, which stands above its position


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=NAMES)
def canvas(request):
    return read(request.param)


def box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_each_workflow_has_its_three_files_and_no_other_is_there():
    folder = ROOT / "workflows"
    for pattern in ("*.json", "*.jpg", "api/*.json"):
        assert {path.stem for path in folder.glob(pattern)} == set(NAMES)
    assert set(CARDS) == set(NAMES)


def test_links_are_told_the_same_by_both_their_ends(canvas):
    nodes = {node["id"]: node for node in canvas["nodes"]}
    assert len(nodes) == len(canvas["nodes"]) and max(nodes) == canvas["last_node_id"]
    links = {link[0]: link[1:] for link in canvas["links"]}
    assert len(links) == len(canvas["links"]) and max(links) == canvas["last_link_id"]
    from_slots = {
        slot["link"]: (node["id"], at, slot["type"])
        for node in nodes.values()
        for at, slot in enumerate(node["inputs"])
        if slot["link"] is not None
    }
    to_slots = {
        link: (node["id"], at, slot["type"])
        for node in nodes.values()
        for at, slot in enumerate(node["outputs"])
        for link in slot["links"]
    }
    assert set(links) == set(from_slots) == set(to_slots)
    for number, (origin, out, target, into, kind) in links.items():
        assert to_slots[number] == (origin, out, kind)
        assert from_slots[number] in {(target, into, kind), (target, into, "*")}
        assert nodes[origin]["order"] < nodes[target]["order"]


def test_every_node_is_one_of_the_pack_or_of_comfyui(canvas):
    for node in canvas["nodes"]:
        if node["type"] not in NOTES:
            assert node["type"] in MINE or node["type"] in CORE.split()
            assert node["properties"]["Node name for S&R"] == node["type"]
            assert node["properties"]["cnr_id"] == (PACK if node["type"] in MINE else "comfy-core")


def test_every_input_that_is_a_socket_and_needed_is_linked(canvas):
    for node in canvas["nodes"]:
        for slot in node["inputs"]:
            assert slot["link"] is not None or "widget" in slot or slot.get("shape") == 7, (node["type"], slot)


def test_every_widget_has_its_value(canvas):
    for node in canvas["nodes"]:
        if node["type"] not in NOTES:
            widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot]
            more = sum(ONLY_ON_CANVAS.get(name, 0) for name in (node["type"], *widgets))
            assert len(node["widgets_values"]) == len(widgets) + more, node["type"]


def test_no_nodes_lie_over_each_other_and_all_lie_in_a_group(canvas):
    boxes = {node["id"]: box(node) for node in canvas["nodes"]}
    groups = [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in canvas["groups"])]
    for i, mine in boxes.items():
        assert not [j for j, other in boxes.items() if i < j and overlap(mine, other)]
        within = [g for g in groups if g[0] <= mine[0] and g[1] <= mine[1] and mine[2] <= g[2] and mine[3] <= g[3]]
        assert len(within) == 1
    assert not [1 for i, a in enumerate(groups) for b in groups[:i] if overlap(a, b)]


def test_notes_say_something_and_the_groups_are_numbered_from_left_to_right(canvas):
    notes = [node["widgets_values"][0] for node in canvas["nodes"] if node["type"] in NOTES]
    assert len(notes) >= 4 and all(len(note) > 60 for note in notes)
    titles = [group["title"] for group in sorted(canvas["groups"], key=lambda group: group["bounding"][0])]
    assert titles[0] == "Read me"
    assert [title[0] for title in titles[1:]] == sorted(title[0] for title in titles[1:])
    assert {title[0] for title in titles[1:]} == set("12345")


def test_what_can_be_downloaded_says_so_to_the_missing_model_dialog(canvas):
    loaders = [node for node in canvas["nodes"] if node["type"] in ("CLIPLoader", "VAELoader")]
    assert len(loaders) == 2
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0] and model["directory"] in ("text_encoders", "vae")
        assert model["url"].startswith(f"{HUB}/Comfy-Org/") and model["url"].endswith("/" + model["name"])
    files = next(node for node in canvas["nodes"] if node.get("title") == "Which files, and where")
    assert all(node["properties"]["models"][0]["url"] in files["widgets_values"][0] for node in loaders)
    assert (
        "OpenMOSS-Team/MOVA-360p" in files["widgets_values"][0] and "ComfyUI-MOVA convert" in files["widgets_values"][0]
    )


def test_the_released_values_are_set(canvas):
    def values(kind):
        return [node["widgets_values"] for node in canvas["nodes"] if node["type"] == kind]

    for width, height, length, *_ in values("MOVAConditioning"):
        assert (width, height, length) == (640, 352, 193)
    assert all(value in ([24.0], [0.0]) for value in values("PrimitiveFloat"))  # a rate, or where a video begins
    for _, length, width, height, _ in values("MOVAFitVideo"):
        assert length == 193 and (width, height) in ((640, 352), (0, 0))
    for _, _, *sampling in values("MOVAJointSampler"):
        assert sampling[:5] == [50, 5.0, 5.0, 5.0, 0.9]
    assert all(value == [50, 5.0, 1.0] for value in values("MOVAScheduler"))
    assert values("MOVAJointSampler") or values("MOVAScheduler")


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_is_small_and_a_jpeg(name):
    path = ROOT / "workflows" / f"{name}.jpg"
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (512, 512))
    assert path.stat().st_size < 30_000


def definition(*required):
    inputs = {name: [kind, options] for name, kind, options in required}
    return {"input": {"required": inputs}, "input_order": {"required": list(inputs)}, "display_name": "A node"}


def node(number, kind, inputs=(), values=(), mode=0):
    slots = [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs]
    return {"id": number, "type": kind, "mode": mode, "inputs": slots, "widgets_values": list(values)}


DEFINITIONS = {
    "Load": definition(("image", ["a.png"], {"image_upload": True})),
    "Blur": definition(("image", "IMAGE", {}), ("seed", "INT", {}), ("radius", "FLOAT", {})),
    "Save": definition(("image", "IMAGE", {}), ("name", "STRING", {})),
}


def convert(*nodes, links):
    return to_api({"nodes": list(nodes), "links": [[*link, "IMAGE"] for link in links]}, DEFINITIONS)


def test_values_that_only_the_canvas_has_are_no_inputs():
    made = convert(
        node(1, "Load", values=["b.png", "image"]),
        node(2, "Blur", [("image", 1)], [7, "randomize", 0.5]),
        links=[(1, 1, 0, 2, 0)],
    )
    assert made["1"]["inputs"] == {"image": "b.png"}
    assert made["2"]["inputs"] == {"image": ["1", 0], "seed": 7, "radius": 0.5}


def test_a_linked_widget_takes_what_is_linked():
    made = convert(
        node(1, "PrimitiveNode", values=[3, "fixed"]),
        node(2, "Blur", [("seed", 1)], [7, "randomize", 0.5]),
        links=[(1, 1, 0, 2, 0)],
    )
    assert set(made) == {"2"} and made["2"]["inputs"] == {"seed": 3, "radius": 0.5}


@pytest.mark.parametrize(
    "between", [node(2, "Reroute", [("", 1)]), node(2, "Blur", [("image", 1)], [7, "fixed", 0.5], mode=4)]
)
def test_a_link_goes_past_reroutes_and_bypassed_nodes(between):
    made = convert(
        node(1, "Load", values=["b.png", "image"]),
        between,
        node(3, "Save", [("image", 2)], ["x"]),
        node(4, "MarkdownNote", values=["text"]),
        links=[(1, 1, 0, 2, 0), (2, 2, 0, 3, 0)],
    )
    assert set(made) == {"1", "3"} and made["3"]["inputs"] == {"image": ["1", 0], "name": "x"}


def test_what_hangs_on_a_muted_node_is_not_linked():
    made = convert(
        node(1, "Load", values=["b.png", "image"], mode=2),
        node(2, "Save", [("image", 1)], ["x"]),
        links=[(1, 1, 0, 2, 0)],
    )
    assert made["2"]["inputs"] == {"name": "x"} and set(made) == {"2"}


def test_too_few_values_and_unknown_nodes_are_told():
    with pytest.raises(ValueError, match=r"node 1 \(Load\) has 1 widget values, not 2"):
        convert(node(1, "Load", values=["b.png"]), links=[])
    with pytest.raises(ValueError, match="Blend, which this ComfyUI does not know"):
        convert(node(1, "Blend"), links=[])
