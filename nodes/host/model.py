"""The joint model as ComfyUI calls its diffusion models: what people plug in finds its place around each layer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.ops
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...mova import JointModel, MovaConfig
from ...mova.model.bridge import Scale
from ...mova.model.joint import AudioLayer, KernelsByPlace, Layer, Rotations, RunAudioLayer, RunLayer
from ...mova.model.layers import CrossAttention, patches
from ...mova.model.video_memory import VideoMemory, byte_count
from ...mova.sampling.audio_shift import shift_audio
from .audio_steps import KEY, Memories
from .hooks import Hooks, Replacements, after_block, find, plug
from .kernels import kernels_by_place, kernels_of, options_of, say_block
from .rope import OwnEmbedder, plugged_turn
from .settings import Settings

try:  # fetches weights ahead of the layers that need them, where the host has dynamic VRAM
    from comfy import model_prefetch
except ImportError:
    model_prefetch = None


class HostModel(JointModel):
    """The joint model, called as the host calls its diffusion models."""

    model_type = "t2v"  # as packs ask the host's Wan: without picture tokens in the text

    def __init__(
        self,
        mova_config: MovaConfig,
        dtype: torch.dtype,
        device: Any = None,
        operations: Any = None,
        other: JointModel | None = None,
        **_: Any,
    ) -> None:
        if operations is comfy.ops.disable_weight_init:
            # Its layers refuse inputs of another dtype, but the timestep is embedded in float32 on weights in bf16.
            operations = comfy.ops.manual_cast
        # The host's fast fp8 layers clamp their inputs in place.
        bridge_operations = comfy.ops.manual_cast if operations is comfy.ops.fp8_ops else operations
        super().__init__(
            mova_config, dtype, device, operations,
            cast_inputs=False, bridge_operations=bridge_operations, other=other,
        )  # fmt: skip
        self.dtype = dtype
        # Attributes that packs read of the host's Wan, and the one that they replace.
        video = mova_config.video_dit
        self.dim, self.ffn_dim, self.num_heads, self.num_layers = (
            video.dim, video.ffn_dim, video.num_heads, video.num_layers,
        )  # fmt: skip
        self.patch_size, self.in_dim, self.out_dim, self.freq_dim = (
            video.patch_size, video.in_dim, video.out_dim, video.freq_dim,
        )  # fmt: skip
        self.rope_embedder = OwnEmbedder(video.head_dim)
        for module in self.modules():
            if isinstance(module, CrossAttention):
                module.kernels_of = kernels_of

    def forward(  # type: ignore[override]
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
        # In the order of the host's Wan: wrappers look for transformer_options in the sixth place, or in the last.
        return executor.execute(x, timestep, context, None, None, options, **kwargs)

    def velocities(
        self,
        x: list[Tensor],
        timestep: Tensor,
        context: Tensor,
        clip_fea: None,
        time_dim_concat: None,
        transformer_options: dict[str, Any],
        condition: Tensor,
        frame_rate: float = 24.0,
        settings: Settings | None = None,
        audio_context: Tensor | None = None,
        **named: float,
    ) -> list[Tensor]:
        """condition [B, 20, T, H, W]: mask and image latents; audio_context: text features of the audio tower's own.
        Settings may be named, too.

        clip_fea and time_dim_concat are of the host's Wan, and of no use here.
        """
        if settings is None:
            settings = Settings.named(named)
        latents = torch.cat([x[0], condition], dim=1)
        patch = self.sizes.patch_size
        grid = torch.Size(n // p for n, p in zip(latents.shape[2:], patch, strict=True))
        transformer_options["grid_sizes"] = grid
        transformer_options["total_blocks"] = len(self.blocks)
        transformer_options["block_type"] = "double"
        used = kernels_by_place(transformer_options)
        compiled, size = torch.compiler.is_compiling(), (grid, x[1].shape[-1], frame_rate, latents.device)
        rotations, hooks, (ratio, a2v_scale, v2a_scale) = self.prepare(compiled, size, settings, used)
        audio, audio_timestep, finish = shift_audio(x[1], timestep, ratio)
        memories: Memories | None = transformer_options.get(KEY)
        uuids = transformer_options.get("uuids", ())
        if memories is not None and memories.teaching:
            text = context if audio_context is None else self.embed_text(context, audio_context)
            given = (latents, audio, timestep, audio_timestep, text)
            run = self.layer_runner(transformer_options, latents, used, hooks, prefetch=False)
            self.teach(memories, uuids, grid, given, (frame_rate, a2v_scale, v2a_scale, used, run, rotations))
            return [torch.zeros_like(part) for part in x]
        if memories is not None and not memories.recording:
            heard = self.audio_dit.text_embedding(context if audio_context is None else audio_context)
            kept, run_alone = memories.of(transformer_options["uuids"]), self.audio_runner(used, hooks)
            alone = (audio, audio_timestep, heard, kept, rotations, v2a_scale, used, run_alone)
            return [torch.zeros_like(x[0]), finish(self.audio_velocity(*alone))]
        run, tokens, memory = self.layer_runner(transformer_options, latents, used, hooks), None, None
        first = memories.teacher.first if memories is not None and memories.teacher is not None else None
        if memories is not None and first != 0:
            memory = self.new_memory(memories, latents, grid, uuids)
            memory.until = first
        if memories is not None and first:
            run = tokens = memories.tokens_at(first, run, uuids, len(latents))
        video, audio = super().forward(
            latents,
            audio,
            timestep,
            audio_timestep,
            context if audio_context is None else self.embed_text(context, audio_context),
            frame_rate,
            a2v_scale,
            v2a_scale,
            kernels=used,
            run_layer=run,
            rotations=rotations,
            memory=memory,
        )
        if memories is not None and memory is not None:
            memories.take(memory, uuids, len(latents))
        if memories is not None and tokens is not None:
            memories.take_tokens(tokens, uuids)
        return [video, finish(audio)]

    def teach(
        self,
        memories: Memories,
        uuids: Sequence[Any],
        grid: torch.Size,
        given: tuple[Any, ...],
        others: tuple[Any, ...],
    ) -> None:
        """A teacher's pass (JointModel.look, which gets what is `given`, memory, and the others)."""
        first = memories.teacher.first if memories.teacher is not None else 0
        before = memories.of(uuids).layers if first else {}
        memory = self.new_memory(memories, given[0], grid, uuids)
        memory.layers |= before
        tokens = memories.given_tokens(uuids) if first else None
        look: Any = self.look  # mypy cannot count what is given
        look(*given, memory, *others, first=first, tokens=tokens)
        memories.take(memory, uuids, len(given[0]))

    def new_memory(self, memories: Memories, latents: Tensor, grid: torch.Size, uuids: Sequence[Any]) -> VideoMemory:
        """For one evaluation, of as many conditionings as are in its batch."""
        bridge, item = self.dual_tower_bridge.config, 1 if memories.fp8 else latents.element_size()
        size = byte_count(len(latents) * grid.numel(), bridge.audio_hidden_dim, len(bridge.layers), item)
        return memories.new(latents.device, size, uuids)

    def audio_runner(self, used: KernelsByPlace, hooks: Hooks) -> RunAudioLayer:
        """What is done around each layer of the audio alone: the host fetches weights as they are needed."""

        def run(index: int, layer: AudioLayer, audio: Tensor) -> Tensor:
            say_block(used, index)
            if hooks.audio is not None:
                layer = replace(layer, audio=replace(layer.audio, plugged=hooks.audio[index]))
            return layer(audio)

        return run

    @torch.compiler.disable  # type: ignore[untyped-decorator] # computed on the processor: torch.compile would want a C++ compiler for it
    def prepare(
        self,
        compiled: bool,
        size: tuple[tuple[int, ...], int, float, torch.device],
        settings: Settings,
        used: KernelsByPlace,
    ) -> tuple[Rotations, Hooks, tuple[Scale, Scale, Scale]]:
        """What is the same in all layers, and what others have plugged into some of them. size: as of rotations."""
        rotations = self.rotations(*size)
        grid, _, _, device = size
        rope_options = options_of(used.video).get("rope_options")
        turn = plugged_turn(self.rope_embedder, rope_options, grid, self.sizes.head_dim, device)
        if turn is not None:
            rotations = rotations._replace(video=turn)
        turns = rotations.video, rotations.audio
        hooks = find(self.blocks, self.audio_dit.blocks, turns, used)
        return rotations, hooks, settings.held(compiled, device)

    def layer_runner(
        self,
        transformer_options: dict[str, Any],
        latents: Tensor,
        used: KernelsByPlace,
        hooks: Hooks,
        prefetch: bool = True,
    ) -> RunLayer:
        """What is done around each layer: fetch the next one's weights, and call what is plugged in.

        prefetch: as all layers follow each other from the first to the last.
        """
        functions = transformer_options.get("patches_replace", {}).get("dit", {})
        replacements, after = Replacements(functions, transformer_options), patches(transformer_options, "double_block")
        modules, queue, device = [], None, latents.device
        if model_prefetch is not None and prefetch:
            modules = self.layer_modules()
            queue = model_prefetch.make_prefetch_queue(modules, device, transformer_options)

        def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
            say_block(used, index)
            if queue is not None:
                model_prefetch.prefetch_queue_pop(queue, device, modules[index])
            layer = plug(layer, hooks)
            video, audio = replacements.run(layer, video, audio) if functions else layer(video, audio)
            if after:
                video = after_block(after, layer, video, latents, transformer_options)
            if queue is not None and index == len(self.blocks) - 1:
                model_prefetch.prefetch_queue_pop(queue, device, None)
            return video, audio

        return run_layer

    def layer_modules(self) -> list[nn.Module]:
        """For each layer, the modules that it runs: blocks of the towers, and the bridge in front of them."""
        bridge = self.dual_tower_bridge
        layers: list[nn.Module] = []
        for i, block in enumerate(self.blocks):
            parts = [block]
            if i < len(self.audio_dit.blocks):
                parts.append(self.audio_dit.blocks[i])
            for side in (bridge.audio_to_video_conditioners, bridge.video_to_audio_conditioners):
                if str(i) in side:
                    parts.append(side[str(i)])
            layers.append(nn.ModuleList(parts))
        return layers
