"""The bridge: in front of a block, each tower attends to the other's tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .config import BridgeConfig
from .elementwise import add_gated
from .kernels import Kernels
from .layers import CrossAttention
from .recording import held
from .rope import Rotation
from .video_memory import VideoMemory


class Conditioner(nn.Module):
    """Cross-attention from one tower's tokens to the other's, which are normalised first."""

    def __init__(self, dim: int, context_dim: int, head_dim: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        eps = 1e-6  # fixed in the published code, whatever the towers use
        self.y_norm = operations.LayerNorm(context_dim, eps=eps, **factory)
        self.inner = CrossAttention(dim, context_dim, dim // head_dim, eps, operations, **factory)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        kernels: Kernels,
        rotation: Rotation | None = None,
        context_rotation: Rotation | None = None,
        keep: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """x [B, L, dim], y [B, S, context_dim] -> what to add to x, [B, L, dim]. `keep` gets keys and values of y."""
        y = self.y_norm(y)
        if keep is None:
            return self.inner(x, y, kernels=kernels, rotation=rotation, context_rotation=context_rotation)
        keys, values = self.inner.keys_and_values(y, kernels, context_rotation)
        del y
        keep(keys, values)
        return self.inner.attend(x, keys, values, kernels, rotation)


# How much a direction of the bridge brings; a tensor [] where torch.compile must not take it for a constant.
Scale = float | Tensor


@dataclass(frozen=True, eq=False)
class BridgeInput:
    """What every layer of the bridge gets beside the tokens; the same throughout one forward."""

    kernels: Kernels
    video_rotation: Rotation | None = None
    audio_rotation: Rotation | None = None
    a2v_scale: Scale = 1.0
    v2a_scale: Scale = 1.0
    memory: VideoMemory | None = None  # gets what the audio attends to, where it does


def is_off(scale: Scale) -> bool:
    return not isinstance(scale, Tensor) and scale == 0


def add_scaled(x: Tensor, update: Tensor, scale: Scale) -> Tensor:
    """x + scale * update, in place where no gradients are recorded."""
    if isinstance(scale, Tensor):
        return add_gated(x, update, scale.to(x.dtype))
    return x.add(update, alpha=scale) if held(x) else x.add_(update, alpha=scale)


class ByLayer(nn.ModuleDict):
    """Modules by a layer's number or its name: ComfyUI's bypass LoRA loaders look up "0" as 0."""

    def __getitem__(self, layer: int | str) -> nn.Module:
        return super().__getitem__(str(layer))

    def __contains__(self, layer: object) -> bool:
        return super().__contains__(str(layer))


class Bridge(nn.Module):
    """The conditioners of all interacting layers, in both directions."""

    def __init__(self, config: BridgeConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.config = config
        video, audio, head = config.visual_hidden_dim, config.audio_hidden_dim, config.head_dim

        def conditioners(dim: int, context_dim: int) -> ByLayer:
            return ByLayer({str(i): Conditioner(dim, context_dim, head, operations, **factory) for i in config.layers})

        self.audio_to_video_conditioners = conditioners(video, audio)
        self.video_to_audio_conditioners = conditioners(audio, video)

    def forward(self, layer: int, video: Tensor, audio: Tensor, given: BridgeInput) -> tuple[Tensor, Tensor]:
        """Video [B, L, video dim] and audio [B, S, audio dim], each updated from the other's old state.

        In place where no gradients are recorded.
        """
        if layer not in self.audio_to_video_conditioners:
            return video, audio
        to_video, to_audio = self.audio_to_video_conditioners[layer], self.video_to_audio_conditioners[layer]
        kernels, turns = given.kernels, (given.video_rotation, given.audio_rotation)
        # A direction whose scale is 0 adds nothing and is not computed. The small update waits for the large one.
        update = None
        if not is_off(given.v2a_scale):
            keep = None if given.memory is None else partial(given.memory.keep, layer)
            update = kernels.piece(lambda x, y: to_audio(x, y, kernels, *turns[::-1], keep), audio, video)
        if not is_off(given.a2v_scale):
            change = kernels.piece(lambda x, y: to_video(x, y, kernels, *turns), video, audio)
            video = add_scaled(video, change, given.a2v_scale)
            del change
        if update is not None:
            audio = add_scaled(audio, update, given.v2a_scale)
        return video, audio

    def look(self, layer: int, video: Tensor, given: BridgeInput) -> None:
        """What the audio attends to in the video, kept in given.memory; nothing is updated."""
        to_audio: Any = self.video_to_audio_conditioners[layer]
        if given.memory is not None and not is_off(given.v2a_scale):
            y = to_audio.y_norm(video)
            given.memory.keep(layer, *to_audio.inner.keys_and_values(y, given.kernels, given.video_rotation))

    def remember(self, layer: int, audio: Tensor, memory: VideoMemory, given: BridgeInput) -> Tensor:
        """The audio's update alone, from what is kept of the video; in place where no gradients are recorded."""
        if layer not in memory.layers or is_off(given.v2a_scale):
            return audio
        to_audio: Any = self.video_to_audio_conditioners[layer]
        update = to_audio.inner.attend(audio, *memory.read(layer, audio.device), given.kernels, given.audio_rotation)
        return add_scaled(audio, update, given.v2a_scale)
