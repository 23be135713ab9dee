"""The Wan 2.1 video VAE, by diffusers, and the normalisation of its latents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MovaError, first_line
from .shapes import expected_shapes


def expected_tensors(config: Path, values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the VAE that a config.json with these values describes; MovaError if it is none."""
    from diffusers import AutoencoderKLWan

    try:
        with torch.device("meta"):
            return expected_shapes(AutoencoderKLWan.from_config(dict(values)))
    except Exception as error:  # what a wrong value raises is up to the library that meets it first
        raise MovaError(f"{config} does not describe a Wan VAE ({first_line(error)}); download it again.") from error


def load(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The VAE, from safetensors only; raises MovaError if it does not load."""
    from diffusers import AutoencoderKLWan

    try:
        vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True)
    except Exception as error:  # diffusers raises all kinds
        raise MovaError(f"{folder} does not load as a Wan VAE ({first_line(error)}); download it again.") from error
    return vae.to(device).eval()


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel, [1, 16, 1, 1, 1] float32."""
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean.to(vae.device), std.to(vae.device)


def encode(vae: Any, clip: Tensor) -> Tensor:
    """clip [B, 3, F, H, W] in -1..1 -> normalised latents (the mean) [B, 16, T, H / 8, W / 8], float32."""
    mean, std = statistics(vae)
    return (vae.encode(clip.to(vae.device, vae.dtype)).latent_dist.mode().float() - mean) / std


def decode(vae: Any, latent: Tensor) -> Tensor:
    """Normalised latents [1, 16, T, h, w] -> frames [F, 8 h, 8 w, 3], uint8, on the CPU.

    Raises MovaError if the VAE makes values that are not finite: as pixels they would be black, without a word.
    """
    mean, std = statistics(vae)
    clip = vae.decode((latent.to(vae.device) * std + mean).to(vae.dtype)).sample[0]
    if not all(bool(frame.isfinite().all()) for frame in clip.unbind(1)):
        raise MovaError("The video VAE made NaN or infinite values; use --dtype bf16 or fp32.")
    # Frame by frame: the clip in float32 would take gigabytes more.
    frames = [((frame.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu() for frame in clip.unbind(1)]
    return torch.stack(frames).permute(0, 2, 3, 1).contiguous()
