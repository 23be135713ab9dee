"""The text encoder and its tokenizer, converted, are read by ComfyUI as what they are."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from slow import slow

from mova.convert.parts import plan_folder
from mova.convert.run import convert
from mova.convert.safetensors_writer import layout
from mova.model import text
from mova.tools.tiny import write_json

HERE = Path(__file__).parent
UMT5_XXL = {"d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 256384}


def run_in_comfyui(host_place, tmp_path, code: str, *arguments: object) -> str:
    """Run code in ComfyUI's Python, with ComfyUI importable; what it prints last."""
    comfyui, python = host_place
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(comfyui)!r})\nARGUMENTS, sys.argv = sys.argv[1:], ['x', '--cpu']\n"
        f"import comfy.options\ncomfy.options.enable_args_parsing()\n{code}"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, str(HERE / "launch.py"), str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def released_text_encoder(root: Path, values: Callable[[str, torch.Size], torch.Tensor] | None = None) -> None:
    """A text encoder of the released size in bf16; without `values` it is not on disk, and reads as zeros."""
    write_json(root / "text_encoder" / "config.json", UMT5_XXL)
    shapes = {name: torch.Size(shape) for name, shape in text.expected_tensors(root, UMT5_XXL).items()}
    del shapes["encoder.embed_tokens.weight"]
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (at, at + 2 * shape.numel())}
        at += 2 * shape.numel()
    body = json.dumps(header).encode()
    with open(root / "text_encoder" / "model.safetensors", "wb") as file:
        file.write(len(body).to_bytes(8, "little") + body)
        if values is None:
            file.truncate(8 + len(body) + at)
        else:
            for name, shape in shapes.items():
                file.write(values(name, shape).bfloat16().view(torch.uint8).numpy().data)
    (root / "tokenizer").mkdir()
    (root / "tokenizer" / "spiece.model").write_bytes(b"\n" + bytes(100))


def test_comfyui_knows_the_released_text_encoder_by_its_names(host_place, tmp_path):
    released_text_encoder(tmp_path / "MOVA")
    (target,) = plan_folder(tmp_path / "MOVA", "x", {"text_encoder": "bf16"}, ["text_encoder"])
    shapes = {name: info.shape for name, info in layout(target).items()}
    assert shapes.pop("spiece_model") == (101,)
    (tmp_path / "shapes.json").write_text(json.dumps(shapes))
    code = """
import json, torch
import comfy.sd, comfy.ops, comfy.text_encoders.t5
from comfy.text_encoders import wan
shapes = json.load(open(ARGUMENTS[0]))
state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
assert comfy.sd.detect_te_model(state) == comfy.sd.TEModel.T5_XXL
config = json.load(open(wan.__file__.replace("wan.py", "umt5_config_xxl.json")))
model = comfy.text_encoders.t5.T5(config, torch.bfloat16, "meta", comfy.ops.disable_weight_init)
print({name: list(tensor.shape) for name, tensor in model.state_dict().items()} == shapes)
"""
    assert run_in_comfyui(host_place, tmp_path, code, tmp_path / "shapes.json") == "True"


# A small sentencepiece model, with UMT5's special tokens.
TRAIN = """
import io, sentencepiece
model = io.BytesIO()
words = ["a red rocket lifts off", "the woman says it is going to rain", "火箭 升空 了"] * 50
sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(words), model_writer=model, vocab_size=60,
    hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
open(ARGUMENTS[0], "wb").write(model.getvalue())
print("trained")
"""


