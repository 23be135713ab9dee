"""What a clip of the command line tells ComfyUI's page: the workflow that would make it. In the page itself:
tests/host/test_browser_drop.py."""

import json

import pytest
import torch
from PIL import Image

from mova.__main__ import main
from mova.clip import graph as graphs
from mova.clip.graph import WORKFLOWS, graph_of
from mova.clip.media import write_clip
from mova.clip.reading import read_clip_info

SIZE = ["--width", "48", "--height", "32", "--frames", "5", "--steps", "1", "--dtype", "fp32"]


@pytest.fixture(scope="module")
def clip(tiny_checkpoint, tmp_path_factory):
    """A clip with all that has a counterpart among ComfyUI's nodes."""
    folder = tmp_path_factory.mktemp("secret place")
    Image.linear_gradient("L").save(folder / "first.png")
    options = ["--prompt", "火箭 lifts off", "--negative-prompt", "grey", "--seed", "7", "--fps", "12.5"]
    options += ["--guidance", "4", "--bridge-guidance", "2", "--audio-guidance", "3", "--video-shift", "6"]
    options += ["--audio-shift", "4", "--boundary", "0.5", "--image", str(folder / "first.png"), "--tiled-vae"]
    given = ["--checkpoint", str(tiny_checkpoint), "--out", str(folder / "clip.mp4")]
    assert main(["generate", *given, *SIZE, *options]) == 0
    return folder / "clip.mp4"


def inputs(graph, kind):
    (found,) = (node["inputs"] for node in graph.values() if node["class_type"] == kind)
    return found


def check_links(graph):
    """Every link comes from a node that is there."""
    for node in graph.values():
        for value in node["inputs"].values():
            assert not isinstance(value, list) or (value[0] in graph and isinstance(value[1], int))


def test_a_clip_brings_the_graph_with_its_settings(clip):
    graph = read_clip_info(clip).prompt
    check_links(graph)
    assert inputs(graph, "MOVATextEncode").items() >= {"prompt": "火箭 lifts off", "negative_prompt": "grey"}.items()
    shape = {"width": 48, "height": 32, "length": 5, "fps": 12.5, "text_only_frame": "white"}
    assert inputs(graph, "MOVAConditioning").items() >= shape.items()
    sampler = {"seed": 7, "steps": 1, "cfg": 4, "bridge_cfg": 2, "audio_cfg": 3, "video_shift": 6, "audio_shift": 4}
    assert inputs(graph, "MOVAJointSampler").items() >= (sampler | {"boundary": 0.5}).items()
    assert inputs(graph, "LoadImage") == {"image": "first.png"}
    assert inputs(graph, "MOVACombineVideo")["fps"] == 12.5
    assert inputs(graph, "MOVAAudioVAELoader") == {"vae_name": "tiny_audio_vae.safetensors"}
    assert inputs(graph, "VAEDecodeTiled")["tile_size"] == 256 and "MOVASize" not in json.dumps(graph)


def test_its_graph_tells_nothing_of_the_machine(clip, tiny_checkpoint):
    said = json.dumps(read_clip_info(clip).prompt)
    assert str(clip.parent) not in said and "secret place" not in said and str(tiny_checkpoint.parent) not in said


def test_info_still_tells_its_settings_once(clip, capsys):
    assert main(["info", str(clip)]) == 0
    told = capsys.readouterr().out
    assert "seed: 7\n" in told and "prompt: 火箭 lifts off\n" in told and "MOVAJointSampler" not in told


def test_the_index_of_a_clip_with_a_graph_is_in_front(clip):
    data = clip.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def settings(**others):
    return {
        **{"prompt": "rain", "negative_prompt": "", "width": 640, "height": 352, "frames": 193, "fps": 24.0},
        **{"steps": 50, "seed": 1, "guidance": 5.0, "bridge_guidance": 1.0, "audio_guidance": 5.0, "loras": []},
        **{"video_shift": 5.0, "audio_shift": 5.0, "boundary": 0.9, "text_only_frame": "white", "tiled_vae": False},
        **{"elementwise": "torch", "low_memory": False, "checkpoint": "MOVA-720p"},
        **others,
    }


