"""How much memory a run needs, known before anything is loaded.

What a step makes on the way grows with the video's tokens and their width; how much of it is alive at the peak was
counted on fake tensors (benchmarks/train_memory.py; a test holds it to that counter). All else follows from the sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..checkpoint.formats import PLAIN
from ..checkpoint.quantize import layout
from ..errors import MovaError
from ..model.config import MovaConfig
from ..model.joint import JointModel
from .frozen import BASES, PART, is_frozen
from .lora import part_of, target_layers
from .settings import Settings

GIB = 2**30
# Token tensors (as wide as the video tower) at the peak: of a layer that is computed again in pieces, or at once.
AT_PEAK = {"pieces": 16.1, "layers": 33.7}
IN_A_LAYER = 54.0  # that a layer keeps if nothing is computed again
ADAM = {"adamw": 8, "adamw8bit": 2}  # bytes of the optimizer for each number that is trained
PYTHON = 2 * GIB  # of RAM, for PyTorch and a GPU's libraries; without a GPU it is 0.3, by measure


@dataclass(frozen=True)
class Clip:
    """A clip as the model sees it: tokens of its picture, latents of its sound."""

    tokens: int
    sounds: int


@dataclass(frozen=True)
class Need:
    """Bytes, by what they are for."""

    activations: int
    lora: int  # with gradients and the optimizer's numbers
    streamed: int  # matrices on the device: two layers, those that stay, and the one that is decoded
    small: int  # embeddings, norms, biases, heads
    matrices: int  # in RAM
    inputs: int  # of layers, in RAM

    @property
    def card(self) -> int:
        return self.activations + self.lora + self.streamed + self.small

    @property
    def ram(self) -> int:
        return self.matrices + self.inputs + PYTHON

    def __str__(self) -> str:
        return f"{self.card / GIB:.1f} GiB on the card and {self.ram / GIB:.1f} GiB of RAM"


def is_encoded(name: str, shape: tuple[int, ...], base: str) -> bool:
    """Whether a frozen matrix is kept in another format than its file's; others are mapped from there."""
    chosen = BASES[base]
    return chosen is not None and len(layout(chosen, name, shape, PART)) > 1


def layer_of(name: str) -> int | None:
    """Which layer of the joint model a tensor belongs to."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def needed(config: MovaConfig, settings: Settings, clip: Clip, processes: int = 1) -> Need:
    """What each process of a run with these settings needs for its largest clip."""
    itemsize = PLAIN[settings.dtype].dtype.itemsize
    experts = len(settings.trained)
    with torch.device("meta"):
        model = JointModel(config)
    by_layer = [0] * config.video_dit.num_layers
    small = matrices = 0
    for name, tensor in model.state_dict().items():
        times = experts if part_of(name) == "video" else 1
        if not is_frozen(model, name):
            small += tensor.numel() * itemsize * times
            continue
        encoded = is_encoded(name, tuple(tensor.shape), settings.base)
        size = tensor.numel() * (1 if encoded else 2)
        by_layer[layer_of(name) or 0] += size
        # What is mapped needs no RAM of its own, but is read from the disk again where there is none to spare: so it is
        # counted where it is all there is.
        matrices += size * times if encoded or settings.base == "bf16" or settings.shard_weights else 0
    layers: Any = target_layers(model, settings.targets, settings.parts)
    pairs = {name: settings.rank * (layer.in_features + layer.out_features) for name, layer in layers.items()}
    one = sum(pairs.values())
    all_pairs = sum(size * (experts if part_of(name) == "video" else 1) for name, size in pairs.items())
    streamed = sum(sorted(by_layer)[-2:]) + sum(by_layer[: settings.resident_layers])
    if settings.base != "bf16":
        streamed += config.video_dit.dim * config.video_dit.ffn_dim * (4 + itemsize)  # in float32, then in the dtype
    token = clip.tokens * config.video_dit.dim * itemsize
    inputs = token * config.video_dit.num_layers
    inputs += clip.sounds * config.audio_dit.dim * itemsize * config.audio_dit.num_layers
    if settings.checkpoints == "none":
        activations = int(IN_A_LAYER * inputs)
    else:
        activations = int(AT_PEAK[settings.checkpoints] * token)
        activations += 0 if settings.offload_activations else inputs
    kept = inputs if settings.offload_activations else 0
    matrices //= processes if settings.shard_weights else 1
    lora = all_pairs * (4 + ADAM[settings.optimizer]) + 4 * one
    return Need(activations, lora, streamed, small, matrices, kept)


def alternatives(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Options that need less, each with those before it, and the settings with them."""
    told = []
    for words, change in (
        ("--checkpoints pieces", {"checkpoints": "pieces"}),
        ("--resident-layers 0", {"resident_layers": 0}),
        ("--offload-activations", {"offload_activations": True}),
        ("--base fp8", {"base": "fp8"}),
        ("--optimizer adamw8bit", {"optimizer": "adamw8bit"}),
        ("--rank 8", {"rank": min(8, settings.rank)}),
    ):
        changed: Settings = replace(settings, **change)
        if changed != settings:
            settings = changed
            told.append(words)
            yield " ".join(told), settings


def check_room(config: MovaConfig, settings: Settings, clip: Clip, room: float | None, processes: int = 1) -> str:
    """What a run needs, in words. Raises MovaError, naming settings that would fit, if the card has less room."""
    need = needed(config, settings, clip, processes)
    if room is None or need.card <= room:
        each = "This run" if processes == 1 else f"Each of {processes} processes"
        return f"{each} needs about {need} (by count, not by trial)."
    fits = next((words for words, other in alternatives(settings) if needed(config, other, clip).card <= room), None)
    remedy = f"with {fits} it would fit" if fits else "prepare smaller or shorter clips"
    raise MovaError(f"This run needs about {need}, and the card has {room / GIB:.1f} GiB free; {remedy}.")
