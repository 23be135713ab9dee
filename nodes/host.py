"""MOVA as one of ComfyUI's own models: how the host recognises, builds, conditions and runs it."""

from collections.abc import Callable
from typing import Any

import comfy.conds
import comfy.ldm.modules.attention as host_attention
import comfy.model_base
import comfy.ops
import comfy.patcher_extension
import comfy.quant_ops
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor, nn

from ..mova import JointModel, MovaConfig, MovaError, strict_json
from ..mova.attention import Attention
from ..mova.audio_shift import shift_audio
from ..mova.checkpoint import expected_shapes
from ..mova.config import RELEASED
from ..mova.joint import Layer, Rotations, RunLayer
from .checks import check_conditioning, check_image_fits, check_latent_shapes, check_noise
from .latent_format import MovaLatents

try:  # fetches weights ahead of the layers that need them, where the host has dynamic VRAM
    from comfy import model_prefetch
except ImportError:
    model_prefetch = None

# What a conditioning can say of the two towers, by the names of velocities' arguments, after "mova_"; all are 1 if not
# said. Not in the host's transformer_options, which torch.compile is told to take as they are in the first step.
SETTINGS = ("audio_shift_ratio", "a2v_scale", "v2a_scale")
MASK_CHANNELS = 4  # of the image condition: one for each frame of a latent frame
CONFIG_PARTS = ("video_dit", "audio_dit", "dual_tower_bridge")

# Activations at their peak in bf16 (benchmarks/peak_memory.py): 2.10 GiB at 640x352x193 and 8.53 GiB at 1280x720x193,
# which is the same 0.039 of the host's unit (0.02 MiB for each number in the packed latent in bf16) at both sizes.
ACTIVATION_FACTOR = 0.04


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


class MOVA(comfy.model_base.BaseModel):
    """One expert with audio tower and bridge, as the host's samplers see it."""

    def __init__(self, model_config: Any, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostModel)
        # "high_noise" or "low_noise", if the file says.
        self.expert: str | None = model_config.unet_config.get("expert")

    @property
    def mova_config(self) -> MovaConfig:
        return self.model_config.unet_config["mova_config"]

    def load_model_weights(self, sd: dict[str, Tensor], unet_prefix: str = "", assign: bool = False) -> "MOVA":
        """Take the weights as they are, mapped from their file; the host copies them where it has no dynamic VRAM.

        Audio tower and bridge of a released folder are then in memory once, too, though both experts have them.
        """
        if not assign and self.model_config.quant_config is None:
            for name, weight in self.diffusion_model.named_parameters():
                given = sd.get(unet_prefix + name)
                if isinstance(given, Tensor) and given.is_floating_point():
                    # Only Linear knows what to do with the GGUF loader's own class of tensors: from sums it would
                    # spread to the activations, where its clone() copies nothing.
                    plain = given if type(given) is Tensor else torch.Tensor(given)
                    sd[unet_prefix + name] = plain.to(weight.dtype)  # as the host's copying would have done
            assign = True
        return super().load_model_weights(sd, unet_prefix, assign)

    def extra_conds_shapes(self, **entries: Any) -> dict[str, list[int]]:
        """Called before weights are loaded, and before the host asks for another scale of the packed latent."""
        check_conditioning(entries.get("cross_attn"), entries, self.mova_config)
        self.latent_format.grid = tuple(entries["concat_latent_image"].shape[2:])
        return {}

    def extra_conds(self, **entries: Any) -> dict[str, Any]:
        """What the model gets in each step beside the latents."""
        shapes, device = entries.get("latent_shapes") or [], entries["device"]
        check_latent_shapes(shapes, self.mova_config)
        check_noise(entries["noise"], shapes)
        check_conditioning(entries.get("cross_attn"), entries, self.mova_config)
        check_image_fits(entries, shapes, self.mova_config)
        # Wan's entries: a mask (1 where nothing is given), and pictures in the VAE's scale.
        given, image = 1.0 - entries["concat_mask"].to(device), entries["concat_latent_image"].to(device)
        image = self.process_latent_in(image)
        given = given.expand(len(given), MASK_CHANNELS, -1, -1, -1).to(image)
        batch = max(len(given), len(image))
        condition = torch.cat([comfy.utils.repeat_to_batch_size(part, batch) for part in (given, image)], dim=1)
        return {
            "c_crossattn": comfy.conds.CONDRegular(entries["cross_attn"]),
            "condition": comfy.conds.CONDRegular(condition),
            "frame_rate": comfy.conds.CONDConstant(float(entries.get("frame_rate", 24.0))),
            **{name: comfy.conds.CONDConstant(float(entries.get(f"mova_{name}", 1.0))) for name in SETTINGS},
            "latent_shapes": comfy.conds.CONDConstant(shapes),
        }

    def process_latent_out(self, latent: Tensor) -> Tensor:
        """As the host's. It is what a run ends with: the rotary tables, which the host cannot unload, end with it."""
        self.diffusion_model.last_rotations = None
        return super().process_latent_out(latent)


