"""MOVA Enhance Prompt with small language models of the host's own classes, which have learnt a text by heart."""

import pytest
from client import ran, refusal
from graphs import Graph, ref

KINDS = ("Qwen3-VL", "Qwen3", "Gemma 3")
ASKED = 'a fox in the snow says "hello there, friend"'
TOLD = 'fox runs through deep snow and whispers "hello there, friend" softly.\n\nThe audio holds quiet wind.'
LOAD = "Load qwen3vl_4b_fp8_scaled.safetensors with Load CLIP: "


def enhanced(server, kind, prompt=ASKED, model=(), images=(), **settings):
    """What the node gives, and what is shown on it."""
    graph = Graph()
    clip = ref(graph.add("ProbeLanguageModel", kind=kind, **dict(model)))
    pictures = {name: ref(graph.add("EmptyImage", width=80, height=48, batch_size=1, color=0)) for name in images}
    node = graph.enhanced(clip, prompt, **pictures, **settings)
    seen = [graph.add("PreviewAny", source=ref(node, output)) for output in (0, 1)]
    result = ran(server, graph)
    (text,), (sound,) = (result.outputs[preview]["text"] for preview in seen)
    return text, sound, result.notices[-1][1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_s_models_write_and_the_user_s_words_stay(server, kind):
    """The model has learnt another case, which is put right; the answer and its sound come out, and are shown."""
    text, sound, shown = enhanced(server, kind)
    assert text.split(" ", 2)[::2] == ["A", TOLD]
    assert sound == "The audio holds quiet wind." and shown == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_says_what_is_written(server, kind):
    texts = [enhanced(server, kind, seed=seed)[0] for seed in (0, 1, 2, 0)]
    assert texts[0] == texts[3] and len(set(texts)) > 1


def test_without_temperature_every_seed_writes_the_same(server):
    assert len({enhanced(server, "Gemma 3", seed=seed, temperature=0.0)[0] for seed in range(6)}) == 1


def test_an_answer_that_breaks_a_rule_twice_leaves_the_prompt_as_it_was(server):
    prompt = r'a \(small\) fox says "another thing"'
    text, sound, shown = enhanced(server, "Qwen3", prompt)
    assert (text, sound) == (prompt, "")
    assert "The prompt is yours, unchanged" in shown and '"another thing"' in shown


def test_a_model_that_sees_is_given_the_pictures_and_one_that_does_not_is_told_of(server):
    for images in (["image"], ["end_image"], ["image", "end_image"]):
        assert "takes no pictures" not in enhanced(server, "Qwen3-VL", images=images)[2]
        text, _, shown = enhanced(server, "Gemma 3", images=images)
        assert text.endswith(TOLD) and "The language model takes no pictures" in shown


def test_a_model_that_takes_one_picture_is_given_both_side_by_side(server):
    for images in (["image"], ["image", "end_image"]):
        text, _, shown = enhanced(server, "Gemma 3 with eyes", images=images)
        assert text.endswith(TOLD) and "takes no pictures" not in shown


def test_parentheses_that_the_model_writes_are_no_weights(server):
    learnt = "A red fox runs (quickly) through snow.\n\nThe audio holds wind"
    text, _, _ = enhanced(server, "Qwen3", "a fox", {"text": learnt})
    assert r"runs \(quickly\) through" in text


def test_thoughts_of_a_model_are_taken_away(server):
    learnt = "<think>plan</think>A red fox runs through snow.\n\nThe audio holds wind"
    assert "plan" not in enhanced(server, "Qwen3", "a fox", {"text": learnt})[0]


@pytest.mark.parametrize(
    ("kind", "called"), [("UMT5", "T5"), ("an unknown file", "CLIPTextModel")], ids=["UMT5", "an unknown file"]
)
def test_a_text_encoder_that_cannot_write_is_refused_with_the_file_to_load(server, kind, called):
    graph = Graph()
    graph.add("PreviewAny", source=ref(graph.enhanced(ref(graph.add("ProbeEncoder", kind=kind)))))
    told = f"{LOAD}The model in clip ({called}) encodes text and cannot write any."
    assert refusal(server, graph).endswith(told)


def test_a_model_that_fails_in_the_host_is_told_of_in_one_sentence(server):
    graph = Graph()
    graph.add("PreviewAny", source=ref(graph.enhanced(ref(graph.add("ProbeLanguageModel", kind="Qwen2.5-VL")))))
    assert f"{LOAD}The model in clip (Qwen25_7BVLI) fails in ComfyUI as it writes (" in server.run(graph.nodes).error


def test_a_stand_in_of_another_pack_that_only_encodes_is_refused(server):
    graph = Graph()
    graph.add("PreviewAny", source=ref(graph.enhanced(ref(graph.add("ProbeClip")))))
    assert "(FakeClip) encodes text and cannot write any" in refusal(server, graph)
