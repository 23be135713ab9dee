"""An expert of random weights, made on the device, and the inputs of one forward."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mova import JointModel
from mova.model.presets import Preset
from mova.sampling.conditioning import audio_latents, latent_frames

from .bound import TEXT_TOKENS
from .place import DTYPE, Place


def build(place: Place) -> JointModel:
    """One expert with audio tower and bridge in bf16. Nothing passes through the CPU's memory."""
    model = JointModel(place.small.model, DTYPE, "meta").requires_grad_(False).to_empty(device=place.device)
    fill(model)
    return model


def fill(module: nn.Module) -> None:
    """Values that keep the size of what passes: norms near 1, biases small, matrices by their fan-in."""
    for name, parameter in module.named_parameters():
        if name.endswith("alpha") or ("norm" in name and name.endswith("weight")):
            parameter.normal_(1.0, 0.1)
        elif parameter.ndim < 2:
            parameter.normal_(0.0, 0.1)
        else:
            parameter.normal_(0.0, 1 / math.sqrt(math.prod(parameter.shape[1:])))


class Inputs(NamedTuple):
    """What one forward takes, in the order of JointModel.forward."""

    video: Tensor
    audio: Tensor
    video_timestep: Tensor
    audio_timestep: Tensor
    text: Tensor
    fps: float


def inputs(place: Place, preset: Preset) -> Inputs:
    """Random latents and text of a clip of the preset's size, a batch of one."""
    factory = {"device": place.device, "dtype": DTYPE}
    video, latent = preset.model.video_dit, (latent_frames(preset.frames), preset.height // 8, preset.width // 8)
    timestep = torch.full((1,), 900.0, device=place.device)
    return Inputs(
        torch.randn(1, video.in_dim, *latent, **factory),
        torch.randn(1, preset.model.audio_dit.in_dim, audio_latents(preset.frames, preset.fps), **factory),
        timestep,
        timestep,
        torch.randn(1, TEXT_TOKENS, video.text_dim, **factory),
        preset.fps,
    )


def checked(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The outputs of a forward. Raises ValueError unless all are finite: a time would mean nothing."""
    if not all(bool(torch.isfinite(part).all()) for part in outputs):
        raise ValueError("the outputs are not finite")
    return outputs


@contextlib.contextmanager
def shortened(video: Any, audio: Any, joint: int, alone: int) -> Iterator[None]:
    """Both towers with only their first `joint` layers, and `alone` more of the video tower."""
    before = video.blocks, audio.blocks
    kept = [*before[0][:joint], *before[0][len(before[1]) : len(before[1]) + alone]]
    video.blocks, audio.blocks = nn.ModuleList(kept), nn.ModuleList(before[1][:joint])
    try:
        yield
    finally:
        video.blocks, audio.blocks = before


def warm_up(model: JointModel, given: Inputs) -> None:
    """All that a first forward does once (handles, plans, memory, compiling), by one layer of each kind."""
    with shortened(model, model.audio_dit, 1, 1):
        checked(model(*given))
