"""LoRA layers: beside a frozen matrix W, alpha / rank times a product up @ down that is trained."""

import math
import re
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint.release import EXPERT_FOLDERS, JOINT
from ..errors import MovaError
from ..model.joint import JointModel

PARTS = ("video", "audio", "bridge")
ATTENTION = r"(self_attn|cross_attn|inner)\.[qkvo]"
TARGETS = {"attention": re.compile(rf".*\.{ATTENTION}"), "attention+mlp": re.compile(rf".*\.({ATTENTION}|ffn\.[02])")}


def part_of(layer: str) -> str:
    """Which of PARTS a layer of the joint model belongs to."""
    return {JOINT[0]: "audio", JOINT[1]: "bridge"}.get(layer.partition(".")[0], "video")


def target_layers(model: JointModel, targets: str, parts: Collection[str] = PARTS) -> dict[str, nn.Module]:
    """The layers that get a LoRA, by name. Raises MovaError for unknown targets or parts."""
    if targets not in TARGETS:
        raise MovaError(f"There are no LoRA targets called {targets!r}; choose {' or '.join(TARGETS)}.")
    if not parts or not set(parts) <= set(PARTS):
        raise MovaError(f"The parts to train are {', '.join(parts) or 'none'}; choose some of {', '.join(PARTS)}.")
    return {
        name: module
        for name, module in model.named_modules()
        if TARGETS[targets].fullmatch(name) and part_of(name) in parts
    }


def add_lora(
    model: JointModel, expert: str, targets: str, rank: int, alpha: float, parts: Collection[str] = PARTS
) -> dict[str, nn.Parameter]:
    """Give the model's layers LoRAs, and freeze all else. Returns the float32 parameters by their names in a LoRA file.

    A name is `video_dit.blocks.0.self_attn.q.lora_A.weight`: expert is "video_dit" (high noise) or "video_dit_2" (low
    noise), the video tower's prefix; those of the audio tower and the bridge begin with their own names. lora_A [rank,
    in] is random, lora_B [out, rank] zero, so that the model first is what it was. targets: "attention" (q, k, v, o of
    every attention) or "attention+mlp". Base weights keep their names. Two experts that share their audio tower and
    bridge (the same modules) share their LoRAs, too. Raises MovaError for unknown names, a rank below 1 or an alpha
    that is no number above 0.
    """
    if expert not in EXPERT_FOLDERS:
        raise MovaError(f"There is no expert called {expert!r}; choose {' or '.join(EXPERT_FOLDERS)}.")
    if rank < 1:
        raise MovaError(f"The rank of the LoRA is {rank}; it must be at least 1 (16 is the published recipe's).")
    if not 0 < alpha < math.inf:
        raise MovaError(f"The alpha of the LoRA is {alpha}; it must be above 0 (16 is the published recipe's).")
    layers = target_layers(model, targets, parts)
    model.requires_grad_(False)
    parameters: dict[str, nn.Parameter] = {}
    for name, layer in layers.items():
        where = name if name.startswith(JOINT) else f"{expert}.{name}"
        for half, parameter in zip(("lora_A", "lora_B"), lora_of(layer, where, rank, alpha), strict=True):
            parameter.requires_grad_()
            parameters[f"{where}.{half}.weight"] = parameter
    return parameters


def lora_of(layer: Any, where: str, rank: int, alpha: float) -> tuple[nn.Parameter, nn.Parameter]:
    """The layer's LoRA, made if it has none yet. Raises MovaError if it has another one."""
    told = (where, rank, alpha / rank)
    if getattr(layer, "lora_told", None) is None:
        device = layer.lora_device if hasattr(layer, "lora_device") else layer.weight.device
        # Linear layers, since their parameters then have the names that LoRA files give them.
        layer.lora_A = nn.Linear(layer.in_features, rank, bias=False, device=device, dtype=torch.float32)
        layer.lora_B = nn.Linear(rank, layer.out_features, bias=False, device=device, dtype=torch.float32)
        nn.init.kaiming_uniform_(layer.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(layer.lora_B.weight)
        layer.lora_told = told
        layer.register_forward_hook(with_update)
    elif layer.lora_told != told:
        raise MovaError(f"{where} has a LoRA of {layer.lora_told[0]}, rank {layer.lora_told[1]} already; add one only.")
    return layer.lora_A.weight, layer.lora_B.weight


def with_update(layer: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """A layer's result with its LoRA's; both products are in the precision of the tokens."""
    x, (_, _, scale) = inputs[0], layer.lora_told
    inner = F.linear(x, layer.lora_A.weight.to(x.dtype)).flatten(0, -2)
    up = layer.lora_B.weight.to(x.dtype)
    return torch.addmm(out.flatten(0, -2), inner, up.t(), alpha=scale).view_as(out)
