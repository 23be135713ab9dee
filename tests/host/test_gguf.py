"""GGUF files of ours in the community's loader (ComfyUI-GGUF), on a server of their own that has that pack.

The pack is looked for in $COMFYUI_GGUF_PATH, in the custom_nodes of the ComfyUI under test, and where packs.py looks;
without it these tests are skipped, and the summary says so.
"""

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from bring_packs import find_pack
from client import Server, ran, refusal
from gguf_files import write_gguf
from golden import error, joint_inputs
from graphs import CONFIG, GIVEN, KIND, Graph, golden_model, numbers, ref
from round_trip import Clip, apart, check_clip, convert_and_make_clip, converted
from safetensors.torch import save_file
from slow import few

from mova.checkpoint.formats import GGUF
from mova.checkpoint.weights import open_weights

HERE = Path(__file__).parent
LORA = "gguf.safetensors"
TYPES = tuple(GGUF)
# About twice the distances of the clips' latents that were measured: at most 0 in bf16, 0.0053 in q8_0, 0.052 in q5_1,
# 0.046 in q5_0, 0.081 in q4_1 and 0.088 in q4_0.
NEAR = {
    "gguf_bf16": 1e-5,
    "gguf_q8_0": 0.01,
    "gguf_q5_1": 0.1,
    "gguf_q5_0": 0.1,
    "gguf_q4_1": 0.16,
    "gguf_q4_0": 0.18,
}


@pytest.fixture(scope="module")
def pack(host_place) -> Path:
    comfyui, python = host_place
    name, given = "ComfyUI-GGUF", os.environ.get("COMFYUI_GGUF_PATH")
    inside = comfyui / "custom_nodes" / name
    folder = Path(given).expanduser() if given else inside if inside.is_dir() else find_pack(name) or inside
    lacking = "" if (folder / "nodes.py").is_file() else f"no ComfyUI-GGUF in {folder}: set COMFYUI_GGUF_PATH"
    if not lacking and subprocess.run([python, "-c", "import gguf"], capture_output=True).returncode:
        lacking = f"{python} lacks the package gguf, which ComfyUI-GGUF needs"
    if lacking:
        warnings.warn(f"GGUF NOT TESTED ON COMFYUI: {lacking}", stacklevel=1)
        pytest.skip(f"GGUF NOT TESTED ON COMFYUI: {lacking}")
    return folder


@pytest.fixture(scope="module")
def gguf_server(host_place, pack, tmp_path_factory):
    comfyui, python = host_place
    server = Server(comfyui, python, tmp_path_factory.mktemp("comfyui_gguf"))
    for name, folder in (("comfyui-mova", HERE.parents[1]), ("probe", HERE / "probe"), ("ComfyUI-GGUF", pack)):
        server.add_pack(name, folder)
    write_models(server.base / "models")
    save_file(joint_inputs(KIND), server.base / "input" / GIVEN["file"])
    server.start()
    yield server
    server.stop()


def write_models(models: Path) -> None:
    """Both golden experts in each type, the high one also with the numbers that the GGUF file stands for; a LoRA."""
    import gguf

    folder = models / "diffusion_models"
    for name in ("high", "low"):
        source = models / f"{name}.safetensors"  # outside the folders that the host lists
        # In bf16, as released: what the file leaves unquantised is then in bf16, too.
        save_file({key: value.bfloat16() for key, value in golden_model(name).state_dict().items()}, source)
        weights = open_weights(source)
        metadata = {"config": json.dumps({"transformer": {**CONFIG, "expert": f"{name}_noise"}})}
        for type_name in TYPES if name == "high" else ("gguf_q8_0",):
            path = folder / file_name(type_name, name)
            write_gguf(path, weights, metadata, type_name)
            state = {
                tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()).reshape(
                    weights.tensors[tensor.name].shape
                )
                for tensor in gguf.GGUFReader(path).tensors
            }
            save_file(state, folder / f"{path.stem}.safetensors", metadata)
    lora = {}
    for layer in ("blocks.0.cross_attn.v", "blocks.1.ffn.0", "audio_dit.blocks.0.self_attn.q"):
        high, wide = golden_model("high").state_dict()[f"{layer}.weight"].shape
        lora[f"diffusion_model.{layer}.lora_A.weight"] = numbers(f"{layer}a", 4, wide) / wide**0.5
        lora[f"diffusion_model.{layer}.lora_B.weight"] = numbers(f"{layer}b", high, 4) / 2
    (models / "loras").mkdir(exist_ok=True)
    save_file(lora, models / "loras" / LORA)


def file_name(type_name: str, expert: str = "high") -> str:
    return f"mova_{expert}_{GGUF[type_name].type_name}.gguf"


def add_gguf(graph: Graph, name: str, exact: bool) -> list:
    """A model by the pack's loaders. By itself it dequantises in float16; `exact`: in float32."""
    settings = {"dequant_dtype": "float32", "patch_dtype": "float32", "patch_on_device": False}
    return ref(graph.add("UnetLoaderGGUFAdvanced" if exact else "UnetLoaderGGUF", unet_name=name, **settings))


def add_plain(graph: Graph, name: str) -> list:
    return graph.model(name.removesuffix(".gguf"))


