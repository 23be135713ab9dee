"""A tower: the Wan diffusion transformer over video latents (three axes) or audio latents (one axis).

Module and parameter names are Wan's, so that its LoRAs and patches find them.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import is_short
from .config import TowerConfig
from .elementwise import add_gated, modulated_norm
from .kernels import Kernels
from .layers import CrossAttention, SelfAttention, linear_as, patches, timestep_sinusoid
from .recording import held
from .rope import Turn, from_wan

BLOCK_PARTS = "self_attn", "cross_attn", "ffn"


@dataclass(frozen=True, eq=False)
class Plugged:
    """What a host's packs have plugged into a block: these of its parts are called as those of ComfyUI's Wan."""

    parts: frozenset[str]  # of BLOCK_PARTS, and "block": the whole of it
    freqs: Tensor | None  # the rotation as matrices (rope.to_wan); None where no part is given it
    transformer_options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class BlockInput:
    """What every block of a tower gets beside the tokens; the same throughout one forward, but for `plugged`."""

    context: Tensor  # embedded text [B, tokens, dim]
    modulation: Tensor  # of the timestep [B, 6, dim]
    rotation: Turn
    kernels: Kernels
    plugged: Plugged | None = None


class Block(nn.Module):
    """Self-attention, cross-attention to the text, MLP."""

    # Attributes that node packs read of ComfyUI's Wan.
    window_size = (-1, -1)
    qk_norm = cross_attn_norm = True

    def __init__(self, config: TowerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        dim, heads, eps = config.dim, config.num_heads, config.eps
        self.dim, self.ffn_dim, self.num_heads, self.eps = dim, config.ffn_dim, heads, eps
        # For packs that bring a forward of their own; ours are in modulated_norm.
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps, elementwise_affine=False) for _ in range(2))
        self.self_attn = SelfAttention(dim, heads, eps, operations, **factory)
        self.cross_attn = CrossAttention(dim, dim, heads, eps, operations, **factory)
        self.norm3 = operations.LayerNorm(dim, eps=eps, **factory)
        self.ffn = nn.Sequential(
            operations.Linear(dim, config.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.ffn_dim, dim, **factory),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim, **factory))

    def forward(self, x: Tensor, given: BlockInput | None = None, **as_wan: Any) -> Tensor:
        """Update the tokens x [B, L, dim] and return them: in place where no gradients are recorded.

        A pack that has replaced this method may call it as ComfyUI's Wan is called (see wan_input): x stays as it was.
        """
        if given is None:
            x, given = x.clone(), self.wan_input(**as_wan)
        modulation = self.modulation.to(given.modulation) + given.modulation
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(6, dim=1)
        if given.plugged is not None:
            return self.as_wan(x, given, given.plugged, (shift, scale, gate, mlp_shift, mlp_scale, mlp_gate))
        x = add_gated(x, self.attended(x, given, shift, scale), gate)
        x = add_gated(x, self.told(x, given))
        return self.add_mlp(x, mlp_shift, mlp_scale, mlp_gate, given.kernels)

    def attended(self, x: Tensor, given: BlockInput, shift: Tensor, scale: Tensor) -> Tensor:
        """What self-attention gives, before its gate."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, given.rotation, modulation=(shift, scale), kernels=given.kernels)

        return given.kernels.piece(attend, x)

    def told(self, x: Tensor, given: BlockInput) -> Tensor:
        """What cross-attention to the text gives."""
        return given.kernels.piece(lambda x: self.cross_attn(self.norm3(x), given.context, kernels=given.kernels), x)

    def add_mlp(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, kernels: Kernels) -> Tensor:
        """The MLP's part of forward. Each norm is dropped before the GELU, which is done in place."""

        def mlp(rows: Tensor) -> Tensor:
            hidden = self.ffn[0](modulated_norm(rows, shift, scale, self.eps))
            return kernels.gelu_linear(self.ffn[2], hidden)

        blocks = x.chunk(1 if is_short(x) else kernels.mlp_blocks, dim=1)
        if held(x):
            made = [kernels.piece(mlp, rows) for rows in blocks]
            return add_gated(x, made[0] if len(made) == 1 else torch.cat(made, dim=1), gate)
        for rows in blocks:
            add_gated(rows, mlp(rows), gate)
        return x

    def as_wan(self, x: Tensor, given: BlockInput, plugged: Plugged, modulation: tuple[Tensor, ...]) -> Tensor:
        """forward, with the parts that others have replaced called as ComfyUI's Wan calls them."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        options = {"transformer_options": plugged.transformer_options}
        if "self_attn" in plugged.parts:
            out = self.self_attn(modulated_norm(x, shift, scale, self.eps), plugged.freqs, **options)
        else:
            out = self.attended(x, given, shift, scale)
        x = add_gated(x, out, gate)
        del out
        if "cross_attn" in plugged.parts:
            x = add_gated(x, self.cross_attn(self.norm3(x), given.context, context_img_len=None, **options))
        else:
            x = add_gated(x, self.told(x, given))
        for patch in patches(plugged.transformer_options, "attn2_patch"):
            x = patch({"x": x.clone(), **options}).clone()  # others may keep what they get and give
        if "ffn" in plugged.parts:
            return add_gated(x, self.ffn(modulated_norm(x, mlp_shift, mlp_scale, self.eps)), mlp_gate)
        return self.add_mlp(x, mlp_shift, mlp_scale, mlp_gate, given.kernels)

    def wan_input(
        self,
        e: Tensor,
        freqs: Tensor,
        context: Tensor,
        transformer_options: dict[str, Any] | None = None,
        context_img_len: int | None = None,
    ) -> BlockInput:
        """The arguments of ComfyUI's Wan: modulation [B, 1, 6, dim], matrices (rope.to_wan), embedded text."""
        plugged = Plugged(frozenset(BLOCK_PARTS), freqs, transformer_options or {})
        kernels = self.self_attn.kernels_of(transformer_options)
        modulation = e.squeeze(1) if e.ndim == 4 else e
        return BlockInput(context, modulation, from_wan(freqs), kernels, plugged)


