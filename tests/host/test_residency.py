"""Which expert is on the device, step by step, when the host is told of a device with so much memory and no more.

The host runs with --cpu, where it would move nothing. A pack of the test tells it of another device, torch's "cpu:0",
which computes on the CPU but is not equal to the "cpu" that models are offloaded to. Only what the host asks of its
device is replaced: its name, its total and free memory, and the state that a graphics card has. Deciding, loading,
unloading and sampling are the host's own; how much of a model is on the device is what its patcher says.
"""

from dataclasses import dataclass

import pytest
import torch
from graphs import GIVEN, Graph, ref, write_files

PACK = '''
import comfy.model_management as host
import torch
from comfy.patcher_extension import CallbacksMP

DEVICE = torch.device("cpu", 0)
capacity = 0  # bytes that the weights may take on the device
watched, events = {}, []


def room(free):
    taken = sum(entry.model_loaded_memory() for entry in host.current_loaded_models) if free else 0
    return int(host.minimum_inference_memory() + capacity - taken)


def figure(real, free):
    def of(dev=None, torch_too=False, **named):
        if dev not in (None, DEVICE):
            return real(dev, torch_too, **named)
        return (room(free), room(free)) if torch_too or any(named.values()) else room(free)

    return of


host.get_free_memory = figure(host.get_free_memory, free=True)
host.get_total_memory = figure(host.get_total_memory, free=False)
host.get_torch_device = lambda: DEVICE
on_cpu = host.is_device_cpu
host.is_device_cpu = lambda device: device != DEVICE and on_cpu(device)
host.vram_state = host.VRAMState.NORMAL_VRAM


def note(word, name):
    events.append([word, name, {name: patcher.loaded_size() for name, patcher in watched.items()}])


def watch(name, patcher):
    watched[name] = patcher
    patcher.add_callback(CallbacksMP.ON_LOAD, lambda *_: note("load", name))
    # The host also detaches a model that it keeps loaded: then not all is taken back.
    patcher.add_callback(CallbacksMP.ON_DETACH, lambda _, everything: everything and note("unload", name))
    patcher.model.diffusion_model.register_forward_pre_hook(lambda *_: note("step", name))


class Watch:
    """Passes both experts on, as they are, and notes what the host does with them."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL", "MODEL")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"high": ("MODEL",), "low": ("MODEL",), "experts": ("FLOAT", {})}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, high, low, experts):
        global capacity
        for name, patcher in (("high", high), ("low", low)):
            if watched.get(name) is not patcher:
                watch(name, patcher)
        if capacity != int(experts * high.model_size()):
            host.unload_all_models()  # another device: nothing is on it yet
            capacity = int(experts * high.model_size())
        events.clear()
        return high, low


class Report:
    """What has happened in this run."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def run(self, latent):
        sizes = [patcher.model_size() for patcher in watched.values()]
        return {"ui": {"events": list(events), "sizes": sizes}}


NODE_CLASS_MAPPINGS = {"ResidencyWatch": Watch, "ResidencyReport": Report}
'''

HIGH_STEPS, LOW_STEPS = 2, 3


@pytest.fixture(scope="module")
def device(host_place, tmp_path_factory):
    """A server whose device has the memory that a workflow says."""
    from client import Server
    from conftest import HERE

    server = Server(*host_place, tmp_path_factory.mktemp("residency"))
    server.add_pack("comfyui-mova", HERE.parents[1])
    server.add_pack("probe", HERE / "probe")
    (server.base / "custom_nodes/device.py").write_text(PACK)
    write_files(server.base)
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Event:
    """Something the host has done, and the bytes of each expert on the device just after it (of a step: before it)."""

    what: str  # "load", "unload" or "step"
    expert: str
    high: int
    low: int


def run(server, experts, seed=1):
    """A run of the joint sampler with memory for so many experts: events, the size of one expert, the latent."""
    graph = Graph()
    files = {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors", "weight_dtype": "default"}
    loader = graph.add("MOVAModelLoader", **files)
    watch = graph.add("ResidencyWatch", high=ref(loader, 0), low=ref(loader, 1), experts=experts)
    given = graph.add("ProbeGiven", **GIVEN)
    settings = {"seed": seed, "steps": HIGH_STEPS + LOW_STEPS, "cfg": 1.0}
    made = graph.joint(ref(watch, 0), given, model_low=ref(watch, 1), **settings)
    report, saved = graph.add("ResidencyReport", latent=ref(made)), graph.save(ref(made))
    result = server.run(graph.nodes)
    assert result.error is None, result.error
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
