"""What the audio tower attends to in the video, kept of one evaluation: the audio alone can then be evaluated again.

Keys and values of all layers: at 640x352x193 7.4 GiB as computed in bf16, half of it in fp8.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
HIGHEST = 448.0  # of FP8
ROOM = 2 << 30  # bytes that the rest of an evaluation may take beside what is kept


@dataclass(frozen=True, eq=False)
class Kept:
    """A tensor as it is kept: where, and in which format."""

    values: Tensor
    scale: Tensor | None  # of each channel [B, 1, C], float32; None: values are as they were computed
    dtype: torch.dtype

    def read(self, device: torch.device) -> Tensor:
        values = self.values.to(device, non_blocking=True)
        if self.scale is None:
            return values
        return values.to(self.dtype) * self.scale.to(device, self.dtype)


# Puts a tensor where it is to be kept; its name is the same in each evaluation.
Place = Callable[[Tensor, str], Tensor]


def where_it_is(tensor: Tensor, name: str) -> Tensor:
    return tensor


def in_ram(tensor: Tensor, name: str) -> Tensor:
    return tensor.to("cpu")


def on_disk(folder: Path) -> Place:
    """Into files of the folder, which the caller removes; they are mapped, and written over by the next evaluation."""

    def place(tensor: Tensor, name: str) -> Tensor:
        content = tensor.contiguous().view(torch.uint8).flatten()
        kept = torch.from_file(str(folder / name), shared=True, size=content.numel(), dtype=torch.uint8)
        return kept.copy_(content).view(tensor.dtype).view(tensor.shape)

    return place


class Shelf:
    """Where memories are kept, by what is free: on the device, else in RAM, else on the disk. close() clears that."""

    def __init__(self, free: Callable[[torch.device], float], folder: Path | None = None) -> None:
        """free: bytes that a device has left. folder: in which one is made if needed (None: the system's)."""
        self.free, self.root = free, folder
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def place(self, device: torch.device, size: int) -> Place:
        """For so many bytes more."""
        if self.free(device) > size + ROOM:
            return where_it_is
        if free_ram() > size + ROOM:
            return in_ram
        if self.folder is None:
            if self.root is not None:
                self.root.mkdir(parents=True, exist_ok=True)
            self.folder = tempfile.TemporaryDirectory(prefix="mova_", dir=self.root, ignore_cleanup_errors=True)
        return on_disk(Path(self.folder.name))

    def close(self) -> None:
        if self.folder is not None:
            self.folder.cleanup()
        self.folder = None


def free_on(device: torch.device) -> float:
    """Bytes that a device has left; none where it cannot be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0.0


def free_ram() -> float:
    """Bytes; infinity where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return math.inf if found is None else 1024 * int(found)


@dataclass(eq=False)
class VideoMemory:
    """Keys and values [B, S, dim] of the video's tokens by layer. place: where they are put; fp8: in half the bytes."""

    place: Place = where_it_is
    fp8: bool = False
    name: str = ""  # among several that are kept together
    until: int | None = None  # the layer from which on nothing is kept; None: none
    layers: dict[int, tuple[Kept, Kept]] = field(default_factory=dict)

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None:
        if self.until is not None and layer >= self.until:
            return
        name = f"{self.name}{layer}"
        self.layers[layer] = self.stored(keys, name + "k"), self.stored(values, name + "v")

    def read(self, layer: int, device: torch.device) -> tuple[Tensor, Tensor]:
        keys, values = self.layers[layer]
        return keys.read(device), values.read(device)

    def stored(self, tensor: Tensor, name: str) -> Kept:
        if not self.fp8:
            return Kept(self.place(tensor, name), None, tensor.dtype)
        scale = tensor.abs().amax(dim=1, keepdim=True).float().clamp_min(1e-12) / HIGHEST
        return Kept(self.place((tensor / scale.to(tensor.dtype)).to(FP8), name), scale, tensor.dtype)

    def rows(self, rows: slice) -> "VideoMemory":
        """Of some of the batch."""

        def part(kept: Kept) -> Kept:
            return Kept(kept.values[rows], None if kept.scale is None else kept.scale[rows], kept.dtype)

        return VideoMemory(layers={layer: (part(k), part(v)) for layer, (k, v) in self.layers.items()})


def joined(memories: list[VideoMemory]) -> VideoMemory:
    """One batch of several."""
    if len(memories) == 1:
        return memories[0]

    def one(parts: list[Kept]) -> Kept:
        scales = [kept.scale for kept in parts if kept.scale is not None]
        return Kept(torch.cat([kept.values for kept in parts]), torch.cat(scales) if scales else None, parts[0].dtype)

    both = {
        layer: (one([m.layers[layer][0] for m in memories]), one([m.layers[layer][1] for m in memories]))
        for layer in memories[0].layers
    }
    return VideoMemory(layers=both)


def byte_count(tokens: int, dim: int, layers: int, item: int) -> int:
    """Bytes of one evaluation's memory: of each layer, keys and values of all tokens."""
    return math.prod((2, tokens, dim, layers, item))
