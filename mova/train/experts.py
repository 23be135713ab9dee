"""The experts to train on, frozen: small tensors on the device, matrices in RAM."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoint.release import JOINT, Checkpoint
from ..checkpoint.weights import put_in_place
from ..model.joint import JointModel
from .frozen import Frozen, freeze, is_frozen, store

if TYPE_CHECKING:
    from .shards import Shards


def load_experts(
    checkpoint: Checkpoint,
    experts: Sequence[str],
    base: str,
    dtype: torch.dtype,
    device: torch.device,
    part: Callable[[str], None] = lambda name: None,
    shards: "Shards | None" = None,
) -> dict[str, JointModel]:
    """Frozen joint models by their expert's name ("video_dit", "video_dit_2"); all share the audio tower and bridge.

    base: one of frozen.BASES, for the matrices; dtype: of all else. part is called with what is being loaded. shards:
    to divide the matrices among processes.
    """
    models: dict[str, JointModel] = {}
    for expert in experts:
        model = JointModel(checkpoint.config, device="meta")
        freeze(model)
        for name in [expert] + [shared for shared in JOINT if not models]:
            part(name)
            prefix = f"{name}." if name in JOINT else ""
            weights = checkpoint.weights[name]
            named = ((prefix + key, tensor) for key, tensor in weights.read(weights.tensors))
            fill(model, named, base, dtype, device, shards)
        for other in models.values():
            model.audio_dit, model.dual_tower_bridge = other.audio_dit, other.dual_tower_bridge
        models[expert] = model
    return models


def fill(
    model: JointModel,
    tensors: Iterable[tuple[str, Tensor]],
    base: str,
    dtype: torch.dtype,
    device: torch.device,
    shards: "Shards | None" = None,
) -> None:
    """Put tensors, by their names in the joint state dict, into a model that freeze has been at."""
    for name, tensor in tensors:
        if is_frozen(model, name):
            plain = tensor.to(dtype) if tensor.dtype.itemsize < dtype.itemsize or base == "bf16" else tensor
            store(model, name, plain, base, shards)
        else:
            put_in_place(model, name, tensor.to(device, dtype))
    if base != "bf16" and device.type == "cuda":
        pin(model)


def pin(model: JointModel) -> None:
    """Have the GPU fetch matrices by itself. Those that are mapped from a file (bf16) are left: they need no RAM."""
    for module in model.modules():
        if isinstance(module, Frozen):
            with contextlib.suppress(RuntimeError):  # the system gives no more such memory: the copies are slower
                module.stored = {
                    name: part if part.is_pinned() else part.pin_memory() for name, part in module.stored.items()
                }
