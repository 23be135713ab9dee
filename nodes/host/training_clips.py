"""The host's encoders and videos, as preparing of clips to train on has them."""

import math
from pathlib import Path
from typing import Any

import comfy.latent_formats
import folder_paths
from torch import Tensor

from ...mova.clip.decoding import File
from ...mova.clip.memory import Frames
from ...mova.clip.stretch import Source
from ...mova.train.cache import content_key, digest
from ...mova.train.prepare import Encode
from . import identity


def see_with(vae: Any) -> Encode:
    """[1, 3, F, H, W] in -1..1 to normalised latents [1, 16, T, h, w], by the host's Wan VAE."""
    latents = comfy.latent_formats.Wan21()

    def see(clip: Tensor) -> Tensor:
        return latents.process_in(vae.encode(clip[0].permute(1, 2, 3, 0) / 2 + 0.5)).float().cpu()

    return see


def hear_with(audio_vae: Any) -> Encode:
    """[1, 1, N] to latents [1, 128, L]."""
    return lambda waveform: audio_vae.encode(waveform.movedim(1, -1)).cpu()


def key_of_weights(model: Any, attribute: str) -> str:
    """By a few values of each weight in a VAE or text encoder; of one that shows none, by its kind."""
    inner = getattr(model, attribute, None)
    named = getattr(inner, "named_parameters", lambda: ())()
    found = [(name, str(weight.dtype), getattr(weight, "_qdata", weight)) for name, weight in named]
    return identity.digest([type(inner or model).__qualname__, found], identity.FEW)


def key_of_source(source: Source) -> str:
    """By what is in a video, wherever it lies."""
    if isinstance(source, File):
        if hasattr(source.source, "seek"):
            source.source.seek(0)
            return digest(source.source)
        return content_key(Path(source.source))
    assert isinstance(source, Frames)
    return identity.digest([source.images, source.waveform, source.sample_rate, str(source.rate), source.begin])


def name_of_file(path: Path) -> str:
    """As the host's lists have it: a file of the same name in another folder is another clip."""
    for kind in ("input", "output", "temp"):
        folder = Path(folder_paths.get_directory_by_type(kind)).resolve()
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix() + (f" [{kind}]" if kind != "input" else "")
    return path.as_posix()


def name_of(source: Source, start: float, window: tuple[float, float], key: str) -> str:
    """What a clip is called: its file, and where in it the clip begins and a trim ends."""
    path = getattr(source, "source", None)
    name = name_of_file(Path(path).resolve()) if isinstance(path, str | Path) else f"video {key[:8]}"
    begin = window[0] + start
    name += f" from {begin:g} s" if begin else ""
    return name + (f" to {window[1]:g} s" if window[1] < math.inf else "")
