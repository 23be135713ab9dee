"""The canvas form of the workflows, read as ComfyUI's canvas reads it; no ComfyUI is needed."""

import re
from pathlib import Path

import pytest
from canvases import ALL, read
from PIL import Image

from authoring.canvas import PACK
from authoring.card import CARDS
from authoring.pages import WORKFLOWS
from authoring.steps import HUB
from authoring.times import CARDS as GRAPHICS_CARDS
from authoring.times import DRAFT, FAST, PLANS, minutes
from authoring.to_api import NOTES, to_api, unfolded
from authoring.zh import ENGLISH

ROOT = Path(__file__).parents[1]
NODE_ID = re.compile(r'node_id="(\w+)"')
MINE = {name for file in (ROOT / "nodes").glob("*.py") for name in NODE_ID.findall(file.read_text(encoding="utf-8"))}
CORE = """
    CLIPLoader CLIPTextEncode ConditioningZeroOut DisableNoise EmptySD3LatentImage KSampler KSamplerSelect LoadAudio
    LatentUpscaleBy LoadImage LoadVideo LoraModelLoader LossGraphNode ModelSamplingAuraFlow PrimitiveFloat
    PrimitiveStringMultiline RandomNoise SamplerCustomAdvanced SaveVideo SplitSigmas UNETLoader VAEDecode VAEDecodeTiled
    VAEEncode VAELoader
"""
# Values that only the canvas has: upload buttons and players by node, the seed's control by widget.
ONLY_ON_CANVAS = {"LoadImage": 1, "LoadVideo": 1, "LoadAudio": 2, "seed": 1, "noise_seed": 1}
TITLE = 30  # height of a node's title, which stands above its position


@pytest.fixture(params=ALL)
def canvas(request):
    return read(request.param)


def box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_each_workflow_has_its_three_files_and_no_other_is_there():
    folder = ROOT / "workflows"
    for pattern, names in (("*.json", ALL), ("*.jpg", ALL), ("api/*.json", WORKFLOWS)):
        assert {path.stem for path in folder.glob(pattern)} == set(names)
    assert set(CARDS) == set(WORKFLOWS) == set(ENGLISH.values())
    assert len({name.lower() for name in ALL}) == len(ALL)  # some disks do not tell them apart
    for word in ("mova", "sound", "foley", "talking", "lora"):
        assert any(word in re.split("[-_]", name) for name in WORKFLOWS), word  # the page searches for such words


def test_links_are_told_the_same_by_both_their_ends(canvas):
    for nodes, links, ends in scopes(canvas):
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
        from_slots |= ends["into"]
        to_slots |= ends["out of"]
        assert set(links) == set(from_slots) == set(to_slots)
        for number, (origin, out, target, into, kind) in links.items():
            assert to_slots[number] == (origin, out, kind)
            assert from_slots[number] in {(target, into, kind), (target, into, "*")}
            if origin in nodes and target in nodes:
                assert nodes[origin]["order"] < nodes[target]["order"]


def scopes(canvas):
    """Nodes and links of the page and of each subgraph, and what its two ends say of links."""
    nodes = {node["id"]: node for node in canvas["nodes"]}
    assert len(nodes) == len(canvas["nodes"]) and max(nodes) == canvas["last_node_id"]
    links = {link[0]: tuple(link[1:]) for link in canvas["links"]}
    assert len(links) == len(canvas["links"]) and max(links) == canvas["last_link_id"]
    found = [(nodes, links, {"into": {}, "out of": {}})]
    subgraphs = canvas.get("definitions", {}).get("subgraphs", [])
    assert {node["type"] for node in nodes.values() if "-" in node["type"]} == {one["id"] for one in subgraphs}
    for one in subgraphs:
        inner = {link["id"]: tuple(link.values())[1:] for link in one["links"]}
        ends = {
            "out of": {n: (-10, at, s["type"]) for at, s in enumerate(one["inputs"]) for n in s["linkIds"]},
            "into": {n: (-20, at, s["type"]) for at, s in enumerate(one["outputs"]) for n in s["linkIds"]},
        }
        found.append(({node["id"]: node for node in one["nodes"]}, inner, ends))
    return found


def test_every_node_is_one_of_the_pack_or_of_comfyui(canvas):
    for node in unfolded(canvas)[0].values():
        if node["type"] not in NOTES:
            assert node["type"] in MINE or node["type"] in CORE.split()
            assert node["properties"]["Node name for S&R"] == node["type"]
            assert node["properties"]["cnr_id"] == (PACK if node["type"] in MINE else "comfy-core")


def test_every_input_that_is_a_socket_and_needed_is_linked(canvas):
    for node in unfolded(canvas)[0].values():
        for slot in node["inputs"]:
            assert slot["link"] is not None or "widget" in slot or slot.get("shape") == 7, (node["type"], slot)


