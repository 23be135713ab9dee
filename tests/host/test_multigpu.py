"""ComfyUI's own MultiGPU nodes on our loaders' models: each device has a model of its own, made by our loader anew."""

import json
import re
from collections import Counter

import pytest
import torch
from client import ran
from golden import error, joint_model
from graphs import (
    AUDIO_CONFIG,
    CONFIG,
    EXPERTS,
    GIVEN,
    KIND,
    Graph,
    numbers,
    ref,
    released_audio_vae,
)
from inside import run_inside
from packs import pack_server
from safetensors.torch import save_file
from slow import few

from mova.checkpoint import quantize
from mova.tools.tiny import write_part

FILES = {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors", "weight_dtype": "default"}
FOLDER = {**FILES, "high_noise": "MOVA-golden", "low_noise": "MOVA-golden"}
FP8 = {**FILES, "weight_dtype": "fp8_e4m3fn"}
QUANTISED = {**FILES, "high_noise": "scaled_high.safetensors", "low_noise": "scaled_low.safetensors"}
STEPS, BOUNDARY = 4, 0.9  # two of the steps are the high-noise expert's
EVALUATION = re.compile(r"\[devices\] (\S+) evaluates (\d+) with (\d+)")


@pytest.fixture(scope="module")
def devices(host_place, tmp_path_factory):
    """A server with three devices, which keeps what its nodes have made.

    Where ComfyUI drops that, for lack of RAM, while a model on another device is still in use, its list of loaded
    models keeps an entry without one, and MultiGPU Work Units fails: docs/troubleshooting.md.
    """
    place = tmp_path_factory.mktemp("devices")
    with pack_server(host_place, place, own=["three_devices_pack.py"], arguments=["--cache-lru", "1000"]) as server:
        write_quantised(server.base / "models/diffusion_models")
        write_loras(server.base / "models/loras")
        yield server


def write_quantised(folder):
    for name, expert in EXPERTS.items():
        part, state = f"{name}_noise", joint_model(KIND, expert).state_dict()
        stored: dict[str, torch.Tensor] = {}
        for key, tensor in state.items():
            stored |= quantize.encode("fp8_e4m3_scaled", key, tensor, part)
        config = {"config": json.dumps({"transformer": {**CONFIG, "expert": part}})}
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        save_file(
            stored, folder / f"scaled_{name}.safetensors", config | quantize.metadata("fp8_e4m3_scaled", shapes, part)
        )


def write_loras(folder):
    folder.mkdir(parents=True, exist_ok=True)
    state = joint_model(KIND, "video_dit").state_dict()
    rows, columns = state["blocks.1.self_attn.q.weight"].shape
    layer = "diffusion_model.blocks.1.self_attn.q"
    lora = {f"{layer}.lora_A.weight": numbers("a", 4, columns) / 16, f"{layer}.lora_B.weight": numbers("b", rows, 4)}
    # The modulation is a parameter of a block itself: our loader changes it by another way than the host's patches.
    lora["diffusion_model.blocks.0.diff_m"] = numbers("m", *state["blocks.0.modulation"].shape)
    save_file(lora, folder / "lora.safetensors")


def split(graph, model, count=3):
    return ref(graph.add("MultiGPU_WorkUnits", model=model, max_gpus=count))


def unsplit(graph, model, count=3):
    return model


def run(server, graph, node):
    """What was made, and who evaluated: (device, batch, model) for each time."""
    saved = graph.save(ref(node))
    before = len(server.logged())
    result = ran(server, graph)
    return server.tensors(result, saved), EVALUATION.findall(server.logged()[before:])


def joint(server, through, files=FILES, loader=None, **settings):
    graph = Graph()
    node = graph.add("MOVAModelLoader", **files)
    high, low = ref(node), ref(node, 1)
    if loader == "MOVALoraLoader":
        strengths = {f"strength_{part}": 1.0 for part in ("video", "audio", "bridge")}
        node = graph.add(loader, model_high=high, model_low=low, lora_name="lora.safetensors", **strengths)
        high, low = ref(node), ref(node, 1)
    elif loader:
        name = {"lora_name": "lora.safetensors", "strength_model": 1.0}
        high, low = (ref(graph.add(loader, model=model, **name)) for model in (high, low))
    high, low = through(graph, high), through(graph, low)
    given = graph.add("ProbeGiven", **GIVEN)
    settings = {"steps": STEPS, "boundary": BOUNDARY, "bridge_cfg": 3.0, **settings}
    return run(server, graph, graph.joint(high, given, model_low=low, **settings))


def differ(one, other):
    return max(error(one[name], other[name]) for name in other)


CASES = {
    "files": (FILES, None),
    "released folder": (FOLDER, None),
    "stored in fp8": (FP8, None),
    "quantised": (QUANTISED, None),
    "our LoRA loader": (FILES, "MOVALoraLoader"),
    "the host's LoRA loader": (FILES, "LoraLoaderModelOnly"),
    "quantised, with a LoRA": (QUANTISED, "LoraLoaderModelOnly"),
}


@pytest.mark.parametrize("case", few(CASES, "files", "quantised, with a LoRA", "our LoRA loader"))
def test_the_three_evaluations_of_bridge_guidance_are_made_on_three_devices(devices, case):
    files, loader = CASES[case]
    wanted, alone = joint(devices, unsplit, files, loader)
    made, shared = joint(devices, split, files, loader)
    assert {device for device, _, _ in alone} == {"cpu"}
    counts = Counter((device, batch) for device, batch, _ in shared)
    assert counts == {(device, "1"): STEPS for device in ("cpu", "cpu:1", "cpu:2")}
    assert len({model for _, _, model in shared}) == 6  # of each expert one for each device
    assert differ(made, wanted) < 1e-5
    if loader:
        assert differ(made, joint(devices, unsplit, files)[0]) > 1e-3  # the LoRA does something


def test_the_tables_of_a_run_end_with_it_on_every_device(devices):
    before = len(devices.logged())
    joint(devices, split)
    kept = re.findall(r"models that keep their tables: (\d+)", devices.logged()[before:])
    assert kept and set(kept) == {"0"}, kept


def test_two_devices_share_ordinary_guidance_and_a_single_evaluation_stays_on_one(devices):
    wanted, _ = joint(devices, unsplit, bridge_cfg=1.0)
    made, shared = joint(devices, lambda graph, model: split(graph, model, 2), bridge_cfg=1.0)
    assert Counter(device for device, _, _ in shared) == {"cpu": STEPS, "cpu:1": STEPS}
    assert differ(made, wanted) < 1e-5
    _, shared = joint(devices, split, cfg=1.0, bridge_cfg=1.0)
    assert len(shared) == STEPS and len({device for device, _, _ in shared}) == 1


@pytest.mark.parametrize("loader", ["MOVAModelLoader", "UNETLoader"])
def test_a_model_runs_on_the_device_that_is_selected(devices, loader):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    model = ref(graph.add(loader, **FILES)) if loader == "MOVAModelLoader" else graph.model("mova_high")
    wanted, _ = run(devices, graph, graph.ksampler(model, given))
    del graph.nodes[max(graph.nodes, key=int)]
    moved = ref(graph.add("SelectModelDevice", model=model, device="gpu:2"))
    made, evaluations = run(devices, graph, graph.ksampler(moved, given))
    assert {device for device, _, _ in evaluations} == {"cpu:2"}
    assert differ(made, wanted) < 1e-5


STATIC = """
import comfy.model_patcher, folder_paths
from pack import nodes
from pack.nodes.loaders import MOVAModelLoader

nodes.load()
folder_paths.add_model_folder_path("diffusion_models", FOLDER)
high = MOVAModelLoader.execute("mova_high.safetensors", "none", "default")[0]
other = high.clone(force_deepcopy=True)  # with which the host asks for one without its dynamic VRAM
assert type(other) is comfy.model_patcher.ModelPatcher and other.model is not high.model
for one, same in zip(high.model.parameters(), other.model.parameters(), strict=True):
    assert torch.equal(one, same)
assert other.model.expert == "high_noise"
"""


def test_the_host_can_have_it_without_dynamic_vram_as_conditioning_hooks_need_it(host_place, tmp_path):
    config = json.dumps({"transformer": {**CONFIG, "expert": "high_noise"}})
    save_file(joint_model(KIND, "video_dit").state_dict(), tmp_path / "mova_high.safetensors", {"config": config})
    run_inside(host_place, f"FOLDER = {str(tmp_path)!r}\n" + STATIC)


AUDIO_VAE = """
from pathlib import Path
from pack.nodes.host.audio_vae import load

patcher = load(Path(FILE)).patcher
other = patcher.deepclone_multigpu(new_load_device=torch.device("cpu", 1))
assert other.load_device == torch.device("cpu", 1) and other.model is not patcher.model
for one, same in zip(patcher.model.parameters(), other.model.parameters(), strict=True):
    assert torch.equal(one, same)
"""


def test_the_audio_vae_can_be_made_anew_for_another_device(host_place, tmp_path):
    """As Select VAE Device does, which takes graphics cards only."""
    write_part(tmp_path / "audio_vae", AUDIO_CONFIG, released_audio_vae().state_dict())
    run_inside(host_place, f"FILE = {str(tmp_path / 'audio_vae')!r}\n" + AUDIO_VAE)


def test_the_pack_comfyui_multigpu_loads_mova_onto_the_device_that_is_chosen(host_place, tmp_path):
    from packs import pack_server

    with pack_server(host_place, tmp_path, "ComfyUI-MultiGPU") as server:
        graph = Graph()
        given = graph.add("ProbeGiven", **GIVEN)
        name = {"unet_name": "mova_high.safetensors", "weight_dtype": "default"}
        model = ref(graph.add("UNETLoaderMultiGPU", **name, device="cpu"))
        made, _ = run(server, graph, graph.ksampler(model, given))
        graph = Graph()
        given = graph.add("ProbeGiven", **GIVEN)
        wanted, _ = run(server, graph, graph.ksampler(graph.model("mova_high"), given))
        assert differ(made, wanted) < 1e-5
