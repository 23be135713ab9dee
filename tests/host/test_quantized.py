"""Quantised expert files on ComfyUI: loaded by its own nodes, held as they are, and equal to what we say they hold."""

import json
import subprocess

import pytest
import torch
from client import made
from golden import joint_model
from graphs import CONFIG, EXPERTS, GIVEN, KIND, Graph, numbers, ref
from safetensors.torch import load_file, save_file
from slow import few

from mova.checkpoint import quantize
from mova.checkpoint.formats import QUANTISED

# On a CPU the host expands the weights and computes in float32, as the model with decoded weights does. In int8 it also
# rounds each layer's inputs, to 1/127 of the largest in a token, on a CPU too.
TOLERANCE = {"fp8_e4m3_scaled": 1e-4, "mxfp8": 1e-4, "nvfp4": 1e-4, "int8": 0.1}
PARTS = ("high_noise", "low_noise")
LORA = (("A", (4, 256)), ("B", (384, 4)))


@pytest.fixture(scope="module")
def written(server, files):
    """For each format, both experts quantised, and the high one decoded again."""
    folder = files / "models/diffusion_models"
    for format_name in QUANTISED:
        for name, expert in EXPERTS.items():
            part = f"{name}_noise"
            state = joint_model(KIND, expert).state_dict()
            stored: dict[str, torch.Tensor] = {}
            for key, tensor in state.items():
                stored |= quantize.encode(format_name, key, tensor, part)
            config = {"config": json.dumps({"transformer": {**CONFIG, "expert": part}})}
            shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
            metadata = config | quantize.metadata(format_name, shapes, part)
            save_file(stored, folder / f"{format_name}_{name}.safetensors", metadata)
            if name == "high":
                bare = {key: value for key, value in metadata.items() if key != "config"}
                save_file(stored, folder / f"{format_name}_bare.safetensors", bare)
                save_file(stored, folder / f"{format_name}_untold.safetensors", config)
                decoded = {key: quantize.decode(format_name, key, stored, part) for key in state}
                save_file(decoded, folder / f"{format_name}_decoded.safetensors", config)
    return folder


def known(host_place):
    """The formats of this host."""
    text = (host_place[0] / "comfy/quant_ops.py").read_text()
    return {name for name, chosen in QUANTISED.items() if f'"{chosen.host_name}"' in text}


@pytest.fixture(params=list(QUANTISED))
def format_name(request, host_place, written):
    return request.param


def apart(one, other):
    """The distance relative to the length, of the worse modality."""
    return max(float((one[n] - other[n]).norm() / other[n].norm()) for n in ("video", "audio"))


def test_the_core_loader_and_sampler_run_it_as_the_model_that_we_decode(server, host_place, format_name):
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model(f"{format_name}_high")
    node = graph.ksampler(model, given)
    if format_name not in known(host_place):
        graph.save(ref(node))
        fault = server.run(graph.nodes).error
        host_name = QUANTISED[format_name].host_name
        assert f"quantised as {host_name}, which this ComfyUI does not know; update" in fault and "\n" not in fault
        return
    plain = graph.ksampler(graph.model("mova_high"), given)
    decoded = graph.ksampler(graph.model(f"{format_name}_decoded"), given)
    found, wanted, exact = made(server, graph, node, decoded, plain)
    assert apart(found, wanted) < TOLERANCE[format_name]
    assert apart(found, exact) > 1e-3  # it is quantised


def test_our_loader_takes_it_as_it_is(server, host_place, written):
    """The same by both loaders, without a configuration, and whatever weight_dtype says."""
    for format_name in known(host_place):
        graph = Graph()
        given, core = graph.add("ProbeGiven", **GIVEN), graph.model(f"{format_name}_high")
        models = [core, graph.model(f"{format_name}_bare")]
        for weight_dtype in ("default", "fp8_e4m3fn"):
            names = {expert: f"{format_name}_{expert.removesuffix('_noise')}.safetensors" for expert in PARTS}
            models.append(ref(graph.add("MOVAModelLoader", **names, weight_dtype=weight_dtype)))
        wanted, *found = made(server, graph, *(graph.ksampler(model, given, steps=2) for model in models))
        assert [apart(one, wanted) for one in found] == [0.0, 0.0, 0.0], format_name


