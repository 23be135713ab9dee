"""The host's dynamic VRAM: weights are faulted in layer by layer, on a device that dynamic_vram_pack makes up."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from client import ran
from golden import joint_model
from graphs import CONFIG, GIVEN, KIND, Graph, numbers, ref
from packs import pack_server
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def device(host_place, tmp_path_factory):
    """A server with dynamic VRAM, whose device has the memory that a workflow says."""
    base, own = tmp_path_factory.mktemp("dynamic"), ["dynamic_vram_pack.py"]
    with pack_server(host_place, base, own=own, arguments=["--async-offload", "2"]) as server:
        yield server


@dataclass(frozen=True)
class Run:
    """What was made, and how. In `forwards` is what the host has fetched in each: (expert, [(how, {module: state})]).

    how: "ahead" of its use, a whole layer at once, or "alone", just when it is needed. state: "loaded" to stay, "there"
    already, or "streamed": used once, and gone.
    """

    made: dict[str, torch.Tensor]
    forwards: list[tuple[str, list[tuple[str, dict[str, str]]]]]
    large: set[str]  # modules that are fetched; the host loads small ones in advance
    numbers: dict[str, Any]  # bytes, of the pack's Report

    def states(self, forward: int) -> dict[str, str]:
        return {name: state for _, found in self.forwards[forward][1] for name, state in found.items()}


FILES = {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors", "weight_dtype": "default"}
HALF = {**FILES, "high_noise": "half_high.safetensors", "low_noise": "half_low.safetensors"}
FP8 = {**FILES, "weight_dtype": "fp8_e4m3fn"}
FOLDER = {**FILES, "high_noise": "MOVA-golden", "low_noise": "MOVA-golden"}
STEPS = {"high": 2, "low": 2}  # of the four, at a boundary of 0.9


def run(server, experts=None, files=FILES, lora=None, taught=False, **settings):
    """The joint sampler with memory for so many experts; on the plain server: without it, only what was made.

    taught: the experts without their LoRA are the teachers of the audio.
    """
    graph = Graph()
    loader = graph.add("MOVAModelLoader", **files)
    high, low = teachers = ref(loader, 0), ref(loader, 1)
    if lora is not None:
        high, low = (
            ref(graph.add("LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=1.0))
            for model in (high, low)
        )
    if taught:
        pupils = {"model_high": high, "model_low": low, "teacher_high": teachers[0], "teacher_low": teachers[1]}
        node = graph.add("MOVAAudioTeacher", from_layer=0, **pupils)
        high, low = ref(node, 0), ref(node, 1)
    if experts is not None:
        watch = graph.add("DynamicWatch", high=high, low=low, experts=experts)
        high, low = ref(watch, 0), ref(watch, 1)
    given = graph.add("ProbeGiven", **GIVEN)
    made = graph.joint(high, given, model_low=low, steps=4, **settings)
    saved = graph.save(ref(made))
    report = experts is not None and graph.add("DynamicReport", latent=ref(made), model=low)
    result = ran(server, graph)
    latents = server.tensors(result, saved)
    if experts is None:
        return latents
    found = result.outputs[report]
    (numbers,) = found["numbers"]
    assert numbers["dynamic"]  # else this would be the host's other way, which test_residency looks at
    return Run(latents, by_forward(found["events"]), set(found["large"]), numbers)


def by_forward(events):
    forwards = []
    for what, found in events:
        if what == "step":
            forwards.append((found, []))
        else:
            forwards[-1][1].append((what, found))
    return forwards


def differ(a, b):
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.mark.parametrize("files_of", [FILES, HALF, FOLDER], ids=["files", "bf16", "folder"])
@pytest.mark.parametrize("experts", [0.5, 1.5])
def test_it_makes_the_same_as_without(device, server, files, files_of, experts):
    found = run(device, experts, files_of)
    assert [expert for expert, _ in found.forwards] == [name for name, n in STEPS.items() for _ in range(n)]
    assert differ(found.made, run(server, files=files_of)) < 1e-5


def test_weights_stored_in_fp8_take_a_quarter_of_the_memory_and_are_no_less_exact_than_without(device, server, files):
    exact, rounded = run(server), run(server, files=FP8)
    found = run(device, 2.5, FP8)
    assert found.numbers["taken"] < 0.3 * 2 * found.numbers["size"]
    assert 0 < differ(found.made, exact) < 1.1 * differ(rounded, exact)


def test_each_layer_s_weights_are_fetched_ahead_in_the_order_of_the_blocks(device):
    found = run(device, 0.5)
    layers = [
        {name for name in found.large if f"blocks.{i}." in name or f"conditioners.{i}." in name}
        for i in range(CONFIG["video_dit"]["num_layers"])
    ]
    for part in (".blocks.0.ffn", ".audio_dit.blocks.0.ffn", ".audio_to_video_", ".video_to_audio_"):
        assert any(part in name for name in layers[0])
    others = found.large.difference(*layers)
    assert any("text_embedding" in name for name in others)
    for _, fetched in found.forwards:
        assert [set(names) for how, names in fetched if how == "ahead"] == layers
        alone = [name for how, names in fetched if how == "alone" for name in names]
        assert sorted(alone) == sorted(others)


def test_with_memory_for_half_an_expert_the_rest_is_streamed_in_each_step(device):
    run(device, 2.5)
    found = run(device, 0.5)
    assert found.numbers["taken"] <= 0.5 * found.numbers["size"]
    assert found.numbers["streamed_at_once"] < 0.25 * found.numbers["size"]  # one of the golden model's layers
    for start in (0, STEPS["high"]):
        first, second = found.states(start), found.states(start + 1)
        assert set(first.values()) == {"loaded", "streamed"} and set(second.values()) == {"there", "streamed"}
        assert {n for n, state in first.items() if state == "loaded"} == {n for n in second if second[n] == "there"}


def test_with_memory_for_more_than_one_expert_each_is_loaded_once(device):
    run(device, 2.5)
    found = run(device, 1.5)
    for i, (_, fetched) in enumerate(found.forwards):
        assert {state for _, names in fetched for state in names.values()} == {"there" if i % 2 else "loaded"}
    assert found.numbers["taken"] <= 1.5 * found.numbers["size"]


def test_with_memory_for_both_experts_nothing_is_loaded_again(device):
    run(device, 2.5)
    found = run(device, 2.5)
    for i in range(len(found.forwards)):
        assert set(found.states(i).values()) == {"there"}


def test_a_lora_is_applied_to_weights_as_they_come(device, server, files):
    layers = "blocks.0.ffn.0", "audio_dit.blocks.0.ffn.0", "dual_tower_bridge.audio_to_video_conditioners.0.inner.q"
    shapes = joint_model(KIND, "video_dit").state_dict()
    halves = {}
    for layer in layers:
        out, into = shapes[f"{layer}.weight"].shape
        halves[f"diffusion_model.{layer}.lora_up.weight"] = numbers(f"up {layer}", out, 4)
        halves[f"diffusion_model.{layer}.lora_down.weight"] = numbers(f"down {layer}", 4, into) / 16
    for base in (device.base, server.base):
        (base / "models/loras").mkdir(exist_ok=True)
        save_file(halves, base / "models/loras/dynamic.safetensors")
    wanted = run(server, lora="dynamic.safetensors")
    assert differ(wanted, run(server)) > 1e-3
    for experts in (0.5, 1.5):
        assert differ(run(device, experts, lora="dynamic.safetensors").made, wanted) < 1e-5
    assert differ(run(device, 1.5).made, run(server)) < 1e-5  # and is gone without it
    steps = {"audio_steps": 2, "cfg": 1.0}
    wanted = run(server, lora="dynamic.safetensors", taught=True, **steps)
    assert differ(run(device, 0.5, lora="dynamic.safetensors", taught=True, **steps).made, wanted) < 1e-5
    assert differ(wanted, run(server, lora="dynamic.safetensors", **steps)) > 1e-4


def test_a_released_folder_s_weights_are_read_from_their_files_as_a_single_file_s_are(device):
    device.post("/free", {"unload_models": True, "free_memory": True})  # what other tests have left there
    from_files, from_folder = (run(device, 0.5, files).numbers["bytes_from_files"] for files in (FILES, FOLDER))
    assert from_folder == from_files > 0


def test_training_sees_the_same_weights_wherever_a_run_has_left_them(device):
    """On the device, in RAM or in both: a run that was stopped is known again, and trains on the file's numbers."""
    seen = []
    for sampled in (False, True):
        graph = Graph()
        loader = graph.add("MOVAModelLoader", **FILES)
        after = {}
        if sampled:
            watch = graph.add("DynamicWatch", high=ref(loader), low=ref(loader, 1), experts=1.5)
            given = graph.add("ProbeGiven", **GIVEN)
            after = {"after": ref(graph.joint(ref(watch), given, model_low=ref(watch, 1), steps=4))}
        node = graph.add("ProbeTrainable", high=ref(loader), low=ref(loader, 1), **after)
        seen.append(ran(device, graph).outputs[node])
    fresh, used = seen
    assert used["devices"] != fresh["devices"] == ["cpu"]
    assert used["key"] == fresh["key"] and used["total"] == fresh["total"]