def sampled(server: Server, add, type_name: str, lora: bool = False, **settings) -> list[dict[str, torch.Tensor]]:
    """What KSampler and MOVAJointSampler make with the high-noise expert."""
    graph = Graph()
    model = add(graph, file_name(type_name), **settings)
    if lora:
        model = ref(graph.add("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=1.0))
    given = graph.add("ProbeGiven", **GIVEN)
    saved = [graph.save(ref(graph.ksampler(model, given)), "k.safetensors")]
    saved.append(graph.save(ref(graph.joint(model, given)), "j.safetensors"))
    about = graph.add("ProbeAbout", model=model)
    result = ran(server, graph)
    assert result.outputs[about]["about"][0]["family"] == "MOVA"
    return [server.tensors(result, node) for node in saved]


def furthest(found: list[dict[str, torch.Tensor]], wanted: list[dict[str, torch.Tensor]]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(error(one[name], other[name]) for one, other in pairs for name in ("video", "audio"))


@pytest.mark.parametrize("type_name", few(TYPES, "gguf_q8_0", "gguf_q4_0"))
def test_a_gguf_file_samples_like_the_weights_it_stands_for(gguf_server, type_name):
    wanted = sampled(gguf_server, add_plain, type_name)
    # The same numbers in float32, multiplied by the same layers: what could be left is the order of sums.
    assert furthest(sampled(gguf_server, add_gguf, type_name, exact=True), wanted) < 1e-5
    # In float16 a weight is off by up to 2^-11 (5e-4) of itself, in all layers; steps and guidance add to that.
    assert furthest(sampled(gguf_server, add_gguf, type_name, exact=False), wanted) < 5e-3


def test_fewer_bits_are_further_from_the_original(gguf_server):
    original = sampled(gguf_server, add_plain, "gguf_bf16")
    away = [
        furthest(sampled(gguf_server, add_plain, kind), original) for kind in ("gguf_q8_0", "gguf_q5_1", "gguf_q4_0")
    ]
    assert 1e-5 < away[0] < away[1] < away[2] < 1


@pytest.mark.parametrize("type_name", ["gguf_q8_0", "gguf_q4_0", "gguf_bf16"])
def test_a_lora_works_on_a_gguf_file(gguf_server, type_name):
    wanted = sampled(gguf_server, add_plain, type_name, lora=True)
    assert furthest(sampled(gguf_server, add_gguf, type_name, lora=True, exact=True), wanted) < 1e-4
    assert furthest(wanted, sampled(gguf_server, add_plain, type_name)) > 1e-3


def test_two_gguf_files_make_one_clip(gguf_server):
    results = []
    for add in (lambda graph, name: add_gguf(graph, name, exact=True), add_plain):
        graph = Graph()
        high, low = (add(graph, file_name("gguf_q8_0", name)) for name in ("high", "low"))
        given = graph.add("ProbeGiven", **GIVEN)
        saved = graph.save(ref(graph.joint(high, given, model_low=low, boundary=0.8)))
        result = ran(gguf_server, graph)
        results.append([gguf_server.tensors(result, saved)])
    assert furthest(*results) < 1e-5


@pytest.mark.parametrize("type_name", ["gguf_q8_0", "gguf_q4_1", "gguf_bf16"])
def test_nan_in_a_gguf_file_is_told_by_the_layer(gguf_server, type_name):
    import gguf

    layer = "blocks.0.self_attn.q.weight"
    folder = gguf_server.base / "models/diffusion_models"
    path = folder / f"nan_{type_name}.gguf"
    shutil.copy(folder / file_name(type_name), path)
    (tensor,) = (one for one in gguf.GGUFReader(path).tensors if one.name == layer)
    with path.open("r+b") as file:  # a block begins with its scale, in fp16
        file.seek(tensor.data_offset)
        file.write(b"\xff\x7f")
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    graph.save(ref(graph.joint(add_gguf(graph, path.name, exact=True), given)))
    message = refusal(gguf_server, graph)
    assert "made NaN or infinite values in step 1 of its 4" in message
    assert f"its weights hold them ('{layer}')" in message


@pytest.fixture(scope="module")
def exact(gguf_server, tiny_checkpoint) -> Clip:
    """The clip of the release's own numbers."""
    return convert_and_make_clip(gguf_server, tiny_checkpoint, "fp32")


@pytest.mark.parametrize("type_name", few(TYPES, "gguf_q8_0"))
def test_converted_gguf_files_make_about_the_clip_of_the_release(gguf_server, tiny_checkpoint, exact, type_name):
    import gguf

    for path in converted(gguf_server, tiny_checkpoint, type_name)[:2]:
        stored = [tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors]
        assert stored.count(GGUF[type_name].type_name) > 30
    clip = convert_and_make_clip(
        gguf_server, tiny_checkpoint, type_name, lambda graph, name: add_gguf(graph, name, exact=False)
    )
    check_clip(clip)
    assert all(distance < NEAR[type_name] for distance in apart(clip, exact).values()), apart(clip, exact)


def test_training_on_gguf_is_refused_before_anything_is_loaded(gguf_server):
    graph = Graph()
    model = add_gguf(graph, file_name("gguf_q8_0"), exact=True)
    settings = {"folder": "none", "lora_name": "x", "steps": 2, "rank": 2, "alpha": 2.0, "lr": 1e-3, "seed": 0}
    graph.add("MOVATrainLoRA", model_high=model, **settings)
    assert "load the safetensors file" in refusal(gguf_server, graph).lower()
