"""The audio VAE: DAC (Descript Audio Codec) with a continuous, Gaussian bottleneck instead of codebooks.

Source: DAC in the published mova/diffusion/models/dac_vae.py, whose module names these are, so that its weights load as
they are; the net is that of Kumar et al., arXiv 2306.06546.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AudioVAEConfig


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, one alpha a channel."""

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, **factory))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha.to(x)
        # In the published code's order of operations: the nets amplify rounding errors, so another order is not equal.
        return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).square()


class Chain(nn.Module):
    """Layers one after the other, under the name that they have in the published code."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ResidualUnit(Chain):
    """A dilated and a pointwise convolution, added to their input."""

    def __init__(self, dim: int, dilation: int, operations: Any, **factory: Any) -> None:
        super().__init__(
            Snake(dim, **factory),
            operations.Conv1d(dim, dim, kernel_size=7, dilation=dilation, padding=3 * dilation, **factory),
            Snake(dim, **factory),
            operations.Conv1d(dim, dim, kernel_size=1, **factory),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def residual_units(dim: int, operations: Any, **factory: Any) -> list[nn.Module]:
    return [ResidualUnit(dim, dilation, operations, **factory) for dilation in (1, 3, 9)]


def encoder_block(dim: int, stride: int, operations: Any, **factory: Any) -> Chain:
    """Residual units, then a convolution that shortens by the stride and doubles the channels."""
    down = operations.Conv1d(
        dim, 2 * dim, kernel_size=2 * stride, stride=stride, padding=math.ceil(stride / 2), **factory
    )
    return Chain(*residual_units(dim, operations, **factory), Snake(dim, **factory), down)


def decoder_block(dim: int, stride: int, operations: Any, **factory: Any) -> Chain:
    """A transposed convolution that lengthens by the stride and halves the channels, then residual units."""
    up = operations.ConvTranspose1d(
        dim,
        dim // 2,
        kernel_size=2 * stride,
        stride=stride,
        padding=math.ceil(stride / 2),
        output_padding=stride % 2,
        **factory,
    )
    return Chain(Snake(dim, **factory), up, *residual_units(dim // 2, operations, **factory))


def encoder(config: AudioVAEConfig, operations: Any, **factory: Any) -> Chain:
    """Waveform [B, 1, N] -> features [B, latent_dim, N / hop]."""
    dim = config.encoder_dim
    layers: list[nn.Module] = [operations.Conv1d(1, dim, kernel_size=7, padding=3, **factory)]
    for stride in config.encoder_rates:
        layers.append(encoder_block(dim, stride, operations, **factory))
        dim *= 2
    last = operations.Conv1d(dim, config.latent_dim, kernel_size=3, padding=1, **factory)
    return Chain(*layers, Snake(dim, **factory), last)


class Decoder(nn.Module):
    """Features [B, latent_dim, L] -> waveform [B, 1, hop * L] in -1..1."""

    def __init__(self, config: AudioVAEConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        dim = config.decoder_dim
        layers: list[nn.Module] = [operations.Conv1d(config.latent_dim, dim, kernel_size=7, padding=3, **factory)]
        for stride in config.decoder_rates:
            layers.append(decoder_block(dim, stride, operations, **factory))
            dim //= 2
        layers += [Snake(dim, **factory), operations.Conv1d(dim, 1, kernel_size=7, padding=3, **factory), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """cuDNN's default is to round float32 convolutions to TF32 (10 bits of mantissa); the nets amplify that."""
    flags: Any = torch.backends.cudnn
    name: str = "allow_tf32"
    off: bool | str = False
    if hasattr(flags, "conv"):  # from torch 2.9 on; where a user has set this, the older flag cannot be read
        flags, name, off = flags.conv, "fp32_precision", "ieee"
    before = getattr(flags, name)
    setattr(flags, name, off)
    try:
        yield
    finally:
        setattr(flags, name, before)


class AudioVAE(nn.Module):
    """48 kHz mono waveforms to continuous latents and back."""

    def __init__(
        self,
        config: AudioVAEConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        """`operations` holds Conv1d and ConvTranspose1d: torch.nn, or a host's casting layers."""
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.config = config
        self.encoder = encoder(config, operations, **factory)
        self.quant_conv = operations.Conv1d(config.latent_dim, 2 * config.latent_dim, kernel_size=1, **factory)
        self.post_quant_conv = operations.Conv1d(config.latent_dim, config.latent_dim, kernel_size=1, **factory)
        self.decoder = Decoder(config, operations, **factory)

    @without_tf32()
    def encode(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """waveform [B, 1, N] in -1..1 -> (mean, logvar), each [B, latent_dim, ceil(N / hop)].

        The waveform is padded with zeros to a multiple of the hop.
        """
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % self.config.hop))
        mean, logvar = self.quant_conv(self.encoder(waveform)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    @without_tf32()
    def decode(self, latent: Tensor) -> Tensor:
        """latent [B, latent_dim, L] -> waveform [B, 1, hop * L] in -1..1."""
        return self.decoder(self.post_quant_conv(latent))


def plain_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold weight-norm pairs into plain weights: w = g * v / |v|, the norm over all but the first axis.

    Accepts both spellings: `weight_g` / `weight_v`, and `parametrizations.weight.original0` / `original1`.
    """
    plain = {}
    for name, tensor in state.items():
        spelling = next((pair for pair in WEIGHT_NORM if name.endswith(pair[1])), None)
        if spelling:
            stem = name.removesuffix(spelling[1])
            plain[stem + "weight"] = torch._weight_norm(tensor, state[stem + spelling[0]], 0)
        elif not name.endswith(tuple(pair[0] for pair in WEIGHT_NORM)):
            plain[name] = tensor
    return plain


# (magnitude, direction)
WEIGHT_NORM = [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
