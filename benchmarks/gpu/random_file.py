"""An expert's file of random weights in fp8, as `convert` would write it, made in seconds."""

import json
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from mova import JointModel, MovaConfig
from mova.checkpoint import quantize
from mova.checkpoint.header import DTYPE_BITS

FORMAT, PART = "fp8_e4m3_scaled", "high_noise"
SPREAD = 64.0  # standard deviation of the fp8 numbers, whose largest is 448


def write(path: Path, config: MovaConfig) -> int:
    """Write the file and return its bytes. Tensors of one shape have the same numbers: they are read all the same."""
    shapes = {name: tuple(value.shape) for name, value in JointModel(config, device="meta").state_dict().items()}
    header: dict[str, object] = {
        "__metadata__": {
            "config": json.dumps({"transformer": config.to_dict()}),
            **quantize.metadata(FORMAT, shapes, PART),
        }
    }
    at, stored = 0, []
    for name, shape in shapes.items():
        for part, (dtype, size) in quantize.layout(FORMAT, name, shape, PART).items():
            end = at + math.prod(size) * DTYPE_BITS[dtype] // 8
            header[part] = {"dtype": dtype, "shape": size, "data_offsets": (at, end)}
            stored.append((part.removeprefix(name), name, dtype, shape))
            at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    made: dict[tuple, memoryview] = {}
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for suffix, name, dtype, shape in stored:
            key = suffix, is_norm(name), dtype, shape
            if key not in made:
                made[key] = random_tensor(*key).reshape(-1).view(torch.uint8).numpy().data
            file.write(made[key])
        return file.tell()


def is_norm(name: str) -> bool:
    return "norm" in name and name.endswith("weight")


def random_tensor(suffix: str, norm: bool, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers that keep the size of what passes."""
    if suffix:  # the scale of a matrix
        return torch.tensor([1 / (SPREAD * math.sqrt(shape[1]))])
    if dtype == "F8_E4M3":
        return torch.randn(shape).mul_(SPREAD).clamp_(-448, 448).to(torch.float8_e4m3fn)
    spread = 0.1 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:]))
    return torch.randn(shape).mul_(spread).add_(1.0 if norm else 0.0).bfloat16()