class MovaFamily(comfy.supported_models_base.BASE):
    """What the host needs to know of the family. To the host a MOVA file is a Wan file with more in it."""

    unet_config = {"image_model": "wan2.1", "model_type": "t2v"}  # noqa: RUF012 - as in the host's own classes
    unet_extra_config: dict = {}  # noqa: RUF012
    required_keys = {  # noqa: RUF012
        "audio_dit.patch_embedding.weight",
        "dual_tower_bridge.audio_to_video_conditioners.0.inner.q.weight",
    }
    sampling_settings = {"shift": 5.0}  # noqa: RUF012
    latent_format = MovaLatents
    memory_usage_factor = ACTIVATION_FACTOR
    supported_inference_dtypes = [torch.bfloat16, torch.float16, torch.float32]  # noqa: RUF012
    vae_key_prefix = ["vae."]  # noqa: RUF012
    text_encoder_key_prefix = ["text_encoders."]  # noqa: RUF012

    def __init__(self, unet_config: dict[str, Any]) -> None:
        super().__init__(unet_config)
        self.memory_usage_factor = ACTIVATION_FACTOR * self.unet_config["dim"] / RELEASED.video_dit.dim

    def get_model(self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None) -> MOVA:
        """Build the model that these weights belong to. Raises MovaError if they are not all there."""
        shapes = {name[len(prefix) :]: tuple(t.shape) for name, t in state_dict.items() if name.startswith(prefix)}
        if all(part in self.unet_config for part in CONFIG_PARTS):  # the host merges the file's config["transformer"]
            config = MovaConfig.from_dict(self.unet_config)
        else:
            config = MovaConfig.from_shapes(shapes)
        check_weights(config, state_dict, prefix)
        check_formats(state_dict)
        self.unet_config["mova_config"] = config
        return MOVA(self, device=device)

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> Any:
        """The text encoder in an all-in-one file: Wan's."""
        return comfy.supported_models.WAN21_T2V.clip_target(self, state_dict or {})


def check_weights(config: MovaConfig, state_dict: dict[str, Tensor], prefix: str) -> None:
    """Raise MovaError if tensors are missing or have other shapes. Of quantised ones the shape says nothing."""
    wanted = expected_shapes(JointModel(config, device="meta"))
    missing = [name for name in wanted if prefix + name not in state_dict]
    plain = (torch.float32, torch.float16, torch.bfloat16)
    wrong = [
        name
        for name, shape in wanted.items()
        if name not in missing
        and type(tensor := state_dict[prefix + name]) is Tensor
        and tensor.dtype in plain
        and tuple(tensor.shape) != shape
    ]
    for names, fault in ((missing, "lacks"), (wrong, "has other shapes than its configuration says for")):
        if names:
            more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
            raise MovaError(f"The MOVA file {fault} {names[0]}{more}; download it again, or convert it again.")


def check_formats(state_dict: dict[str, Tensor]) -> None:
    """Raise MovaError if a quantised layer's format is unknown to this host, or not told."""
    quantised = {name.removesuffix(".weight_scale") for name in state_dict if name.endswith(".weight_scale")}
    for layer in sorted(quantised):
        told = state_dict.get(f"{layer}.comfy_quant")
        if told is None:
            raise MovaError(
                f"The MOVA file does not say how {layer} is quantised (_quantization_metadata in its metadata); "
                "load it with Load Diffusion Model or MOVA Model Loader, or convert it again."
            )
        try:
            name = strict_json.parse(told.numpy().tobytes().decode())["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise MovaError(f"The MOVA file does not tell the format of {layer}; convert it again.") from error
        if name not in comfy.quant_ops.QUANT_ALGOS:
            known = ", ".join(comfy.quant_ops.QUANT_ALGOS)
            raise MovaError(
                f"The MOVA file is quantised as {name}, which this ComfyUI does not know; "
                f"update ComfyUI, or use a file in one of its formats ({known})."
            )


def register() -> None:
    """Put the family in front of the host's own, once: a MOVA file also looks like a Wan file."""
    models = comfy.supported_models.models
    if not any(model.__name__ == MovaFamily.__name__ for model in models):
        models.insert(0, MovaFamily)
