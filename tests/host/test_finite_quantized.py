"""NaN in the scale of one quantised layer, in each format of this host: told in the first step, by the layer."""

import json

import torch
from bench import Bench
from client import refusal
from golden import joint_model
from graphs import CONFIG, KIND
from safetensors.torch import save_file

from mova.checkpoint import quantize
from mova.checkpoint.formats import QUANTISED

LAYER, PART = "blocks.0.self_attn.q.weight", "high_noise"


def write(folder, format_name):
    state = joint_model(KIND, "video_dit").state_dict()
    stored: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        stored |= quantize.encode(format_name, key, tensor, PART)
    scale = stored[f"{LAYER}_scale"]
    if scale.dtype == torch.uint8:  # exponents alone: all ones are NaN
        scale.view(-1)[0] = 255
    else:
        stored[f"{LAYER}_scale"] = torch.full_like(scale.float(), float("nan")).to(scale.dtype)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    config = {"config": json.dumps({"transformer": {**CONFIG, "expert": PART}})}
    save_file(stored, folder / f"nan_{format_name}.safetensors", config | quantize.metadata(format_name, shapes, PART))


def test_nan_in_a_layer_s_scale_is_told_by_the_layer(server, files, host_place):
    text = (host_place[0] / "comfy/quant_ops.py").read_text()
    known = [name for name, chosen in QUANTISED.items() if f'"{chosen.host_name}"' in text]
    assert known
    for format_name in known:
        write(files / "models/diffusion_models", format_name)
        bench = Bench(server)
        bench.save([bench.joint(bench.model(f"nan_{format_name}"), bench.given), 0])
        message = refusal(server, bench)
        assert "The high-noise expert made NaN or infinite values in step 1 of its 4" in message, format_name
        assert f"its weights hold them ('{LAYER}')" in message, (format_name, message)
