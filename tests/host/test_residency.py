"""Which expert is on the device, step by step, when the host is told of a device with so much memory and no more.

The host runs with --cpu, where it would move nothing. A pack of the test tells it of another device, torch's "cpu:0",
which computes on the CPU but is not equal to the "cpu" that models are offloaded to. Only what the host asks of its
device is replaced: its name, its total and free memory, and the state that a graphics card has. Deciding, loading,
unloading and sampling are the host's own; how much of a model is on the device is what its patcher says.
"""

from dataclasses import dataclass

import pytest
import torch
from client import ran
from graphs import GIVEN, Graph, ref
from packs import pack_server

HIGH_STEPS, LOW_STEPS = 2, 3


@pytest.fixture(scope="module")
def device(host_place, tmp_path_factory):
    """A server whose device has the memory that a workflow says."""
    with pack_server(host_place, tmp_path_factory.mktemp("residency"), own=["residency_pack.py"]) as server:
        yield server


@dataclass(frozen=True)
class Event:
    """Something the host has done, and the bytes of each expert on the device just after it (of a step: before it)."""

    what: str  # "load", "unload" or "step"
    expert: str
    high: int
    low: int
    language: int = 0


def run(server, experts, seed=1, language=False):
    """A run of the joint sampler with memory for so many experts: events, the size of one expert, the latent.

    `language`: a language model writes a prompt before.
    """
    graph = Graph()
    files = {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors", "weight_dtype": "default"}
    loader = graph.add("MOVAModelLoader", **files)
    written = {}
    if language:
        clip = ref(graph.add("ResidencyClip", clip=ref(graph.add("ProbeLanguageModel", kind="Qwen3"))))
        written = {"written": ref(graph.enhanced(clip, seed=seed))}
    watch = graph.add("ResidencyWatch", high=ref(loader, 0), low=ref(loader, 1), experts=experts, **written)
    given = graph.add("ProbeGiven", **GIVEN)
    settings = {"seed": seed, "steps": HIGH_STEPS + LOW_STEPS, "cfg": 1.0}
    made = graph.joint(ref(watch, 0), given, model_low=ref(watch, 1), **settings)
    report, saved = graph.add("ResidencyReport", latent=ref(made)), graph.save(ref(made))
    result = ran(server, graph)
    (size,) = set(result.outputs[report]["sizes"])  # the two experts are of the same size
    events = [Event(what, expert, **loaded) for what, expert, loaded in result.outputs[report]["events"]]
    return events, size, server.tensors(result, saved)


def story(events):
    return [f"{event.what} {event.expert}" for event in events]


STEPS = ["step high"] * HIGH_STEPS, ["step low"] * LOW_STEPS
IN_TURN = ["load high", *STEPS[0], "unload high", "load low", *STEPS[1]]


def test_with_memory_for_one_expert_exactly_one_is_on_the_device(device):
    events, size, _ = run(device, 1.05)
    assert story(events) == IN_TURN
    for event in events:
        here, other = (event.high, event.low) if event.expert == "high" else (event.low, event.high)
        assert other == 0  # also at the end of the load: there is no moment with both
        assert here == (0 if event.what == "unload" else size)

    events, _, _ = run(device, 1.05, seed=2)  # the low-noise expert is still there, and makes room first
    assert story(events) == ["unload low", *IN_TURN]
    assert max(event.high + event.low for event in events) == size


def test_with_memory_for_more_than_one_expert_the_first_leaves_only_as_far_as_it_must(device):
    events, size, _ = run(device, 1.5)
    assert max(event.high + event.low for event in events) <= 1.5 * size
    for event in events:
        if event.what == "step":
            assert (event.high if event.expert == "high" else event.low) == size
    assert events[-1].high > 0


def test_with_memory_for_both_experts_nothing_is_loaded_again(device):
    events, size, _ = run(device, 2.5)
    assert story(events) == ["load high", *STEPS[0], "load low", *STEPS[1]]
    assert (events[-1].high, events[-1].low) == (size, size)
    events, _, _ = run(device, 2.5, seed=2)
    assert story(events) == [*STEPS[0], *STEPS[1]]


def test_with_memory_for_half_an_expert_it_is_loaded_in_part_and_makes_the_same(device):
    _, _, whole = run(device, 2.5)
    events, size, made = run(device, 0.5)
    assert story(events) == IN_TURN
    for event in events:
        assert event.high + event.low <= 0.5 * size
        if event.what == "step":
            here, other = (event.high, event.low) if event.expert == "high" else (event.low, event.high)
            assert here > 0.3 * size and other == 0
    for name, tensor in whole.items():
        assert torch.equal(made[name], tensor), name


def test_the_language_model_has_left_before_the_experts_come(device):
    run(device, 2.5)
    events, _, _ = run(device, 2.5, seed=3, language=True)
    assert story(events)[:2] == ["load language", "unload language"]
    assert events[0].language > 0  # there it writes
    assert all(event.language == 0 for event in events[1:]) and story(events)[2:] == [*STEPS[0], *STEPS[1]]
