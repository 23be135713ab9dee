"""The published training loss.

Source: the training step of the published mova/diffusion/pipelines/mova_train.py, and its flow-matching schedule.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling.schedule import TIMESTEPS, sigmas

SHIFT = 5.0  # of the table, whatever shifts a run takes
# (video [B, 36, T, H, W], audio [B, 128, L], timesteps [B] twice, context, fps) -> both velocities: a JointModel, or
# what checkpointing.checkpointed makes of one.
Model = Callable[..., tuple[Tensor, Tensor]]


def train_timesteps(shift: float = SHIFT) -> Tensor:
    """The 1000 timesteps that training draws from, falling, float32."""
    return sigmas(TIMESTEPS, shift)[:-1] * TIMESTEPS


def nearest_sigma(timestep: Tensor) -> Tensor:
    """Timesteps [B] -> the sigmas of the nearest ones in the table, as the published code mixes by. [B] float32.

    It looks up the video's table for the audio, too.
    """
    table = train_timesteps().to(timestep.device)
    return table[(table - timestep.float()[:, None]).abs().argmin(dim=1)] / TIMESTEPS


def noised(latent: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """(1 - sigma) latent + sigma noise."""
    sigma = nearest_sigma(timestep).view(-1, *[1] * (latent.ndim - 1)).to(latent)
    return (1 - sigma) * latent + sigma * noise


def velocity_losses(
    model: Model,
    video: Tensor,
    audio: Tensor,
    condition: Tensor,
    context: Tensor,
    video_noise: Tensor,
    audio_noise: Tensor,
    video_timestep: Tensor,
    audio_timestep: Tensor,
    fps: float = 24.0,
) -> tuple[Tensor, Tensor]:
    """How far the model's velocities are from noise - latent: mean squares of both modalities, float32 scalars.

    video [B, 16, T, H, W] normalised latents, audio [B, 128, L], noises of their shapes; condition [B, 20, T, H, W]: 4
    mask channels, 16 of the given frames' latents; context: UMT5 features [B, tokens, text]; timesteps [B] in 0..1000.
    The training loss is the sum of both. Gradients flow to whatever parameters of the model require them.
    """
    x = torch.cat([noised(video, video_noise, video_timestep), condition.to(video)], dim=1)
    y = noised(audio, audio_noise, audio_timestep)
    made = model(x, y, video_timestep, audio_timestep, context, fps)
    wanted = video_noise - video, audio_noise - audio
    found = (F.mse_loss(velocity.float(), target.float()) for velocity, target in zip(made, wanted, strict=True))
    video_loss, audio_loss = found
    return video_loss, audio_loss
