"""The joint model as ComfyUI calls its diffusion models: what people plug in finds its place around each layer."""

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.ops
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...mova import JointModel, MovaConfig
from ...mova.attention import Attention
from ...mova.audio_shift import shift_audio
from ...mova.joint import Layer, Rotations, RunLayer

try:  # fetches weights ahead of the layers that need them, where the host has dynamic VRAM
    from comfy import model_prefetch
except ImportError:
    model_prefetch = None


class HostModel(JointModel):
    """The joint model, called as the host calls its diffusion models."""

    def __init__(
        self, mova_config: MovaConfig, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        if operations is comfy.ops.disable_weight_init:
            # Its layers refuse inputs of another dtype, but the timestep is embedded in float32 on weights in bf16.
            operations = comfy.ops.manual_cast
        # The host's fast fp8 layers clamp their inputs in place.
        bridge_operations = comfy.ops.manual_cast if operations is comfy.ops.fp8_ops else operations
        super().__init__(mova_config, dtype, device, operations, cast_inputs=False, bridge_operations=bridge_operations)
        self.dtype = dtype

    def forward(
        self,
        x: list[Tensor],
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """x: video [B, 16, T, H, W] and audio [B, 128, L]; timestep [B] in 0..1000. Returns both velocities."""
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self.velocities, self, wrappers)
        return executor.execute(x, timestep, context, options, **kwargs)

    def velocities(
        self,
        x: list[Tensor],
        timestep: Tensor,
        context: Tensor,
        transformer_options: dict[str, Any],
        condition: Tensor,
        frame_rate: float = 24.0,
        audio_shift_ratio: float = 1.0,
        a2v_scale: float = 1.0,
        v2a_scale: float = 1.0,
        **_: Any,
    ) -> list[Tensor]:
        """condition [B, 20, T, H, W]: mask and image latents; for audio_shift_ratio see mova/audio_shift.py."""
        audio, audio_timestep, finish = shift_audio(x[1], timestep, audio_shift_ratio)
        video, audio = super().forward(
            torch.cat([x[0], condition], dim=1),
            audio,
            timestep,
            audio_timestep,
            context,
            frame_rate,
            a2v_scale,
            v2a_scale,
            attention=attention_with(transformer_options),
            run_layer=self.layer_runner(transformer_options, x[0]),
        )
        return [video, finish(audio)]

    @torch.compiler.disable  # computed on the processor: torch.compile would want a C++ compiler for it
    def rotations(self, *args: Any) -> Rotations:
        """As the model's."""
        return super().rotations(*args)

    def layer_runner(self, transformer_options: dict[str, Any], video: Tensor) -> RunLayer:
        """What is done around each layer: fetch the next one's weights, and let patches replace it."""
        patch = self.config.patch_size
        transformer_options["grid_sizes"] = torch.Size(n // p for n, p in zip(video.shape[2:], patch, strict=True))
        transformer_options["total_blocks"] = len(self.blocks)
        transformer_options["block_type"] = "double"
        replacements = transformer_options.get("patches_replace", {}).get("dit", {})
        queue = None
        if model_prefetch is not None:
            queue = model_prefetch.make_prefetch_queue(self.layer_modules(), video.device, transformer_options)

        def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
            transformer_options["block_index"] = index
            if queue is not None:
                model_prefetch.prefetch_queue_pop(queue, video.device, None)
            replacement = replacements.get(("double_block", index))
            tokens = (
                layer(video, audio)
                if replacement is None
                else replaced(replacement, layer, video, audio, transformer_options)
            )
            if queue is not None and index == len(self.blocks) - 1:
                model_prefetch.prefetch_queue_pop(queue, video.device, None)
            return tokens

        return run_layer

    def layer_modules(self) -> list[nn.Module]:
        """For each layer, the modules that it runs: blocks of the towers, and the bridge in front of them."""
        bridge = self.dual_tower_bridge
        layers = []
        for i, block in enumerate(self.blocks):
            parts = [block]
            if i < len(self.audio_dit.blocks):
                parts.append(self.audio_dit.blocks[i])
            for side in (bridge.audio_to_video_conditioners, bridge.video_to_audio_conditioners):
                if str(i) in side:
                    parts.append(side[str(i)])
            layers.append(nn.ModuleList(parts))
        return layers


def attention_with(transformer_options: dict[str, Any]) -> Attention:
    """The host's attention, or what has been plugged in for it."""

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return host_attention.optimized_attention(q, k, v, heads, transformer_options=transformer_options)

    return attention


def replaced(
    replacement: Callable, layer: Layer, video: Tensor, audio: Tensor, transformer_options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Run a patch in place of a layer. It gets Wan's arguments ("img": video tokens) and "audio": audio tokens.

    A patch that knows only of "img" and does not call the layer leaves out the audio's layer, too.
    """
    done: dict[str, Tensor] = {"audio": audio}

    def original(args: dict[str, Any]) -> dict[str, Tensor]:
        # Copies: the layer works in place, and the patch may still need what it passed.
        img, sound = layer(args["img"].clone(), args.get("audio", audio).clone())
        done["audio"] = sound
        return {"img": img, "audio": sound}

    args = {"img": video, "audio": audio, "txt": None, "vec": None, "pe": None}
    out = replacement({**args, "transformer_options": transformer_options}, {"original_block": original})
    return out["img"], out.get("audio", done["audio"])
