"""Numbers of other packs' nodes, which do their mathematics in floating point, in fractions or in NumPy."""

import pytest
from client import made
from graphs import GIVEN, Graph, ref


@pytest.mark.parametrize("what", ["four in floating point", "four of NumPy", "four as a fraction"])
def test_a_number_of_any_kind_does_what_the_same_number_typed_in_does(server, files, what):
    given, typed = [], {"steps": 4, "cfg": 4.0, "seed": 4, "video_shift": 4.0, "a2v_scale": 4.0}
    for linked in (False, True):
        graph = Graph()
        inputs = graph.add("ProbeGiven", **GIVEN)
        number = ref(graph.add("ProbeOdd", what=what))
        settings = dict.fromkeys(typed, number) if linked else typed
        joint = graph.joint(graph.model("mova_high"), inputs, **settings)
        given += made(server, graph, joint)
    assert all(given[0][name].equal(given[1][name]) for name in ("video", "audio"))
