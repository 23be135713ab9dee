"""Values of every kind through a link of the host's type "*", and what a link carries, in words."""

import math
from fractions import Fraction

import numpy as np
import torch

from .parts import Fresh, NestedTensor, Node


class Text(str):
    """A text that is more than one."""


def ragged():
    return NestedTensor([torch.zeros(1, 16, 3, 4, 6), torch.zeros(1, 128, 11)])


def fp8(nested):
    return NestedTensor([part.to(torch.float8_e4m3fn) for part in nested.unbind()])


OBJECTS = {
    "none": lambda: None,
    "nan": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "a number of 400 digits": lambda: 10**400,
    "minus a number of 400 digits": lambda: -(10**400),
    "2**64": lambda: 2**64,
    "a half": lambda: 0.5,
    "four in floating point": lambda: 4.0,
    "four of NumPy": lambda: np.float32(4),
    "four as a fraction": lambda: Fraction(4),
    "minus one": lambda: -1,
    "a million": lambda: 1_000_000,
    "true": lambda: True,
    "complex": lambda: 1j,
    "bytes": lambda: b"\0\xff",
    "an empty text": lambda: "",
    "a text": lambda: "a text",
    "a text of a subclass": lambda: Text("a text"),
    "a text of 100 kB": lambda: "x" * 100_000,
    "control characters": lambda: "a\x1b[31m\r\n\0\u2028\ud800",
    "a list": lambda: [1, 2],
    "an empty list": lambda: [],
    "a list of lists": lambda: [[[]]],
    "a dict": lambda: {"a": 1},
    "an empty dict": lambda: {},
    "a list in itself": lambda: (lambda loop: loop.append(loop) or loop)([]),
    "a class": lambda: Node,
    "an object": lambda: object(),
    "a function": lambda: len,
    "a tensor": lambda: torch.zeros(2),
    "a tensor of one": lambda: torch.tensor(3),
    "an empty tensor": lambda: torch.zeros(0),
    "a tensor of whole numbers": lambda: torch.ones(1, 32, 48, 3, dtype=torch.int64),
    "a tensor without memory": lambda: torch.zeros(1, 32, 48, 3, device="meta"),
    "a sparse tensor": lambda: torch.zeros(1, 32, 48, 3).to_sparse(),
    "complex numbers": lambda: torch.zeros(1, 32, 48, 3, dtype=torch.complex64),
    "a picture": lambda: torch.rand(1, 32, 48, 3),
    "a picture of NaN": lambda: torch.full((1, 32, 48, 3), math.nan),
    "a picture of infinity": lambda: torch.full((1, 32, 48, 3), math.inf),
    "a picture beyond 1": lambda: torch.full((1, 32, 48, 3), 1e30),
    "a picture of RGBA": lambda: torch.rand(1, 32, 48, 4),
    "a grey picture": lambda: torch.rand(1, 32, 48, 1),
    "a picture of two channels": lambda: torch.rand(1, 32, 48, 2),
    "a picture of fp16": lambda: torch.rand(1, 32, 48, 3).half(),
    "a picture of fp8": lambda: torch.rand(1, 32, 48, 3).to(torch.float8_e4m3fn),
    "no pictures": lambda: torch.rand(0, 32, 48, 3),
    "a picture without height": lambda: torch.rand(1, 0, 48, 3),
    "an odd picture": lambda: torch.rand(3, 31, 47, 3),
    "a mask": lambda: torch.rand(1, 32, 48),
    "a nested tensor": ragged,
    "an empty latent": lambda: {"samples": torch.zeros(0)},
    "a latent of None": lambda: {"samples": None},
    "a latent of a text": lambda: {"samples": "a text"},
    "a latent of a picture's": lambda: {"samples": torch.zeros(1, 4, 4, 6)},
    "a latent of video": lambda: {"samples": torch.zeros(1, 16, 3, 4, 6)},
    "a latent of sound": lambda: {"samples": torch.zeros(1, 128, 11)},
    "a latent of both": lambda: {"samples": ragged()},
    "a latent of NaN": lambda: {"samples": torch.full((1, 16, 3, 4, 6), math.nan)},
    "a latent of fp8": lambda: {"samples": fp8(ragged())},
    "a latent of video in fp8": lambda: {"samples": torch.zeros(1, 16, 3, 4, 6).to(torch.float8_e4m3fn)},
    "a latent of whole numbers": lambda: {"samples": torch.zeros(1, 16, 3, 4, 6, dtype=torch.int64)},
    "a latent of one": lambda: {"samples": NestedTensor([torch.zeros(1, 16, 3, 4, 6)])},
    "a latent of three": lambda: {"samples": NestedTensor([torch.zeros(1, 16, 3, 4, 6)] * 3)},
    "a latent with a mask of text": lambda: {"samples": ragged(), "noise_mask": "a text"},
    "a latent with a flat mask": lambda: {"samples": ragged(), "noise_mask": torch.ones(1, 1, 1, 1)},
    "a latent with an odd batch_index": lambda: {"samples": ragged(), "batch_index": "a text"},
    "a sound": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 48000},
    "a sound of None": lambda: {"waveform": None, "sample_rate": 48000},
    "a sound without a rate": lambda: {"waveform": torch.rand(1, 1, 4800)},
    "a sound without a waveform": lambda: {"sample_rate": 48000},
    "a sound of rate 0": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 0},
    "a sound of rate -1": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": -1},
    "a sound of rate NaN": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": math.nan},
    "a sound of rate 44101.5": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 44101.5},
    "a sound of a rate of text": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": "48000"},
    "a sound of a huge rate": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 10**400},
    "a sound of rate 1": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 1},
    "a sound of rate 2**31 - 1": lambda: {"waveform": torch.rand(1, 1, 4800), "sample_rate": 2**31 - 1},
    "a sound of NaN": lambda: {"waveform": torch.full((1, 1, 4800), math.nan), "sample_rate": 48000},
    "a sound of 2 axes": lambda: {"waveform": torch.rand(1, 4800), "sample_rate": 48000},
    "a sound of 7 channels": lambda: {"waveform": torch.rand(1, 7, 4800), "sample_rate": 48000},
    "a sound of 300 channels": lambda: {"waveform": torch.rand(1, 300, 4800), "sample_rate": 48000},
    "a sound of no channels": lambda: {"waveform": torch.rand(1, 0, 4800), "sample_rate": 48000},
    "no sound": lambda: {"waveform": torch.rand(1, 2, 0), "sample_rate": 48000},
    "a sound of whole numbers": lambda: {"waveform": torch.ones(1, 1, 4800, dtype=torch.int16), "sample_rate": 48000},
    "a sound of fp8": lambda: {"waveform": torch.rand(1, 1, 4800).to(torch.float8_e4m3fn), "sample_rate": 48000},
    "three sounds": lambda: {"waveform": torch.rand(3, 2, 4800), "sample_rate": 48000},
    "a conditioning": lambda: [[torch.zeros(1, 20, 4096), {}]],
    "no conditioning": lambda: [[None, {}]],
    "a conditioning of numbers": lambda: [[1, {"a": 2}]],
    "a conditioning of a text": lambda: [["a text", {}]],
    "a conditioning without entries": lambda: [[torch.zeros(1, 20, 4096), None]],
    "a conditioning of NaN": lambda: [[torch.full((1, 20, 4096), math.nan), {}]],
    "a conditioning of one axis": lambda: [[torch.zeros(4096), {}]],
    "a conditioning of no tokens": lambda: [[torch.zeros(1, 0, 4096), {}]],
    "a conditioning of a wrong width": lambda: [[torch.zeros(1, 20, 768), {}]],
    "a conditioning of whole numbers": lambda: [[torch.zeros(1, 20, 4096, dtype=torch.int64), {}]],
    "a conditioning of fp8": lambda: [[torch.zeros(1, 20, 4096).to(torch.float8_e4m3fn), {}]],
    "a conditioning with odd entries": lambda: [[torch.zeros(1, 20, 4096), {"frame_rate": "x", 3: object()}]],
    "a conditioning with a wrong picture": lambda: [
        [torch.zeros(1, 20, 4096), {"concat_latent_image": torch.zeros(1, 16, 9, 9, 9), "concat_mask": "x"}]
    ],
    "sigmas": lambda: torch.linspace(1, 0, 5),
    "sigmas of NaN": lambda: torch.full((5,), math.nan),
    "sigmas that rise": lambda: torch.linspace(0, 1, 5),
    "sigmas of two axes": lambda: torch.linspace(1, 0, 5)[None],
    "sigmas of whole numbers": lambda: torch.tensor([1, 0]),
    "sigmas of fp8": lambda: torch.linspace(1, 0, 5).to(torch.float8_e4m3fn),
    "sigmas in a list": lambda: [1.0, 0.5, 0.0],
    "one sigma": lambda: torch.zeros(1),
    "no sigmas": lambda: torch.zeros(0),
}


