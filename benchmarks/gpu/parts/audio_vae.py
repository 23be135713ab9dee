"""Time and memory of encoding and decoding a clip's sound."""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch

from mova import AudioVAE
from mova.sampling.conditioning import audio_latents, audio_samples

from .. import clock, expert
from ..place import Place
from ..task import Figures, Task


@functools.cache
def vae(place: Place) -> AudioVAE:
    """In float32, as it is run; its last layer so small that the tanh after it does not clip."""
    made = AudioVAE(place.small.audio_vae, torch.float32, "meta").requires_grad_(False).to_empty(device=place.device)
    expert.fill(made)
    made.decoder.model[-2].weight.div_(300)
    return made


def encode(place: Place) -> Figures:
    samples = audio_samples(place.small.frames, place.small.fps)
    waveform = torch.rand(1, 1, samples, device=place.device).mul_(2).sub_(1)
    expert.checked(vae(place).encode(waveform))
    return figures(place, lambda: vae(place).encode(waveform))


def decode(place: Place) -> Figures:
    length = audio_latents(place.small.frames, place.small.fps)
    latent = torch.randn(1, place.small.audio_vae.latent_dim, length, device=place.device)
    expert.checked((vae(place).decode(latent),))
    return figures(place, lambda: vae(place).decode(latent))


def figures(place: Place, run: Callable[[], Any]) -> Figures:
    times, peak = clock.timed(place, run, 5, vae(place))
    return {"s": statistics.median(times), "peak GiB beside weights": peak}


def tasks(place: Place) -> list[Task]:
    return [Task("decode", lambda: decode(place)), Task("encode", lambda: encode(place))]