def test_both_experts_run_in_the_joint_sampler(server, host_place, written):
    for format_name in known(host_place):
        graph = Graph()
        given = graph.add("ProbeGiven", **GIVEN)
        names = {expert: f"{format_name}_{expert.removesuffix('_noise')}.safetensors" for expert in PARTS}
        loader = graph.add("MOVAModelLoader", **names, weight_dtype="default")
        joint = graph.joint(ref(loader), given, model_low=ref(loader, 1))
        plain = graph.joint(graph.model("mova_high"), given, model_low=graph.model("mova_low"))
        found, exact = made(server, graph, joint, plain)
        assert 1e-3 < apart(found, exact) < 0.3, format_name


def test_weights_stay_in_few_bits_in_memory(server, host_place, written):
    """What the core node ModelSave writes is what the loaded model holds."""
    for format_name in known(host_place):
        graph = Graph()
        graph.add("ModelSave", model=graph.model(f"{format_name}_high"), filename_prefix=f"held_{format_name}")
        assert server.run(graph.nodes).error is None
        (held,) = (server.base / "output").glob(f"held_{format_name}*.safetensors")
        held = {name.removeprefix("model.diffusion_model."): tensor for name, tensor in load_file(held).items()}
        given = load_file(written / f"{format_name}_high.safetensors")
        few = [name for name, tensor in given.items() if tensor.element_size() == 1 and name.endswith("weight")]
        assert len(few) > 30
        for name in few:
            assert held[name].dtype == given[name].dtype
            assert torch.equal(held[name].view(torch.uint8), given[name].view(torch.uint8))


def test_a_file_that_does_not_say_how_it_is_quantised_is_refused(server, host_place, written):
    for format_name in known(host_place):
        graph = Graph()
        graph.save(ref(graph.ksampler(graph.model(f"{format_name}_untold"), graph.add("ProbeGiven", **GIVEN))))
        fault = server.run(graph.nodes).error
        assert "does not say how" in fault and "is quantised" in fault and "\n" not in fault


def test_a_lora_on_quantised_weights_is_about_that_on_decoded_ones(server, host_place, written, files):
    """The host expands a layer, adds the LoRA, and rounds it again, at random on a CPU."""
    folder = files / "models/loras"
    folder.mkdir(exist_ok=True)
    lora = {f"diffusion_model.blocks.1.ffn.0.lora_{side}.weight": numbers(side, *shape) / 2 for side, shape in LORA}
    save_file(lora, folder / "quantised.safetensors")
    for format_name in known(host_place):
        graph = Graph()
        given, results = graph.add("ProbeGiven", **GIVEN), []
        for name in (f"{format_name}_high", f"{format_name}_decoded"):
            model = graph.model(name)
            with_lora = ref(
                graph.add("LoraLoaderModelOnly", model=model, lora_name="quantised.safetensors", strength_model=1.0)
            )
            results += [graph.ksampler(with_lora, given), graph.ksampler(model, given)]
        found, _, wanted, without = made(server, graph, *results)
        assert apart(found, wanted) < 0.5 * apart(without, wanted), format_name


QUANTISE = """
import sys

comfyui, source, out = sys.argv[1:4]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, comfyui)
import comfy.options

comfy.options.enable_args_parsing()
from comfy.quant_ops import QUANT_ALGOS, get_layout_class
from safetensors.torch import load_file, save_file

w, found = load_file(source)["w"], {}
for name, algorithm in QUANT_ALGOS.items():
    settings = {"scale": "recalculate"}
    if name == "int8_tensorwise":
        settings = {"per_channel": True, "convrot": True, "convrot_groupsize": 256}
    layout = get_layout_class(algorithm["comfy_tensor_layout"])
    if name in ("float8_e4m3fn", "mxfp8", "nvfp4", "int8_tensorwise"):
        stored, settings = layout.quantize(w, **settings)
        found |= {f"{name}{key}": t for key, t in layout.state_dict_tensors(stored, settings).items()}
        found[f"{name}_decoded"] = layout.dequantize(stored, settings)
save_file(found, out)
"""


def as_bytes(tensor):
    return tensor.flatten().view(torch.uint8)


