"""Memory for time: what a layer computes on the way is dropped, and computed again when its gradients are due."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..model.joint import JointModel, KernelsByPlace, Layer, RunLayer
from ..model.kernels import Kernels
from .losses import Model

MLP_BLOCKS = 4  # of rows, where a layer is done in pieces


def again(function: Callable[..., Any], *tokens: Tensor) -> Any:
    """function(*tokens), of which only the tokens are kept. No layer draws random numbers."""
    if not torch.is_grad_enabled():
        return function(*tokens)
    return checkpoint(function, *tokens, use_reentrant=False, preserve_rng_state=False)


def to_ram(x: Tensor) -> tuple[torch.device, Tensor]:
    """A tensor in RAM, and where it was; from a GPU the copy runs behind what is computed before it."""
    if x.device.type != "cuda":
        return x.device, x.to("cpu")
    kept = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return x.device, kept.copy_(x, non_blocking=True)


def from_ram(kept: tuple[torch.device, Tensor]) -> Tensor:
    device, x = kept
    return x.to(device, non_blocking=True)


def checkpointed_layers(inside: RunLayer, in_ram: bool) -> RunLayer:
    """Keeps the inputs of each layer, on the device or in RAM, and nothing else. inside: what runs a layer."""

    def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.autograd.graph.saved_tensors_hooks(to_ram, from_ram) if in_ram else contextlib.nullcontext()
        with kept:
            return again(lambda *tokens: inside(index, layer, *tokens), video, audio)

    return run_layer


def in_pieces(kernels: Kernels, mlp_blocks: int = MLP_BLOCKS) -> Kernels:
    """Attention, attention to the text, the bridge and blocks of rows of the MLP each apart: one is there at a time."""
    return replace(kernels, piece=again, mlp_blocks=mlp_blocks)


def plain_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    return layer(video, audio)


def checkpointed(
    model: JointModel, layers: bool = True, pieces: bool = False, in_ram: bool = False, inside: RunLayer = plain_layer
) -> Model:
    """The model with less memory where gradients are recorded; what velocity_losses takes.

    layers: only the inputs of each layer are kept; in_ram: they are kept in RAM; pieces: also inside a layer only the
    inputs of its parts are (a third more time). inside: what runs a layer, where its weights must be brought first.
    """
    kernels = in_pieces(model.kernels) if pieces else model.kernels
    run_layer = checkpointed_layers(inside, in_ram) if layers else inside

    def run(*inputs: Any, **options: Any) -> tuple[Tensor, Tensor]:
        return model(*inputs, **options, kernels=KernelsByPlace(kernels, kernels, kernels), run_layer=run_layer)

    return run