def test_comfyui_reads_the_tokenizer_out_of_the_file(host_place, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    assert run_in_comfyui(host_place, tmp_path, TRAIN, folder / "tokenizer" / "spiece.model") == "trained"
    (file,) = convert(folder, tmp_path / "models", parts=["text_encoder"])
    read = """
import sentencepiece
import comfy.utils
from comfy.text_encoders.wan import WanT5Tokenizer
state = comfy.utils.load_torch_file(ARGUMENTS[0], safe_load=True)
tokenizer = WanT5Tokenizer(tokenizer_data={"spiece_model": state["spiece_model"]})
(tokens,) = tokenizer.tokenize_with_weights("the rocket is red")["umt5xxl"]
found = [int(token) for token, _ in tokens]
wanted = sentencepiece.SentencePieceProcessor(model_file=ARGUMENTS[1]).encode("the rocket is red", add_eos=True)
assert len(wanted) > 4
print(found == wanted + [0] * (512 - len(wanted)))
"""
    assert run_in_comfyui(host_place, tmp_path, read, file.path, folder / "tokenizer" / "spiece.model") == "True"


@slow("minutes and 24 GB of disk")
def test_the_text_encoder_gives_the_features_that_transformers_gives(host_place, tmp_path):
    """At the released size, the only one that ComfyUI knows, with random weights in bf16, computed in float32."""
    root, out = tmp_path / "MOVA", tmp_path / "features.safetensors"
    released_text_encoder(root, noise())
    assert run_in_comfyui(host_place, tmp_path, TRAIN, root / "tokenizer" / "spiece.model") == "trained"
    (file,) = convert(root, tmp_path / "models", parts=["text_encoder"])
    code = """
import torch
import comfy.sd
from safetensors.torch import save_file
clip = comfy.sd.load_clip([ARGUMENTS[0]], clip_type=comfy.sd.CLIPType.WAN)
tokens = clip.tokenize("the rocket is red")
features = clip.encode_from_tokens(tokens)
ids = torch.tensor([[int(token) for token, _ in tokens["umt5xxl"][0]]])
save_file({"tokens": ids, "features": features.float().contiguous()}, ARGUMENTS[1])
print("encoded")
"""
    assert run_in_comfyui(host_place, tmp_path, code, file.path, out) == "encoded"
    file.path.unlink()
    given = load_file(out)
    wanted = streamed_features(root / "text_encoder" / "model.safetensors", given["tokens"])
    shutil.rmtree(root, ignore_errors=True)  # 11 GB, which pytest would keep
    found = given["features"]
    assert found.shape == wanted.shape == (1, 512, 4096)
    error = float((found - wanted).norm() / wanted.norm())
    print(f"relative difference {error:.1e}, largest value {float(wanted.abs().max()):.2f}")
    assert float(wanted.abs().max()) > 0.1 and error < 1e-4


def noise() -> Callable[[str, torch.Size], torch.Tensor]:
    """Random weights of T5's initial sizes, which keep activations near 1; from one stretch of numbers, for speed."""
    numbers = torch.randn(15_485_863, generator=torch.Generator().manual_seed(0))  # a prime: no row repeats another
    at = 0

    def values(name: str, shape: torch.Size) -> torch.Tensor:
        nonlocal at
        at = (at + 1_299_709) % len(numbers)
        count = shape.numel()
        found = numbers.roll(at).bfloat16().repeat(-(-count // len(numbers)))[:count]
        if "layer_norm" in name:
            return found * 0.1 + 1
        if name == "shared.weight" or "relative_attention_bias" in name:
            return found
        return found * (shape[1] * (UMT5_XXL["d_kv"] if name.endswith("q.weight") else 1)) ** -0.5

    return values


@torch.no_grad()
def streamed_features(weights: Path, tokens: torch.Tensor) -> torch.Tensor:
    """What transformers makes of the tokens in float32; only one block is in float32 at a time."""
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(**UMT5_XXL)).eval()
    state = load_file(weights)  # mapped
    encoder.load_state_dict(state | {"encoder.embed_tokens.weight": state["shared.weight"]}, assign=True)

    def grow(block, *_):
        for parameter in block.parameters():
            parameter.stored, parameter.data = parameter.data, parameter.data.float()

    def shrink(block, *_):
        for parameter in block.parameters():
            parameter.data = parameter.stored

    for block in encoder.encoder.block:
        block.register_forward_pre_hook(grow)
        block.register_forward_hook(shrink)
    encoder.encoder.final_layer_norm.float()
    embedded = torch.nn.functional.embedding(tokens, state["shared.weight"]).float()
    mask = (tokens != 0).long()
    found = encoder.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
    return found * mask[:, :, None]
