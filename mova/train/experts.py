"""The experts to train on, frozen: small tensors on the device, matrices in RAM."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoint.release import JOINT
from ..checkpoint.weights import put_in_place
from ..model.config import MovaConfig
from ..model.joint import JointModel
from .frozen import Frozen, Stored, freeze, is_frozen, keep, store

# Tensors by their names in the joint state dict; a matrix can be quantised already, as Frozen stores it.
Tensors = Iterable[tuple[str, Tensor | Stored]]

if TYPE_CHECKING:
    from .shards import Shards


def load_experts(
    config: MovaConfig,
    read: Callable[[str], Tensors],
    experts: Sequence[str],
    base: str,
    dtype: torch.dtype,
    device: torch.device,
    part: Callable[[str], None] = lambda name: None,
    shards: "Shards | None" = None,
) -> dict[str, JointModel]:
    """Frozen joint models by their expert's name ("video_dit", "video_dit_2"); all share the audio tower and bridge.

    read gives the tensors of a part: an expert's video tower, or one of JOINT. base: one of frozen.BASES, for the
    matrices; dtype: of all else. part is called with what is being loaded. shards: to divide the matrices among
    processes.
    """
    models: dict[str, JointModel] = {}
    for expert in experts:
        model = JointModel(config, device="meta")
        freeze(model)
        for name in [expert] + [shared for shared in JOINT if not models]:
            part(name)
            fill(model, read(name), base, dtype, device, shards)
        for other in models.values():
            model.audio_dit, model.dual_tower_bridge = other.audio_dit, other.dual_tower_bridge
        models[expert] = model
    return models


def fill(
    model: JointModel,
    tensors: Tensors,
    base: str,
    dtype: torch.dtype,
    device: torch.device,
    shards: "Shards | None" = None,
) -> None:
    """Put tensors, by their names in the joint state dict, into a model that freeze has been at."""
    for name, tensor in tensors:
        if not isinstance(tensor, Tensor):
            keep(model, name, tensor, shards)
        elif is_frozen(model, name):
            plain = tensor.to(dtype) if tensor.dtype.itemsize < dtype.itemsize or base == "bf16" else tensor
            store(model, name, plain, base, shards)
        else:
            # A copy: gradients may flow past it, which a tensor made in inference mode would not have.
            put_in_place(model, name, tensor.to(device, dtype, copy=True))
    if base != "bf16" and device.type == "cuda":
        pin(model)


def pin(model: JointModel) -> None:
    """Have the GPU fetch encoded matrices by itself. Those that are mapped from a file are left: they need no RAM."""
    for module in model.modules():
        if isinstance(module, Frozen) and "_scale" in module.stored:
            with contextlib.suppress(RuntimeError):  # the system gives no more such memory: the copies are slower
                module.stored = {
                    name: part if part.is_pinned() else part.pin_memory() for name, part in module.stored.items()
                }
