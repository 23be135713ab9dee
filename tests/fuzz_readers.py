"""What may go into the readers of files from outside: any bytes give a value, or one sentence, soon.

Every target takes bytes and a folder to write in. The bytes are a file's content, or say how a good file is changed:
they can come from hypothesis (test_fuzz_readers.py) as well as from a fuzzer that follows coverage (fuzz_atheris.py).
"""

import copy
import dataclasses
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mova.checkpoint.gguf_file import read_gguf_header as read_gguf
from mova.checkpoint.guards import check_library_config
from mova.checkpoint.header import read_header
from mova.checkpoint.run_config import read_boundary, read_schedule
from mova.checkpoint.weights import open_weights, read_json
from mova.errors import MovaError
from mova.lora.reading import read_lora
from mova.model.audio_vae import AudioVAE
from mova.model.config import AudioVAEConfig, MovaConfig
from mova.model.joint import JointModel
from mova.model.shapes import expected_shapes
from mova.tools.tiny import AUDIO_VAE, CONFIG, TEXT_ENCODER

SECONDS = 2.0
# Strings that stand for JSON which json.dumps does not write.
RAW = {
    "@huge@": "1e400",
    "@deep@": "[" * 300 + "]" * 300,
    "@deeper@": "[" * 100_000,
    "@wide@": json.dumps([[[[[1] * 7] * 7] * 7] * 7] * 7),
    "@escape@": '"\\ud800\\u0000"',
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 10**9, 10**400, 0.5, -0.0, 1e308),
    *(5e-324, float("nan"), float("inf"), -float("inf"), "", "x", "é\u2028", "x\n\x1b[31m", "\0", "n" * 1000),
    *([], [1], [1, 2, 2], [True], [[1], [1]], [1] * 5000, {}, {"a": {"b": {}}}),
    *("1", "0", "BF16", "I64", "F8_E4M3", "F4", "..", "a/b.safetensors", "full", "dac"),
    *RAW,
]
ENTRIES = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [8, 12]},
}
HEADER = {"__metadata__": {"format": "pt", "config": "{}"}, **ENTRIES}
VARIANTS = {"has_image_input": False, "vae_type": "dac", "pooled_adaln": False}
PARTS = {name: {**part, **VARIANTS} for name, part in CONFIG.to_dict().items()}
SHARDS = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
SETTINGS = {"shift": 5.0, "sigma_min": 0.0, "num_train_timesteps": 1000, "extra_one_step": True, "boundary_ratio": 0.9}
LIBRARY = {**TEXT_ENCODER, "num_res_blocks": 2, "z_dim": 3, "latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}
LORA = [
    *("video_dit.blocks.0.self_attn.q.lora_A.default.weight", "video_dit.blocks.0.self_attn.q.lora_B.default.weight"),
    *("diffusion_model.blocks.0.ffn.0.lora_down.weight", "diffusion_model.blocks.0.ffn.0.lora_up.weight"),
    *("diffusion_model.blocks.0.ffn.0.alpha", "lora_unet_blocks_1_cross_attn_k.lora_down.weight"),
]
# Version 3, one tensor and two values: the architecture, and a boolean. The data begins at a multiple of 32.
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
GGUF += struct.pack("<Q20sIQ3s", 20, b"general.architecture", 8, 3, b"wan") + struct.pack("<Q1sI?", 1, b"n", 7, True)
GGUF += struct.pack("<Q1sIQIQ", 1, b"a", 1, 8, 0, 0)
GGUF += bytes(-len(GGUF) % 32) + bytes(32)


class Choices:
    """Decisions read from bytes; when they have run out, always the first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def below(self, n: int) -> int:
        taken = self.data[self.at : self.at + (1 if n <= 256 else 2)]
        self.at += len(taken)
        return int.from_bytes(taken, "little") % n

    def of(self, values: Any) -> Any:
        values = list(values)
        return values[self.below(len(values))]


def changed(value: Any, choices: Choices) -> Any:
    """A copy with up to four places changed: an odd value, one off, a name lost or gained."""
    value = [copy.deepcopy(value)]
    for _ in range(choices.below(5)):
        holder, key = value, 0
        while isinstance(holder[key], dict | list) and holder[key] and choices.below(4):
            holder = holder[key]
            key = choices.of(holder if isinstance(holder, dict) else range(len(holder)))
        how = choices.below(8)
        if how == 0 and isinstance(holder, dict):
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[str(choices.of(ODD))[:200]] = holder[key]
        elif how == 2 and type(holder[key]) is int:
            holder[key] += choices.of([1, -1, 4, -4, 8])
        else:
            holder[key] = copy.deepcopy(choices.of(ODD))
    return value[0]


def dumped(value: Any, choices: Choices) -> bytes:
    """As JSON, now and then with a name twice, a byte order mark, or another encoding."""
    text = json.dumps(value, ensure_ascii=bool(choices.below(2)))
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    how = choices.below(16)
    if how == 1 and text.startswith('{"'):
        text = text[:-1] + "," + text[1:]
    if how == 2:
        return text.encode("utf-16")
    return (b"\xef\xbb\xbf" if how == 3 else b"") + text.encode("utf-8", "replace")


def raw_header(data: bytes, folder: Path) -> None:
    read_header(written(folder / "w.safetensors", data))


def framed_header(data: bytes, folder: Path) -> None:
    read_header(written(folder / "w.safetensors", struct.pack("<Q", len(data)) + data))


def changed_header(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    text = dumped(changed(HEADER, choices), choices)
    length = choices.of([len(text), len(text), len(text), 0, 1, len(text) + 1, 2**63, 2**64 - 1])
    content = struct.pack("<Q", length) + text + bytes(choices.of([12, 12, 12, 0, 11, 13]))
    weights = open_weights(written(folder / "w.safetensors", content))
    for _ in weights.read(weights.tensors):
        pass


def raw_json(data: bytes, folder: Path) -> None:
    read_json(written(folder / "config.json", data))


def raw_metadata(data: bytes, folder: Path) -> None:
    MovaConfig.from_file({}, {"config": data.decode("utf-8", "replace")})


def model_config(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    parts = changed(PARTS, choices)
    values = dumped(choices.of([parts, {"transformer": parts}]), choices)
    config = MovaConfig.from_dict(read_json(written(folder / "config.json", values)))
    assert config == MovaConfig.from_file({}, {"config": values.decode("utf-8-sig")})
    JointModel(config, device="meta")


def audio_vae_config(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    values = dumped(changed({**dataclasses.asdict(AUDIO_VAE), "continuous": True}, choices), choices)
    AudioVAE(AudioVAEConfig.from_dict(read_json(written(folder / "config.json", values))), device="meta")


def model_shapes(data: bytes, folder: Path) -> None:
    shapes = changed(SHAPES, Choices(data))
    if isinstance(shapes, dict):
        header_like = {name: shape for name, shape in shapes.items() if isinstance(shape, list)}
        MovaConfig.from_shapes({n: s for n, s in header_like.items() if all(type(i) is int and i >= 0 for i in s)})


def index(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    for shard, name in zip(SHARDS, ENTRIES, strict=True):
        size = 8 if name == "a" else 4
        text = json.dumps({name: {**ENTRIES[name], "data_offsets": [0, size]}}).encode()
        written(folder / shard, struct.pack("<Q", len(text)) + text + bytes(size))
    values = {"metadata": {"total_size": 12}, "weight_map": dict(zip(ENTRIES, SHARDS, strict=True))}
    written(folder / "model.safetensors.index.json", dumped(changed(values, choices), choices))
    open_weights(folder)


def settings(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    path = written(folder / "scheduler_config.json", dumped(changed(SETTINGS, choices), choices))
    choices.of([read_schedule, read_boundary])(path)


def library_config(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    path = written(folder / "config.json", dumped(changed(LIBRARY, choices), choices))
    check_library_config(path, read_json(path))


def lora(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    header, at = {}, 0
    names = changed(LORA, choices)
    for name in names if isinstance(names, list) else []:
        shape = choices.of([[1, 1], [1], [], [0, 1], [1, 0]])
        size = 0 if 0 in shape else 4
        header[str(name)[:200]] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    read_lora(written(folder / "lora.safetensors", struct.pack("<Q", len(text)) + text + bytes(at)))


def changed_gguf(data: bytes, folder: Path) -> None:
    choices = Choices(data)
    content = bytearray(GGUF)
    for _ in range(choices.below(5)):
        content[choices.below(len(content))] = choices.below(256)
    read_gguf(written(folder / "w.gguf", bytes(content[: len(content) - choices.of([0, 0, 0, 1, 40, 100])])))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


SHAPES = {name: list(shape) for name, shape in expected_shapes(JointModel(CONFIG, device="meta")).items()}
TARGETS: list[Callable[[bytes, Path], None]] = [
    *(raw_header, framed_header, changed_header, raw_json, raw_metadata, model_config, audio_vae_config, model_shapes),
    *(index, settings, library_config, lora, changed_gguf),
]


def check(target: Callable[[bytes, Path], None], data: bytes, folder: Path) -> bool:
    """Whether the target took it. Raises AssertionError if it refused in more than a sentence, or took too long."""
    began = time.process_time()
    message = ""
    try:
        target(data, folder)
    except MovaError as error:
        message = str(error).replace(str(folder), "")
        assert message and message.isprintable() and len(message) < 600, f"{target.__name__}: {message!r}"
    seconds = time.process_time() - began
    assert seconds < SECONDS, f"{target.__name__} took {seconds:.1f} s"
    return not message