@pytest.mark.parametrize("image", [None, "a.png"])
@pytest.mark.parametrize("end_image", [None, "b.png"])
def test_the_graph_has_the_pictures_that_were_given_and_no_others(image, end_image):
    graph = graph_of(settings(), image, end_image)
    check_links(graph)
    found = [node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"]
    assert found == [name for name in (image, end_image) if name]
    given = inputs(graph, "MOVAConditioning")
    assert ("start_image" in given, "end_image" in given) == (image is not None, end_image is not None)
    assert inputs(graph, "MOVAModelLoader")["low_noise"].startswith("MOVA-720p_low_noise")
    assert inputs(graph, "MOVAJointSampler")["audio_cfg"] == -1  # as cfg


def test_both_experts_pass_every_lora_in_order_and_then_the_options():
    graph = graph_of(settings(loras=["a b.safetensors:0.8", "c:1"], low_memory=True), None, None)
    check_links(graph)
    passed, node = [], inputs(graph, "MOVAJointSampler")
    while "model_high" in node:
        assert node["model_high"][0] == node["model_low"][0] and (node["model_high"][1], node["model_low"][1]) == (0, 1)
        found = graph[node["model_high"][0]]
        node = found["inputs"]
        passed.append((found["class_type"], node.get("lora_name"), node.get("strength_audio")))
    assert passed == [
        ("MOVAModelOptions", None, None),
        ("MOVALoraLoader", "c", 1),
        ("MOVALoraLoader", "a b.safetensors", 0.8),
        ("MOVAModelLoader", None, None),
    ]


def test_what_is_set_beyond_the_shipped_workflows_gets_its_nodes_and_prism_keeps_mova_s_audio_vae():
    more = {"audio_prompt": "<sfx> rain", "audio_steps": 4, "audio_memory": "fp8", "guidance_text": (0.0, 0.5)}
    graph = graph_of(settings(checkpoint="Prism-preview_beta", guidance_per_step=(6.0, 4.5), **more), None, None)
    check_links(graph)
    assert inputs(graph, "PrimitiveStringMultiline") == {"value": "<sfx> rain"}
    spans = {"text_start": 0, "text_end": 50, "audio_start": -1, "audio_end": -1, "bridge_start": 0, "bridge_end": 100}
    assert inputs(graph, "MOVAGuidanceSchedule") == {**spans, "cfg_per_step": "6, 4.5"}
    assert inputs(graph, "MOVAModelOptions")["audio_memory"] == "fp8"
    assert {"audio_steps": 4}.items() <= inputs(graph, "MOVAJointSampler").items()
    assert {"guidance", "model_low"} <= inputs(graph, "MOVAJointSampler").keys()
    assert "audio_prompt" in inputs(graph, "MOVATextEncode")
    assert inputs(graph, "MOVAModelLoader")["high_noise"].startswith("Prism-preview_beta_high_noise")
    assert inputs(graph, "MOVAAudioVAELoader")["vae_name"].startswith("MOVA-360p_audio_vae")


def test_the_tiles_are_those_of_the_shipped_workflow():
    shipped = json.loads((WORKFLOWS / "mova_6_low_memory.json").read_text(encoding="utf-8"))
    assert inputs(shipped, "VAEDecodeTiled").items() >= graphs.TILES.items()


def test_without_the_packs_workflows_a_clip_is_written_without_a_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "WORKFLOWS", tmp_path)
    assert graph_of(settings(), None, None) is None


def test_a_clip_with_somebody_elses_note_is_told_by_its_nodes(clip, tmp_path, capsys):
    frames, graph = torch.zeros(5, 32, 48, 3, dtype=torch.uint8), read_clip_info(clip).prompt
    write_clip(tmp_path / "clip.mp4", frames, 24, None, settings={"by": "me"}, graph=graph)
    assert main(["info", str(tmp_path / "clip.mp4")]) == 0
    assert "MOVAJointSampler (" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ['word; =#\\\n"q" ' * 5000, '{"workflow": [}', "odd \udcff name"], ids=["long", "json", "odd"]
)
def test_what_is_hard_to_write_comes_back_word_for_word(text, tmp_path):
    said = settings(prompt=text, mova="1", loras=["x:y:0.5"])
    frames, graph = torch.zeros(5, 32, 48, 3, dtype=torch.uint8), graph_of(said, "a\udcff.png", None)
    write_clip(tmp_path / "clip.mp4", frames, 24, None, settings=said, graph=graph)
    found = read_clip_info(tmp_path / "clip.mp4")
    assert found.prompt == graph and found.settings["prompt"] == text
