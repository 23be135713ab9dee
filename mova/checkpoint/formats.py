"""Every format that weights are stored in: what --dtype can be, how a file in it is written, and how it is known again.

One table for conversion, `info`, the loaders and the command line: a new format is a line here, and its encoding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MovaError
from . import encodings
from .encodings import Parts, Shape, Sizes


@dataclass(frozen=True)
class Plain:
    """Floating tensors in one dtype."""

    dtype: torch.dtype
    stored: str  # safetensors' name of it


@dataclass(frozen=True)
class Quantised:
    """One way to store a matrix [rows, columns] in few bits, as ComfyUI does."""

    description: str
    since: str  # the first ComfyUI release that loads it
    host_name: str  # "format" in the file's _quantization_metadata
    sizes: Callable[[Shape], Sizes]
    encode: Callable[[Tensor], Parts]
    decode: Callable[[Parts], Tensor]
    divisors: Shape  # of rows and columns; other matrices stay as they are
    error: float  # largest error of one weight, as a part of the largest weight of the matrix
    settings: tuple[tuple[str, object], ...] = ()  # beside "format", in the file's metadata


@dataclass(frozen=True)
class Gguf:
    """A type of llama.cpp's. K-quants are not among them: the package reads them, but cannot make them."""

    type_name: str  # as it stands in such a file's name


PLAIN = {
    "bf16": Plain(torch.bfloat16, "BF16"),
    "fp16": Plain(torch.float16, "F16"),
    "fp32": Plain(torch.float32, "F32"),
}
QUANTISED = {
    "fp8_e4m3_scaled": Quantised(
        "8-bit floats with one scale a matrix: multiplied in fp8 from Ada on, else expanded layer by layer",
        "0.26.0",
        "float8_e4m3fn",
        encodings.fp8_sizes,
        encodings.fp8_encode,
        encodings.fp8_decode,
        divisors=(16, 16),  # of the fp8 matrix units
        error=16 / 448,
    ),
    "mxfp8": Quantised(
        "8-bit floats with a scale for each 32 weights: the closest; multiplied in fp8 from Blackwell on",
        "0.26.0",
        "mxfp8",
        encodings.mxfp8_sizes,
        encodings.mxfp8_encode,
        encodings.mxfp8_decode,
        divisors=(32, 32),
        error=1 / 16,
    ),
    "nvfp4": Quantised(
        "4-bit floats with a scale for each 16 weights: the smallest; multiplied in fp4 from Blackwell on",
        "0.26.0",
        "nvfp4",
        encodings.nvfp4_sizes,
        encodings.nvfp4_encode,
        encodings.nvfp4_decode,
        divisors=(16, 16),
        error=1.0625 / 6,
    ),
    "int8": Quantised(
        "8-bit integers on rotated inputs, one scale a row: multiplied in int8 from Turing on; ffn.2 is in fp8",
        "0.28.0",
        "int8_tensorwise",
        encodings.int8_sizes,
        encodings.int8_rotated_encode,
        encodings.int8_rotated_decode,
        divisors=(8, encodings.ROTATION),
        error=0.5 / 127 * encodings.ROTATION**0.5,
        settings=(("convrot", True), ("convrot_groupsize", encodings.ROTATION)),
    ),
}
GGUF = {f"gguf_{type_name.lower()}": Gguf(type_name) for type_name in ("BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")}
FORMATS: dict[str, Plain | Quantised | Gguf] = {**PLAIN, **QUANTISED, **GGUF}


def check_format(name: str) -> None:
    """Raise MovaError unless there is a format of that name."""
    if name not in FORMATS:
        raise MovaError(f"There is no format called {name!r}; choose one of {', '.join(FORMATS)}.")