def run_block(block: nn.Module, x: Tensor, given: BlockInput) -> Tensor:
    """A block, or what a pack has put in the place of its forward, which is called as ComfyUI's Wan calls it."""
    plugged = given.plugged
    if plugged is None or "block" not in plugged.parts:
        return block(x, given)
    named = {"e": given.modulation[:, None], "freqs": plugged.freqs, "context": given.context}
    out = block(x, **named, context_img_len=None, transformer_options=plugged.transformer_options)
    return out.clone()  # the next layer works in place, and the pack may keep what it gave


class Head(nn.Module):
    """Modulated LayerNorm and a linear layer to the patches of the velocity."""

    def __init__(self, config: TowerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.eps = config.eps
        self.head = operations.Linear(config.dim, config.out_dim * math.prod(config.patch_size), **factory)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim, **factory))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Tokens x [B, L, dim] and the embedded timestep [B, dim] -> patches [B, L, out_dim * patch]."""
        shift, scale = (self.modulation.to(time) + time[:, None]).chunk(2, dim=1)
        return self.head(modulated_norm(x, shift, scale, self.eps))


class Tower(nn.Module):
    """Embeddings, blocks and head of one modality."""

    def __init__(self, config: TowerConfig, operations: Any, cast_inputs: bool, **factory: Any) -> None:
        """cast_inputs: bring inputs and weights to one dtype, as torch's layers need. Not for a host's layers, which
        cast their weights to their inputs themselves.
        """
        super().__init__()
        dim, patch = config.dim, config.patch_size
        self.sizes, self.cast_inputs = config, cast_inputs
        conv = operations.Conv3d if len(patch) == 3 else operations.Conv1d
        self.patch_embedding = conv(config.in_dim, dim, kernel_size=patch, stride=patch, **factory)
        self.text_embedding = nn.Sequential(
            operations.Linear(config.text_dim, dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(dim, dim, **factory),
        )
        self.time_embedding = nn.Sequential(
            operations.Linear(config.freq_dim, dim, **factory), nn.SiLU(), operations.Linear(dim, dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), operations.Linear(dim, dim * 6, **factory))
        self.blocks = nn.ModuleList(Block(config, operations, **factory) for _ in range(config.num_layers))
        self.head = Head(config, operations, **factory)

    def embed_time(self, timestep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Timesteps [B] -> embedding [B, dim] for the head and modulation [B, 6, dim] for the blocks.

        Computed in float32, then cast to dtype, as the published pipeline does.
        """
        x = timestep_sinusoid(timestep, self.sizes.freq_dim)
        for layer in self.time_embedding:
            x = linear_as(layer, x, self.cast_inputs)
        modulation = x
        for layer in self.time_projection:
            modulation = linear_as(layer, modulation, self.cast_inputs)
        return x.to(dtype), modulation.to(dtype).unflatten(1, (6, self.sizes.dim))

    def patchify(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Latents [B, in_dim, *axes] -> tokens [B, L, dim] in row-major order, and the grid of patches."""
        x = self.patch_embedding(x)
        return x.flatten(2).transpose(1, 2).contiguous(), tuple(x.shape[2:])

    def unpatchify(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Patches [B, L, patch * out_dim] -> velocity [B, out_dim, *axes]."""
        # A one-dimensional grid is a three-dimensional one with two axes of length 1.
        ones = (1,) * (3 - len(grid))
        (t, h, w), (p, q, r) = (*grid, *ones), (*self.sizes.patch_size, *ones)
        out = rearrange(x, "b (t h w) (p q r c) -> b c (t p) (h q) (w r)", t=t, h=h, w=w, p=p, q=q, r=r)
        return out.flatten(2) if ones else out
