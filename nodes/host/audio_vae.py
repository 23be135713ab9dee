"""MOVA's audio VAE as a VAE of the host: its core audio nodes take it, and its memory management holds it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor

from ...mova import AudioVAE, AudioVAEConfig, MovaError
from ...mova.checkpoint.release import open_checkpoint
from ...mova.checkpoint.weights import assign, check_tensors, open_weights
from ...mova.model.audio_vae import plain_weights
from ...mova.model.shapes import expected_shapes
from ...mova.model.stored_config import stored_config
from .checks import audio_of

# Values alive at the decoder's peak, for each value of its widest layers; and the same for the encoder.
LIVE = 8

# Sound longer than PIECE latents (20 s) is decoded piece by piece, each with MARGIN more latents on both sides, which
# are cut off again. A sample depends on the 10 latents to each side of its own, so the seams are exact.
PIECE, MARGIN = 1000, 16


class HostAudioVAE(AudioVAE):
    """The audio VAE with the one-tensor encode and decode that the host calls."""

    @property
    def output_sample_rate(self) -> int:
        return self.config.sample_rate

    def encode(self, waveform: Tensor) -> Tensor:  # type: ignore[override]
        """[B, 1, N] -> the mean [B, C, L]."""
        return super().encode(waveform)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """[B, C, L] -> [B, 1, hop * L], in pieces if it is long."""
        length, hop = latent.shape[-1], self.config.hop
        pieces = []
        for start in range(0, length, PIECE):
            stop = min(start + PIECE, length)
            first, last = max(0, start - MARGIN), min(length, stop + MARGIN)
            wave = super().decode(latent[..., first:last])
            pieces.append(wave[..., (start - first) * hop : (stop - first) * hop])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


class MovaAudioVAE(comfy.sd.VAE):
    """What the host's VAE nodes need. Its own constructor guesses the family from tensor names, and is not run."""

    is_mova_audio = True

    def __init__(self, model: HostAudioVAE) -> None:
        config = model.config
        self.first_stage_model = model.eval()
        self.latent_dim, self.latent_channels, self.output_channels = 1, config.latent_dim, 1
        self.upscale_ratio = self.downscale_ratio = config.hop
        self.upscale_index_formula = self.downscale_index_formula = None
        self.audio_sample_rate = self.audio_sample_rate_output = config.sample_rate
        self.process_input = self.process_output = lambda audio: audio
        self.working_dtypes = [torch.float32]  # the nets amplify rounding
        self.vae_dtype = torch.float32
        self.format_encoded, self.handles_tiling = None, False  # from v0.28 on
        self.disable_offload, self.not_video, self.crop_input = False, False, False
        self.extra_1d_channel, self.pad_channel_value, self.size = None, None, None
        # At the end of the decoder (and the start of the encoder) each sample has that many channels.
        width = config.decoder_dim // 2 ** len(config.decoder_rates)
        self.memory_used_decode = lambda shape, dtype: (
            LIVE * width * config.hop * min(shape[-1], PIECE + 2 * MARGIN) * dtype.itemsize
        )
        self.memory_used_encode = lambda shape, dtype: LIVE * config.encoder_dim * shape[-1] * dtype.itemsize
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        comfy.model_management.archive_model_dtypes(model)
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            model, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )
        self.model_size()

    def vae_encode_crop_pixels(self, pixels: Tensor) -> Tensor:
        """[B, N, channels] -> [B, N, 1]: the channels mixed; nothing is cropped, the VAE pads."""
        return pixels.mean(dim=-1, keepdim=True)

    def decode(self, samples_in: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, C, L] -> [B, hop * L, 1]; of an audio-video latent, its audio. Raises MovaError for any other."""
        return super().decode(audio_of(samples_in, self.latent_channels), *args, **kwargs)

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As decode, in the host's own tiles."""
        return super().decode_tiled(audio_of(samples, self.latent_channels), *args, **kwargs)


def load(path: Path) -> MovaAudioVAE:
    """The audio VAE in a safetensors file or folder. Raises MovaError if it is damaged or of another model."""
    if path.is_dir():  # of a release
        release = open_checkpoint(path.parent, [path.name])
        weights, config = release.weights[path.name], release.audio_vae
    else:
        weights = open_weights(path)
        config = config_of(path, weights.metadata)
    model = HostAudioVAE(config, dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init)
    wanted = expected_shapes(model)
    if not set(wanted) <= set(weights.tensors):  # weight norm in one of its spellings, or another model
        state = plain_weights(dict(weights.read(weights.tensors, dtype=torch.float32)))
        missing = [name for name in wanted if name not in state]
        if missing:
            raise MovaError(
                f"{path} is not MOVA's audio VAE (it lacks {missing[0]} and {len(missing) - 1} more tensors); choose "
                "the file audio_vae of a MOVA release."
            )
        assign(model, ((name, state[name]) for name in wanted))
    else:
        check_tensors({name: weights.tensors[name] for name in wanted}, wanted, str(path))
        assign(model, weights.read(wanted, dtype=torch.float32))
    logging.info(f"[MOVA] Loaded the audio VAE from {path}.")
    vae = MovaAudioVAE(model.requires_grad_(False))
    vae.patcher.cached_patcher_init = load_patcher, (path,)
    return vae


def load_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    """The ModelPatcher alone, as the host makes another for each further device."""
    return load(path).patcher


def config_of(path: Path, metadata: Mapping[str, str]) -> AudioVAEConfig:
    """From the file's metadata; else the released one."""
    values = stored_config(metadata, path)
    return AudioVAEConfig.from_dict(values.get("audio_vae", values))
