"""MOVA Size, and the negative prompt that is not encoded again."""

import pytest
from client import ran
from graphs import Graph, ref
from inside import run_inside


def sizes(server, graph, node):
    shown = [graph.add("PreviewAny", source=ref(node, output)) for output in range(4)]
    result = ran(server, graph)
    return [result.outputs[one]["text"][0] for one in shown], result.notices


def test_it_gives_what_the_conditioning_takes_and_says_so(server, files):
    graph = Graph()
    node = graph.add("MOVASize", size="MOVA-360p upright, 352 x 640", seconds=4.0, fps=24.0)
    found, notices = sizes(server, graph, node)
    assert found == ["352", "640", "97", "24.0"]
    assert notices == [(node, "352 x 640, 97 frames: 4.04 seconds at 24 a second")]


def test_it_takes_the_shape_of_the_picture(server, files):
    graph = Graph()
    picture = ref(graph.add("EmptyImage", width=500, height=1000, batch_size=1, color=0))
    shape = "MOVA-360p the picture's shape"
    found, _ = sizes(server, graph, graph.add("MOVASize", size=shape, seconds=1.0, fps=25.0, picture=picture))
    assert found == ["336", "672", "25", "25.0"]
    assert int(found[0]) * int(found[1]) == pytest.approx(640 * 352, rel=0.03)


def test_without_a_picture_its_shape_is_refused(server, files):
    graph = Graph()
    node = graph.add("MOVASize", size="MOVA-720p the picture's shape", seconds=4.0, fps=24.0)
    graph.add("PreviewAny", source=ref(node))
    error = server.run(graph.nodes).error
    assert error.startswith("Connect a picture, or choose another size"), error


def test_a_new_prompt_does_not_encode_the_negative_one_again(server, files):
    graph = Graph()
    clip = ref(graph.add("ProbeCountingClip"))
    encoded = graph.add("MOVATextEncode", clip=clip, prompt="a cat", negative_prompt="a dog")
    nodes = [graph.add("ProbeSaveConditioning", conditioning=ref(encoded, i), name=f"{i}.st") for i in range(2)]
    first = ran(server, graph)
    graph.nodes[encoded]["inputs"]["prompt"] = "a bird"
    second = ran(server, graph)
    texts = [[entry["text"] for entry in run.outputs[node]["entries"]] for run in (first, second) for node in nodes]
    assert texts == [["a cat"], ["a dog"], ["a bird"], ["a dog"]]
    counts = [[run.outputs[node]["entries"][0]["encoded"] for node in nodes] for run in (first, second)]
    assert counts == [[1, 2], [3, 2]]


UNHASHABLE = """
from pack.nodes.text import encode_negative

class Clip:
    __hash__ = None
    def encode_from_tokens_scheduled(self, tokens):
        return [[tokens, {}]]

clip = Clip()
print([encode_negative(clip, "a dog", number) for number in (1, 2)])
"""


def test_a_text_encoder_that_cannot_be_remembered_encodes_each_time(host_place):
    assert run_inside(host_place, UNHASHABLE).strip().endswith("[[[1, {}]], [[2, {}]]]")
