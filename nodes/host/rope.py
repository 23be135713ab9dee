"""Positions of the video tokens where something is plugged in: ScaleROPE's options, or another rope_embedder (RIFLEx).

Only the video tower's own positions change. Sound is made at its natural pace whatever is done to a picture, so the
audio tower keeps its positions, and the bridge the real times by which it brings the two together.
"""

from collections.abc import Mapping
from typing import Any

import torch
from comfy.ldm.flux.layers import EmbedND

from ...mova.model.rope import THETA, Turn, axis_positions, from_wan, tower_turn


class OwnEmbedder(EmbedND):
    """The host's Wan has one like it, and packs put others in its place. Of this one nobody asks anything."""

    def __init__(self, head_dim: int) -> None:
        share = 2 * (head_dim // 6)
        super().__init__(dim=head_dim, theta=int(THETA), axes_dim=[head_dim - 2 * share, share, share])


def plugged_turn(
    embedder: torch.nn.Module,
    rope_options: Mapping[str, float] | None,
    grid: tuple[int, ...],
    head_dim: int,
    device: Any,
) -> Turn | None:
    """The video tower's rotation; None if nothing is plugged in."""
    own = isinstance(embedder, OwnEmbedder)
    if own and not rope_options:
        return None
    axes, options = ("t", "y", "x"), rope_options or {}
    scales = tuple(float(options.get(f"scale_{axis}", 1.0)) for axis in axes)
    shifts = tuple(float(options.get(f"shift_{axis}", 0.0)) for axis in axes)
    positions = axis_positions(grid, scales, shifts)
    if own:
        return tower_turn(grid, head_dim, device, positions)
    ids = torch.stack(torch.meshgrid(*positions, indexing="ij"), dim=-1).flatten(0, 2)
    return from_wan(embedder(ids[None].float().to(device)).movedim(1, 2))