def test_every_widget_has_its_value(canvas):
    for node in unfolded(canvas)[0].values():
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


def test_one_short_note_stands_first_and_the_groups_are_numbered_from_left_to_right(canvas):
    (note,) = [node for node in canvas["nodes"] if node["type"] in NOTES]
    first = min(canvas["nodes"], key=lambda node: node["pos"])
    (text,) = note["widgets_values"]
    assert note is first and 100 < len(text) < 1000
    assert "`" not in text  # code cannot be read in Nodes 2.0
    assert ("RTX" in text) and ("computed, not measured" in text or "计算值" in text)
    titles = [group["title"] for group in sorted(canvas["groups"], key=lambda group: group["bounding"][0])]
    assert not titles.pop()[0].isdigit()  # that of the missing models
    assert [title[0] for title in titles] == sorted(title[0] for title in titles)
    assert {title[0] for title in titles} == set("1234")


def test_the_table_of_plans_is_what_they_cost():
    (canvas,) = [read(name) for name in WORKFLOWS if name.startswith("mova_1_")]
    (text,) = canvas["nodes"][0]["widgets_values"]
    rows = [[cell.strip("* ") for cell in line.split("|")[1:-1]] for line in text.split("\n") if line[:3] == "| *"]
    assert [row[0] for row in rows] == ["Draft", "Good", "Release"]
    assert [int(row[4]) for row in rows] == [40, 60, 100]  # evaluations: two for each step, with cfg
    for row, plan in zip(rows, PLANS, strict=True):
        assert [int(cell) for cell in row[5:]] == [round(minutes(plan, card)) for card in GRAPHICS_CARDS]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row, plan in zip(rows, PLANS, strict=True):
        of = f"{plan.name.lower()}: {plan.steps} steps, cfg {plan.cfg:g}, {plan.seconds:g} seconds"
        assert f"| {' | '.join([of, *row[4:]])} |" in readme
    assert minutes(PLANS[-1], "4090") == pytest.approx(46, abs=1)  # 0.27 EFLOP at 100 TFLOP/s, as docs/models.md says


@pytest.mark.parametrize("name", ENGLISH)
def test_chinese_pages_are_the_english_ones_but_for_words(name):
    canvas, english = read(name), read(ENGLISH[name])
    assert [(n["type"] if "-" not in n["type"] else "", n["inputs"]) for n in canvas["nodes"]] == [
        (n["type"] if "-" not in n["type"] else "", n["inputs"]) for n in english["nodes"]
    ]
    titles = [node["title"] for node in canvas["nodes"] if "title" in node]
    titles += [group["title"] for group in canvas["groups"]] + [canvas["nodes"][0]["widgets_values"][0]]
    assert all(re.search("[\u4e00-\u9fff]", title) for title in titles), titles


def test_what_can_be_downloaded_says_so_to_the_missing_model_dialog(canvas):
    folders = {"CLIPLoader": "text_encoders", "VAELoader": "vae", "UNETLoader": "diffusion_models"}
    loras = [n for n in unfolded(canvas)[0].values() if n["type"] == "MOVALoraLoader" and "models" in n["properties"]]
    all_of_them = [node for node in unfolded(canvas)[0].values() if node["type"] in folders]
    loaders = [node for node in all_of_them if not node["mode"]]
    paints = any(node["type"] == "UNETLoader" for node in loaders)
    assert len(loaders) == (5 if paints else 2)
    assert not any("models" in node["properties"] for node in all_of_them if node["mode"])  # nobody needs to have it
    for node in loaders + loras:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0]
        assert model["directory"] == folders.get(node["type"], "loras")
        assert model["url"].startswith(f"{HUB}/Comfy-Org/") and model["url"].endswith("/" + model["name"])


def test_the_pages_open_with_a_draft(canvas):
    def values(kind):
        return [node["widgets_values"] for node in unfolded(canvas)[0].values() if node["type"] == kind]

    assert all(seconds == DRAFT.seconds and fps == 24.0 for _, seconds, fps in values("MOVASize"))
    assert all(
        (length, width, height) == (97, 640, 352) or (width, height) == (0, 0)
        for _, length, width, height, _ in values("MOVAFitVideo")
    )
    assert values("MOVASize") or values("MOVAFitVideo") or values("MOVAConditioning")[0][2] == 97
    for _, _, *sampling in values("MOVAJointSampler"):
        assert sampling[:5] == [20, 3.0, 5.0, 5.0, 0.9] or sampling[:2] == [FAST.steps, FAST.cfg]
    assert all(value == [20, 5.0, 1.0] for value in values("MOVAScheduler"))
    assert values("MOVAJointSampler") or values("MOVAScheduler")


@pytest.mark.parametrize("name", ALL)
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
