"""Weights in few bits, as ComfyUI stores them: what each format makes of one matrix, and back.

Each encode gives bit for bit what ComfyUI's own quantiser (comfy_kitchen) gives for the same matrix in float32.
Each works on some rows at a time, so that beside a large matrix and its result there is little else in memory.
"""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

Shape = tuple[int, int]
Parts = dict[str, Tensor]  # what follows "weight" in a tensor's name ("", "_scale", ...) -> tensor
Sizes = dict[str, tuple[str, tuple[int, ...]]]  # the same -> (safetensors' name of the dtype, shape)

E4M3_MAX, E2M1_MAX, INT8_MAX = 448.0, 6.0, 127.0
E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MXFP8_BLOCK, NVFP4_BLOCK = 32, 16
ROTATION = 256  # inputs that are rotated together: the host's default
CHUNK = 1 << 18  # weights worked on at a time: 1 MiB in float32 stays in the processor's cache, several times as fast


def chunks(w: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a matrix, in float32; they may be the matrix itself, so they must not be written to."""
    step = max(1, CHUNK // w.shape[1])
    for start in range(0, len(w), step):
        rows = slice(start, start + step)
        yield rows, w[rows].float()


def absmax(w: Tensor) -> Tensor:
    """The largest absolute value, a float32 scalar."""
    low, high = w.aminmax()
    return torch.maximum(low.abs(), high.abs()).float()


def block_absmax(blocks: Tensor) -> Tensor:
    """The largest absolute value in each block, of float32 [..., block]."""
    # Without their signs, floats and their bits as integers have one order; torch finds the integers' maximum sooner.
    return blocks.abs().view(torch.int32).amax(dim=-1).view(torch.float32)


def swizzled(scales: Tensor) -> Tensor:
    """Scales of blocks [rows, blocks] in the order of NVIDIA's matrix units, padded to multiples of 128 and 4.

    See "1D Block Scaling Factors Layout" in the cuBLAS manual: tiles of 128 x 4, in each of which rows r, r + 32,
    r + 64, r + 96 lie side by side.
    """
    rows, blocks = scales.shape
    padded = torch.zeros(-(-rows // 128) * 128, -(-blocks // 4) * 4, dtype=torch.uint8)
    padded[:rows, :blocks] = scales.view(torch.uint8)
    tiles = rearrange(padded, "(R q s) (C c) -> R C s (q c)", q=4, s=32, c=4)
    return tiles.reshape(padded.shape).view(scales.dtype)


def unswizzled(scales: Tensor, rows: int, blocks: int) -> Tensor:
    """What swizzled was given."""
    tiles = scales.view(torch.uint8).reshape(scales.shape[0] // 128, scales.shape[1] // 4, 32, 16)
    return rearrange(tiles, "R C s (q c) -> (R q s) (C c)", q=4)[:rows, :blocks].view(scales.dtype)


def swizzled_shape(rows: int, blocks: int) -> Shape:
    return -(-rows // 128) * 128, -(-blocks // 4) * 4


def fp8_sizes(shape: Shape) -> Sizes:
    return {"": ("F8_E4M3", shape), "_scale": ("F32", ())}


def fp8_encode(w: Tensor) -> Parts:
    """One scale for the matrix."""
    scale = absmax(w) / E4M3_MAX
    factor = 1.0 / scale if scale > 0 else torch.zeros(())
    data = torch.empty(w.shape, dtype=torch.float8_e4m3fn)
    for rows, part in chunks(w):
        data[rows] = (part * factor).clamp_(-E4M3_MAX, E4M3_MAX).to(data.dtype)
    return {"": data, "_scale": scale}


def fp8_decode(parts: Parts) -> Tensor:
    return parts[""].float() * parts["_scale"]


def mxfp8_sizes(shape: Shape) -> Sizes:
    # The scales are E8M0, stored as bytes: ComfyUI's own reader of safetensors does not know that dtype.
    return {"": ("F8_E4M3", shape), "_scale": ("U8", swizzled_shape(shape[0], shape[1] // MXFP8_BLOCK))}


def mxfp8_encode(w: Tensor) -> Parts:
    """A power of two as the scale of each 32 weights of a row: a byte, 127 more than the exponent."""
    data = torch.empty(w.shape, dtype=torch.float8_e4m3fn)
    exponents = torch.empty(len(w), w.shape[1] // MXFP8_BLOCK, dtype=torch.uint8)
    for rows, part in chunks(w):
        blocks = part.unflatten(1, (-1, MXFP8_BLOCK))
        largest = block_absmax(blocks)
        exponent = (largest / E4M3_MAX).clamp(min=2.0**-127).log2().ceil().clamp(-127, 127)
        scaled = (blocks / exponent.exp2()[..., None]).clamp_(-E4M3_MAX, E4M3_MAX)
        data[rows] = scaled.flatten(1).to(data.dtype)
        exponents[rows] = (exponent + 127).masked_fill(largest == 0, 0).to(torch.uint8)
    return {"": data, "_scale": swizzled(exponents)}


def mxfp8_decode(parts: Parts) -> Tensor:
    blocks = parts[""].float().unflatten(1, (-1, MXFP8_BLOCK))
    exponents = unswizzled(parts["_scale"], *blocks.shape[:2]).float() - 127
    return (blocks * exponents.exp2()[..., None]).flatten(1)


def nvfp4_sizes(shape: Shape) -> Sizes:
    rows, columns = shape
    blocks = swizzled_shape(rows, columns // NVFP4_BLOCK)
    return {"": ("U8", (rows, columns // 2)), "_scale": ("F8_E4M3", blocks), "_scale_2": ("F32", ())}


def nvfp4_encode(w: Tensor) -> Parts:
    """Four bits (E2M1) a weight, two to a byte, the first in the upper half; an E4M3 scale for each 16 weights of a
    row, and one scale for the matrix.
    """
    whole = absmax(w) / (E4M3_MAX * E2M1_MAX)
    data = torch.empty(len(w), w.shape[1] // 2, dtype=torch.uint8)
    scales = torch.zeros(len(w), w.shape[1] // NVFP4_BLOCK, dtype=torch.float8_e4m3fn)
    for rows, part in chunks(w):
        blocks = part.unflatten(1, (-1, NVFP4_BLOCK))
        if whole > 0:
            scales[rows] = (block_absmax(blocks) / E2M1_MAX / whole).clamp(max=E4M3_MAX).to(scales.dtype)
        scale = (whole * scales[rows].float())[..., None]
        scaled = blocks / scale
        if not scale.all():
            scaled.masked_fill_(scale == 0, 0.0)
        codes = e2m1_codes(scaled).flatten(1)
        data[rows] = codes[:, ::2] << 4 | codes[:, 1::2]
    return {"": data, "_scale": swizzled(scales), "_scale_2": whole}


def e2m1_codes(x: Tensor) -> Tensor:
    """The nearest of the values of E2M1, halves to the even code: sign in the fourth bit.

    Codes 0 to 4 are 0.5 apart, 4 to 6 are 1 apart, 6 and 7 are 2 apart: where one of these three roundings does not
    hold, another gives less.
    """
    magnitude = x.abs()
    codes = torch.minimum((magnitude * 2).round_(), magnitude.round().add_(2))
    codes = torch.minimum(codes, magnitude.mul_(0.5).round_().add_(4)).clamp_(max=7)
    return codes.to(torch.uint8) | torch.signbit(x).to(torch.uint8) << 3


def nvfp4_decode(parts: Parts) -> Tensor:
    data = parts[""]
    values = torch.tensor([*E2M1_VALUES, *(-value for value in E2M1_VALUES)])
    codes = torch.stack([data >> 4, data & 15], dim=-1).flatten(1)
    blocks = values[codes.int()].unflatten(1, (-1, NVFP4_BLOCK))
    scales = unswizzled(parts["_scale"], *blocks.shape[:2]).float() * parts["_scale_2"]
    return (blocks * scales[..., None]).flatten(1)


def int8_sizes(shape: Shape) -> Sizes:
    return {"": ("I8", shape), "_scale": ("F32", (shape[0], 1))}


def int8_rotated_encode(w: Tensor) -> Parts:
    """Each 256 inputs rotated by a Hadamard matrix, as the host rotates the activations: no column stands out. Then
    one scale for each row (ConvRot, arXiv 2512.03673).
    """
    matrix = hadamard()
    data, scale = torch.empty(w.shape, dtype=torch.int8), torch.empty(len(w), 1)
    for rows, part in chunks(w):
        part = rotated(part, matrix)
        scale[rows] = (part.abs().amax(dim=1, keepdim=True) / INT8_MAX).clamp(min=1e-30)
        data[rows] = (part / scale[rows]).round_().clamp_(-128, 127).to(torch.int8)
    return {"": data, "_scale": scale}


def int8_decode(parts: Parts) -> Tensor:
    return parts[""].float() * parts["_scale"]


def int8_rotated_decode(parts: Parts) -> Tensor:
    return rotated(int8_decode(parts), hadamard())  # the matrix is symmetric and its own inverse


def hadamard() -> Tensor:
    """The regular Hadamard matrix of 256 inputs (all rows have the same sum), of length 1: its own inverse."""
    four = torch.ones(4, 4) - 2 * torch.eye(4).flip(0)
    matrix = four
    while len(matrix) < ROTATION:
        matrix = torch.kron(matrix, four)
    return matrix / ROTATION**0.5


def rotated(x: Tensor, matrix: Tensor) -> Tensor:
    # oneDNN would take half the time on AMD; this is ComfyUI's own product, and gives its very bits.
    return (x.unflatten(-1, (-1, len(matrix))) @ matrix.T).flatten(-2)
