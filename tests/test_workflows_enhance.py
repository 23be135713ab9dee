"""MOVA Enhance Prompt in the workflows: bypassed, until its language model is there."""

import re

import pytest
from canvases import ALL, read

from authoring.steps import HUB
from authoring.to_api import BYPASSED, source, unfolded
from authoring.zh import ENGLISH

ENHANCED = ["mova_1_image_to_video_with_sound", "mova_2_text_to_video_with_sound"]


@pytest.mark.parametrize("name", [*ENHANCED, *(chinese for chinese, english in ENGLISH.items() if english in ENHANCED)])
def test_what_makes_more_of_a_prompt_is_bypassed_and_the_prompt_passes_through(name):
    canvas = read(name)
    nodes, links = unfolded(canvas)
    bypassed = {node["type"] for node in nodes.values() if node["mode"] == BYPASSED}
    assert bypassed == {"CLIPLoader", "MOVAEnhancePrompt"}
    (encoder,) = (node for node in nodes.values() if node["type"] == "MOVATextEncode")
    link = next(slot["link"] for slot in encoder["inputs"] if slot["name"] == "prompt")
    assert nodes[links[link][1]]["type"] == "MOVAEnhancePrompt"
    assert nodes[int(source(link, nodes, links)[0])]["type"] == "PrimitiveStringMultiline"


@pytest.mark.parametrize("name", [name for name in ALL if any(ENGLISH.get(name, name) == one for one in ENHANCED)])
def test_the_note_names_the_file_of_the_language_model_and_where_to_get_it(name):
    canvas = read(name)
    (loader,) = (n for n in unfolded(canvas)[0].values() if n["type"] == "CLIPLoader" and n["mode"] == BYPASSED)
    (text,) = canvas["nodes"][0]["widgets_values"]
    file = loader["widgets_values"][0]
    assert re.search(rf"\[{file.removesuffix('.safetensors')}\]\({HUB}/Comfy-Org/[^)]*/{re.escape(file)}\)", text)
    assert "models/text_encoders" in text and "Ctrl B" in text