def on_host(host_place, script, *arguments):
    """Run a script with ComfyUI's Python."""
    command = [host_place[1], "-c", script, *map(str, (host_place[0], *arguments))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("shape", few([(256, 512), (320, 768)], (320, 768)))
def test_weights_are_stored_bit_for_bit_as_the_host_s_own_quantiser_does(host_place, tmp_path, shape):
    w = numbers(f"quantise {shape}", *shape) ** 3 / 50
    w[5], w[:, 32:64], w[7, 7] = 0, 0, 40
    save_file({"w": w}, tmp_path / "w.safetensors")
    on_host(host_place, QUANTISE, tmp_path / "w.safetensors", tmp_path / "out.safetensors")
    host = load_file(tmp_path / "out.safetensors")
    for format_name in known(host_place):
        name = QUANTISED[format_name].host_name
        ours = quantize.encode(format_name, "blocks.0.ffn.0.weight", w, "high_noise")
        for key, tensor in ours.items():
            theirs = host[name + key.removeprefix("blocks.0.ffn.0.weight")]
            assert torch.equal(as_bytes(tensor), as_bytes(theirs)), key
        decoded = quantize.decode(format_name, "blocks.0.ffn.0.weight", ours, "high_noise")
        assert (decoded - host[f"{name}_decoded"]).abs().max() < 1e-6 * w.abs().max()  # rotating back sums in any order


ENCODE = """
import sys

comfyui, config, *files = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, comfyui)
import comfy.options

comfy.options.enable_args_parsing()
import comfy.sd1_clip, comfy.text_encoders.sd3_clip, comfy.text_encoders.t5, comfy.utils
import torch
from safetensors.torch import save_file

for file in files:  # as load_clip and wan.te do it, at another size
    state, metadata = comfy.utils.load_torch_file(file, safe_load=True, return_metadata=True)
    state, metadata = comfy.utils.convert_old_quants(state, model_prefix="", metadata=metadata)
    found = comfy.text_encoders.sd3_clip.t5_xxl_detect(state)
    options = {}
    if "t5_quantization_metadata" in found:
        options["quantization_metadata"] = found["t5_quantization_metadata"]
    model = comfy.sd1_clip.SDClipModel(
        textmodel_json_config=config, dtype=found["dtype_t5"], special_tokens={"end": 1, "pad": 0},
        model_class=comfy.text_encoders.t5.T5, model_options=options,
    )
    missing, unexpected = model.load_sd(state)
    assert not missing, missing
    q = model.transformer.encoder.block[0].layer[0].SelfAttention.q.weight
    print("quantised" if hasattr(q, "_qdata") else "plain", getattr(q, "_qdata", q).dtype)
    with torch.no_grad():
        out = model.transformer(torch.arange(20)[None], torch.ones(1, 20), dtype=torch.float32)[0]
    save_file({"out": out.float().contiguous()}, file + ".out")
"""


def test_a_quantised_text_encoder_is_read_as_such(host_place, tmp_path):
    from transformers import UMT5Config, UMT5EncoderModel

    sizes = {"d_model": 256, "d_ff": 512, "d_kv": 64, "num_heads": 4, "num_layers": 2, "vocab_size": 64}
    torch.manual_seed(0)
    encoder = UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu"))
    state = {n: t.bfloat16() for n, t in encoder.state_dict().items() if n != "encoder.embed_tokens.weight"}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    config = {**sizes, "model_type": "umt5", "dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    formats, files, kinds = sorted(known(host_place)), [], []
    for format_name in formats:
        stored: dict[str, torch.Tensor] = {}
        for name, tensor in state.items():
            stored |= quantize.encode(format_name, name, tensor, "text_encoder")
        files += [tmp_path / f"{format_name}.safetensors", tmp_path / f"{format_name}_decoded.safetensors"]
        save_file(stored, files[-2], quantize.metadata(format_name, shapes, "text_encoder"))
        decoded = {name: quantize.decode(format_name, name, stored, "text_encoder") for name in state}
        save_file(decoded, files[-1])
        q = stored["encoder.block.0.layer.0.SelfAttention.q.weight"]
        kinds += [f"quantised {q.dtype}", "plain torch.float32"]
    assert on_host(host_place, ENCODE, tmp_path / "config.json", *files).splitlines()[-len(kinds) :] == kinds
    outputs = [load_file(f"{file}.out")["out"] for file in files]
    for format_name, found, wanted in zip(formats, outputs[::2], outputs[1::2], strict=True):
        assert (found - wanted).norm() < 1e-2 * wanted.norm(), format_name
