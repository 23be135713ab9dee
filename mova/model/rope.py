"""Rotary position tables, and what turns a head by them.

The towers turn adjacent pairs of a head (Wan's complex form); the bridge turns the pairs (i, i + d/2) (rotate_half).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

THETA = 10000.0


class Rotation(Protocol):
    """A rotary embedding of heads."""

    @property
    def table(self) -> Tensor:
        """Cosines and sines, float32 or as complex numbers."""
        ...

    @property
    def halves(self) -> bool:
        """Whether the pairs (i, i + d/2) are turned, and not (2 i, 2 i + 1)."""
        ...

    @property
    def repeats(self) -> int:
        """How many rows of the sequence have one row of the table."""
        ...

    def matrices(self, rows: slice, length: int) -> Tensor:
        """For some rows, so many, the matrices [1, length, 1, d / 2, 2, 2], float32, that ComfyUI's Wan has."""
        ...

    def __call__(self, x: Tensor, rows: slice) -> Tensor:
        """Some rows of x [B, R, heads, d], and which of the sequence they are -> the same, turned, float32."""
        ...


@dataclass(frozen=True, eq=False)
class TurnPairs:
    """Rotation of adjacent pairs by unit complex numbers [L, d / 2]."""

    table: Tensor
    halves = False
    repeats = 1

    def matrices(self, rows: slice, length: int) -> Tensor:
        return to_wan(self.table[rows])

    def __call__(self, x: Tensor, rows: slice) -> Tensor:
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.table[rows, None]).flatten(-2)

    def whole(self) -> "TurnPairs":
        return self


@dataclass(frozen=True, eq=False)
class TurnGrid:
    """TurnPairs of a grid's tokens, in row-major order: cos and sin [positions, pairs of a head, 2] of each axis.

    The whole table is as large as a hundredth of a token tensor, so it is there only during a layer's self-attention.
    """

    axes: tuple[Tensor, ...]

    @property
    def table(self) -> Tensor:
        """Unit complex numbers [tokens, d / 2]."""
        grid, spread = [len(axis) for axis in self.axes], []
        for i, axis in enumerate(self.axes):
            ones = [1] * len(grid)
            ones[i] = grid[i]
            spread.append(axis.view(*ones, -1, 2).expand(*grid, -1, 2))
        return torch.view_as_complex(torch.cat(spread, dim=-2).flatten(0, -3))

    def whole(self) -> TurnPairs:
        return TurnPairs(self.table)


Turn = TurnPairs | TurnGrid


def to_wan(table: Tensor) -> Tensor:
    """Unit complex numbers [L, d / 2] -> the matrices [1, L, 1, d / 2, 2, 2], float32, that ComfyUI's Wan has."""
    return as_matrices(table.real, table.imag)


def as_matrices(cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))[None, :, None]


def from_wan(freqs: Tensor) -> TurnPairs:
    """The rotation by matrices [1, L, 1, d / 2, 2, 2]."""
    return TurnPairs(torch.view_as_complex(freqs[0, :, 0, :, :, 0].float().contiguous()))


@dataclass(frozen=True, eq=False)
class TurnHalves:
    """Rotation of the pairs (i, i + d/2) by cos and sin [L / repeats, 2, d / 2], each for so many rows."""

    table: Tensor
    repeats: int = 1
    halves = True

    def cos_sin(self, start: int, length: int) -> tuple[Tensor, ...]:
        index = torch.arange(start, start + length, device=self.table.device) // self.repeats
        return self.table[index].unbind(1)

    def matrices(self, rows: slice, length: int) -> Tensor:
        return as_matrices(*self.cos_sin(rows.start, length))

    def __call__(self, x: Tensor, rows: slice) -> Tensor:
        cos, sin = (part[:, None] for part in self.cos_sin(rows.start, x.shape[1]))
        first, second = x.float().chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def axis_positions(grid: tuple[int, ...], scales: tuple[float, ...], shifts: tuple[float, ...]) -> list[Tensor]:
    """Where the tokens stand on each axis, float64: at shift, shift + scale, ... (1 and 0: their numbers)."""
    axes = zip(grid, scales, shifts, strict=True)
    return [shift + scale * torch.arange(length, dtype=torch.float64) for length, scale, shift in axes]


def tower_turn(
    grid: tuple[int, ...], head_dim: int, device: torch.device, positions: list[Tensor] | None = None
) -> TurnGrid:
    """The rotation of the tokens of a (t, h, w) or (length,) grid in row-major order.

    On a video grid the head splits into d - 2 * (d // 3) for t and d // 3 for each of h and w. Angles are computed in
    float64. positions: see axis_positions. Source: precompute_freqs_cis of the published code.
    """
    positions = positions or axis_positions(grid, (1.0,) * len(grid), (0.0,) * len(grid))
    share = head_dim // len(grid)
    dims = [head_dim - share * (len(grid) - 1)] + [share] * (len(grid) - 1)
    axes = []
    for where, dim in zip(positions, dims, strict=True):
        frequency = THETA ** (-torch.arange(0, dim - 1, 2, dtype=torch.float64) / dim)
        angle = torch.outer(where, frequency)
        axes.append(torch.stack([angle.cos(), angle.sin()], dim=-1).float().to(device))
    return TurnGrid(tuple(axes))


def video_times(frames: int, fps: float, audio_fps: float, first_frame_bias: bool) -> Tensor:
    """When each latent frame happens, [frames] float32, in audio latents from the start of the clip.

    A latent frame stands for 4 frames (the video VAE's stride). With the first-frame bias the first one stands for one
    frame only. Source: build_aligned_freqs of the published code.
    """
    index = torch.arange(frames, dtype=torch.float32)
    if not first_frame_bias:
        return index * (audio_fps / (fps / 4.0))
    starts = 1.0 / fps + (index - 1) * (1.0 / (fps / 4.0))
    starts[0] = 0
    return starts * audio_fps


@dataclass
class Window:
    """A part of a clip, to stand for the clip's frame rate: which of its latent frames and audio latents are there.

    No tuple, whose numbers torch.compile would take for constants and compile each window anew.
    """

    fps: float
    frames: tuple[int, ...]
    sounds: tuple[int, ...]


def bridge_times(
    frames: int, length: int, fps: float | Window, audio_fps: float, first_frame_bias: bool
) -> tuple[Tensor, Tensor]:
    """When latent frames [frames] and audio latents [length] happen, float32, in audio latents from a clip's start."""
    if not isinstance(fps, Window):
        return video_times(frames, fps, audio_fps, first_frame_bias), torch.arange(length, dtype=torch.float32)
    whole = video_times(max(fps.frames) + 1, fps.fps, audio_fps, first_frame_bias)
    return whole[list(fps.frames)], torch.tensor(fps.sounds, dtype=torch.float32)


def time_table(times: Tensor, head_dim: int, device: torch.device) -> Tensor:
    """Cos and sin [n, 2, head_dim / 2], float32, of the bridge's shared clock at the given times (in audio latents).

    Angles in float32, as the published code has them.
    """
    frequency = 1.0 / (THETA ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    angle = torch.outer(times, frequency)
    return torch.stack([angle.cos(), angle.sin()], dim=1).to(device)
