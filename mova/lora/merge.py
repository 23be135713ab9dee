"""What LoRAs make of a weight: the arithmetic of ComfyUI's weight adapters, in float32, a block of rows at a time.

A weight that is read from a file is changed on its way, with no second copy of it in memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .names import DIFF, DORA, DOWN, UP
from .reading import Lora

Change = tuple[Lora, float]  # with its strength
BLOCK = 1 << 24  # numbers that are changed at once: 64 MiB in float32


def merged(
    weight: Tensor, changes: Sequence[Change], dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """A weight of any shape with the changes, one after the other, on `device` in `dtype` (None: its own).

    Each is W + strength * scale * update in float32, and DoRA's rescaling of that. In blocks of rows: a whole weight of
    more than 16 M numbers may differ in its last bits, since a product of other size adds up in another order.
    """
    target = device or weight.device
    made = torch.empty(weight.shape, dtype=dtype or weight.dtype, device=target)
    rows = weight.shape[0]
    step = rows if any(by_column(lora, rows) for lora, _ in changes) else max(1, BLOCK * rows // weight.numel())
    for start in range(0, rows, step):
        block = slice(start, start + step)
        part = weight[block].to(target, torch.float32, copy=True)
        for lora, strength in changes:
            part = changed(part, lora, strength, block, rows)
        made[block] = part
    return made


def changed(part: Tensor, lora: Lora, strength: float, block: slice, rows: int) -> Tensor:
    """The given rows of a weight of so many `rows`, changed; float32. The part is used up."""
    added = update(lora, block, rows, part.device).reshape(part.shape)
    if DORA not in lora.parts:
        return part.add_(added.mul_(strength * lora.scale))
    # DoRA: the direction is the changed weight's, the length is given. As on the host, the length that it has without
    # the change is measured by row, and the one with it by column.
    new = added.mul_(lora.scale).add_(part)
    lengths = lora.parts[DORA].to(part.device, torch.float32)
    if by_column(lora, rows):
        norms, lengths = new.flatten(1).t().norm(dim=1, keepdim=True).t(), lengths.reshape(1, -1)
    else:
        norms, lengths = part.flatten(1).norm(dim=1, keepdim=True), lengths.reshape(rows, -1)[block]
    new.flatten(1).mul_(lengths / (norms + torch.finfo(torch.float32).eps))  # a view: new is contiguous
    return new if strength == 1 else part.add_(new.sub_(part).mul_(strength))


def by_column(lora: Lora, rows: int) -> bool:
    """Whether DoRA's lengths are those of the columns: they need the whole weight."""
    return DORA in lora.parts and lora.parts[DORA].shape[0] != rows


def update(lora: Lora, block: slice, rows: int, device: torch.device) -> Tensor:
    """Rows of what a change adds to its weight of so many `rows`, at strength and scale 1: [rows, columns] float32."""

    def part(name: str) -> Tensor:
        return lora.parts[name].to(device, torch.float32).flatten(1)

    if DIFF in lora.parts:
        whole = lora.parts[DIFF]
        return whole[block].to(device, torch.float32, copy=True)
    if UP in lora.parts:
        return part(UP)[block] @ part(DOWN)
    if "hada_w1_a" in lora.parts:
        return (part("hada_w1_a")[block] @ part("hada_w1_b")).mul_(part("hada_w2_a")[block] @ part("hada_w2_b"))
    w1, w2 = (part(w) if w in lora.parts else part(f"{w}_a") @ part(f"{w}_b") for w in ("lokr_w1", "lokr_w2"))
    # The Kronecker product, row by row: each of w1's rows times all of w2's.
    index = torch.arange(rows, device=device)[block]
    return (w1[index // len(w2), :, None] * w2[index % len(w2), None, :]).flatten(1)
