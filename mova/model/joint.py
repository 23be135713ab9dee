"""The joint model: one video expert, the audio tower and the bridge, in one module.

Its state dict is the checkpoint: the video tower's names at the root, `audio_dit.*` and `dual_tower_bridge.*`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .bridge import Bridge, BridgeInput, Scale
from .config import MovaConfig
from .kernels import Kernels
from .rope import Rotation, Turn, TurnHalves, Window, bridge_times, time_table, tower_turn
from .tower import BlockInput, Tower, run_block
from .video_memory import VideoMemory


class Text(NamedTuple):
    """A prompt's UMT5 features embedded for each tower: [B, tokens, video dim] and [B, tokens, audio dim]."""

    video: Tensor
    audio: Tensor


class Rotations(NamedTuple):
    """The rotary embeddings of one clip size: each tower's own, and (video, audio) for the bridge."""

    video: Turn
    audio: Turn
    bridge: tuple[Rotation | None, Rotation | None]


class KernelsByPlace(NamedTuple):
    """For hosts that tell the three apart."""

    video: Kernels
    audio: Kernels
    bridge: Kernels


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: the bridge, then a block of each tower. Called with video and audio tokens, it updates them: in place
    where no gradients are recorded.

    A host may call one with other inputs (dataclasses.replace).
    """

    index: int
    model: "JointModel"
    time: Tensor  # embedded timestep [B, video dim]
    video: BlockInput
    audio: BlockInput
    bridge: BridgeInput

    def __call__(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        block, others = self.model.blocks[self.index], self.model.audio_dit.blocks
        if self.index >= len(others):
            return run_block(block, video, self.video), audio
        video, audio = self.model.dual_tower_bridge(self.index, video, audio, self.bridge)
        return run_block(block, video, self.video), run_block(others[self.index], audio, self.audio)


def block_inputs(
    text: Text, video: Tensor, audio: Tensor, rotations: Rotations, used: KernelsByPlace
) -> tuple[BlockInput, BlockInput]:
    """What the blocks of each tower get beside their tokens, with its modulation; the same in all layers."""
    return (
        BlockInput(text.video, video, rotations.video, used.video),
        BlockInput(text.audio, audio, rotations.audio, used.audio),
    )


# (layer index, the layer, video tokens, audio tokens) -> their new values.
RunLayer = Callable[[int, Layer, Tensor, Tensor], tuple[Tensor, Tensor]]


def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """The seam around each layer: a host puts its patches, prefetching and interruption here."""
    return layer(video, audio)


@dataclass(frozen=True, eq=False)
class AudioLayer:
    """A layer of the audio alone, against what is kept of the video. Called with audio tokens, it updates them."""

    index: int
    model: "JointModel"
    memory: VideoMemory
    audio: BlockInput
    bridge: BridgeInput

    def __call__(self, audio: Tensor) -> Tensor:
        audio = self.model.dual_tower_bridge.remember(self.index, audio, self.memory, self.bridge)
        return run_block(self.model.audio_dit.blocks[self.index], audio, self.audio)


# (layer index, the layer, audio tokens) -> their new values.
RunAudioLayer = Callable[[int, AudioLayer, Tensor], Tensor]


def run_audio_layer(index: int, layer: AudioLayer, audio: Tensor) -> Tensor:
    return layer(audio)


class JointModel(Tower):
    """One denoising expert of MOVA. Token tensors are updated in place, but where gradients are recorded."""

    def __init__(
        self,
        config: MovaConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
        kernels: Kernels | None = None,
        cast_inputs: bool = True,
        bridge_operations: Any = None,
        other: "JointModel | None" = None,
    ) -> None:
        """`operations` holds Linear, Conv1d, Conv3d, LayerNorm and RMSNorm: torch.nn's, or others of their kind.

        cast_inputs: see Tower. bridge_operations: others for the bridge, whose layers must leave their inputs alone: it
        gives them the tokens themselves, without a norm in between. other: the other expert, whose audio tower and
        bridge this one calls; they stay that one's, in its state dict alone.
        """
        factory = {"dtype": dtype, "device": device}
        super().__init__(config.video_dit, operations, cast_inputs, **factory)
        if other is None:
            self.audio_dit = Tower(config.audio_dit, operations, cast_inputs, **factory)
            self.dual_tower_bridge = Bridge(config.dual_tower_bridge, bridge_operations or operations, **factory)
        else:  # past the registration of modules, which would count them as this one's, too
            self.__dict__ |= {"audio_dit": other.audio_dit, "dual_tower_bridge": other.dual_tower_bridge}
        self.config, self.kernels = config, kernels or Kernels()
        self.last_rotations: tuple[Any, Rotations] | None = None

    def embed_text(self, context: Tensor, audio_context: Tensor | None = None) -> Text:
        """UMT5 features [B, tokens, text] -> what forward takes; worth keeping for a prompt used in many steps.

        audio_context: those of a text of the audio tower's own, as Prism was trained with; None: the same.
        """
        audio_context = context if audio_context is None else audio_context
        if self.cast_inputs:
            dtype = next(self.text_embedding.parameters()).dtype
            context, audio_context = context.to(dtype), audio_context.to(dtype)
        return Text(self.text_embedding(context), self.audio_dit.text_embedding(audio_context))

    def rotations(self, grid: tuple[int, ...], length: int, fps: float | Window, device: torch.device) -> Rotations:
        """The rotary embeddings for a patch grid (t, h, w) and a number of audio latents; the last are remembered."""
        # Tables made in inference mode cannot be used where gradients are recorded.
        key = (grid, length, fps, device, torch.is_inference_mode_enabled())
        if self.last_rotations is None or self.last_rotations[0] != key:
            bridge = self.dual_tower_bridge.config
            cross: tuple[Rotation | None, Rotation | None] = (None, None)
            if bridge.apply_cross_rope:
                bias = bridge.apply_first_frame_bias_in_rope
                times = bridge_times(grid[0], length, fps, bridge.audio_fps, bias)
                video, audio = (time_table(moments, bridge.head_dim, device) for moments in times)
                cross = TurnHalves(video, grid[1] * grid[2]), TurnHalves(audio)
            towers = (
                tower_turn(grid, self.sizes.head_dim, device),
                tower_turn((length,), self.audio_dit.sizes.head_dim, device),
            )
            self.last_rotations = key, Rotations(*towers, cross)
        return self.last_rotations[1]

    def forward(
        self,
        video: Tensor,
        audio: Tensor,
        video_timestep: Tensor,
        audio_timestep: Tensor,
        context: Tensor | Text,
        fps: float | Window = 24.0,
        a2v_scale: Scale = 1.0,
        v2a_scale: Scale = 1.0,
        kernels: KernelsByPlace | None = None,
        run_layer: RunLayer = run_layer,
        rotations: Rotations | None = None,
        memory: VideoMemory | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Flow velocities (noise - data) of both modalities.

        video [B, 36, T, H, W]: 16 noisy latent channels, 4 mask, 16 condition; audio [B, 128, L]; timesteps [B] in
        0..1000; context: UMT5 features [B, tokens, text], or embed_text of them; fps: of the clip, or which part of it
        this is; the scales weigh what the bridge brings from audio to video and from video to audio; rotations: others
        than the model's own; memory: gets what the audio attends to in the video, for audio_velocity. Returns
        [B, 16, T, H, W] and [B, 128, L].
        """
        used = kernels or KernelsByPlace(self.kernels, self.kernels, self.kernels)
        text = context if isinstance(context, Text) else self.embed_text(context)
        dtype = text.video.dtype
        video_time, video_modulation = self.embed_time(video_timestep, dtype)
        audio_time, audio_modulation = self.audio_dit.embed_time(audio_timestep, dtype)
        video, video_grid = self.patchify(video.to(dtype))
        audio, audio_grid = self.audio_dit.patchify(audio.to(dtype))
        rotations = rotations or self.rotations(video_grid, audio_grid[0], fps, video.device)
        bridge = BridgeInput(used.bridge, *rotations.bridge, a2v_scale, v2a_scale, memory)
        inputs = block_inputs(text, video_modulation, audio_modulation, rotations, used)
        for i in range(len(self.blocks)):
            video, audio = run_layer(i, Layer(i, self, video_time, *inputs, bridge), video, audio)

        video = self.unpatchify(self.head(video, video_time), video_grid)
        return video, self.audio_dit.unpatchify(self.audio_dit.head(audio, audio_time), audio_grid)

    def look(
        self,
        video: Tensor,
        audio: Tensor,
        video_timestep: Tensor,
        audio_timestep: Tensor,
        context: Tensor | Text,
        memory: VideoMemory,
        fps: float | Window = 24.0,
        a2v_scale: Scale = 1.0,
        v2a_scale: Scale = 1.0,
        kernels: KernelsByPlace | None = None,
        run_layer: RunLayer = run_layer,
        rotations: Rotations | None = None,
        first: int = 0,
        tokens: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Into memory what the audio attends to in the video, from layer `first` on; as forward, without velocities.

        tokens: of video and audio in front of that layer, where another model has computed those before it; they are
        used up. Layers behind the last that the audio attends to are not computed.
        """
        used = kernels or KernelsByPlace(self.kernels, self.kernels, self.kernels)
        text = context if isinstance(context, Text) else self.embed_text(context)
        dtype = text.video.dtype
        time, modulation = self.embed_time(video_timestep, dtype)
        _, audio_modulation = self.audio_dit.embed_time(audio_timestep, dtype)
        grid = tuple(n // p for n, p in zip(video.shape[2:], self.sizes.patch_size, strict=True))
        rotations = rotations or self.rotations(grid, audio.shape[-1], fps, video.device)
        bridge = BridgeInput(used.bridge, *rotations.bridge, a2v_scale, v2a_scale, memory)
        inputs = block_inputs(text, modulation, audio_modulation, rotations, used)
        if tokens is None:
            video, audio = self.patchify(video.to(dtype))[0], self.audio_dit.patchify(audio.to(dtype))[0]
        else:
            video, audio = tokens
        last = max(self.dual_tower_bridge.config.layers)
        for i in range(first, last):
            video, audio = run_layer(i, Layer(i, self, time, *inputs, bridge), video, audio)
        self.dual_tower_bridge.look(last, video, bridge)

    def audio_velocity(
        self,
        audio: Tensor,
        timestep: Tensor,
        text: Tensor,
        memory: VideoMemory,
        rotations: Rotations,
        v2a_scale: Scale = 1.0,
        kernels: KernelsByPlace | None = None,
        run_layer: RunAudioLayer = run_audio_layer,
    ) -> Tensor:
        """The audio's flow velocity [B, 128, L] with the video's tokens as they were in the evaluation kept in memory.

        text: embedded for the audio tower; rotations: those of that evaluation. What forward would give with these
        tokens held, at the audio tower's cost.
        """
        used = kernels or KernelsByPlace(self.kernels, self.kernels, self.kernels)
        time, modulation = self.audio_dit.embed_time(timestep, text.dtype)
        audio, grid = self.audio_dit.patchify(audio.to(text.dtype))
        bridge = BridgeInput(used.bridge, *rotations.bridge, v2a_scale=v2a_scale)
        block = BlockInput(text, modulation, rotations.audio, used.audio)
        for i in range(len(self.audio_dit.blocks)):
            audio = run_layer(i, AudioLayer(i, self, memory, block, bridge), audio)
        return self.audio_dit.unpatchify(self.audio_dit.head(audio, time), grid)