class Odd(Fresh):
    """One of these objects."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"what": (list(OBJECTS),)}}

    RETURN_TYPES = ("*",)

    def run(self, what):
        return (OBJECTS[what](),)


class Any(Node):
    """The same value, of any type to the host."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    RETURN_TYPES = ("*",)

    def run(self, value):
        return (value,)


class Witness(Fresh):
    """What a link carries; a fault in here is no fault of what is looked at."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, value):
        try:
            return {"ui": {"seen": [described(value)]}}
        except Exception as error:
            return {"ui": {"seen": [{"kind": type(value).__name__, "unseen": repr(error)[:200]}]}}


def described(value, depth=0):
    kind = type(value).__name__
    if isinstance(value, bool | int | float | str | None):
        return {"kind": kind, "value": repr(value)[:80]}
    if getattr(value, "is_nested", False) and not isinstance(value, torch.Tensor):
        return {"kind": kind, "parts": [described(part, depth + 1) for part in value.unbind()]}
    if isinstance(value, torch.Tensor):
        numbers = value.is_floating_point() and value.device.type != "meta" and not value.is_sparse
        return {"kind": kind, "shape": [*value.shape], "finite": not numbers or bool(value.float().isfinite().all())}
    if isinstance(value, dict) and depth < 3:
        return {"kind": kind, "entries": {str(key)[:80]: described(one, depth + 1) for key, one in value.items()}}
    if isinstance(value, list | tuple) and depth < 3:
        return {"kind": kind, "parts": [described(one, depth + 1) for one in value[:4]]}
    return {"kind": kind}
