"""MOVA as ComfyUI's samplers see it: its conditioning, its latents, its weights."""

import math
from collections.abc import Sequence
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.utils
import torch
from torch import Tensor, nn

from ...mova import MovaConfig, MovaError
from ...mova.sampling.finite import Watch
from . import context_windows, finite
from .both_experts import BothExperts, module_names
from .checks import check_conditioning, check_image_fits, check_latent_shapes
from .finite import AUDIO_TEXT
from .model import HostModel
from .settings import PREFIX, Settings

MASK_CHANNELS = 4  # of the image condition: one for each frame of a latent frame


class MOVA(comfy.model_base.BaseModel):
    """One expert with audio tower and bridge, or both (BothExperts), as the host's samplers see it."""

    def __init__(self, model_config: Any, device: Any = None, network: type[nn.Module] = HostModel) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=network)
        # "high_noise" or "low_noise", if the file says.
        self.expert: str | None = model_config.unet_config.get("expert")
        self.has_both = network is BothExperts
        self.frame_rate = 24.0  # of the clip that is being sampled
        self.watch = Watch()

    @property
    def mova_config(self) -> MovaConfig:
        return self.model_config.unet_config["mova_config"]

    def load_model_weights(self, sd: dict[str, Tensor], unet_prefix: str = "", assign: bool = False) -> "MOVA":
        """Take the weights as they are, mapped from their file; the host copies them where it has no dynamic VRAM.

        Audio tower and bridge of a released folder are then in memory once, too, though both experts have them.
        """
        if self.has_both:
            sd = module_names(sd)
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
        fit_noise(entries["noise"], shapes)
        for model in self.on_all_devices():
            model.watch = Watch()  # a run that was stopped may have left something in the last one
        context_windows.check(self.current_patcher, shapes)
        check_conditioning(entries.get("cross_attn"), entries, self.mova_config)
        check_image_fits(entries, shapes, self.mova_config)
        self.frame_rate = float(entries.get("frame_rate", 24.0))
        # Wan's entries: a mask (1 where nothing is given), and pictures in the VAE's scale.
        given, image = 1.0 - entries["concat_mask"].to(device), entries["concat_latent_image"].to(device)
        image = self.process_latent_in(image)
        given = given.expand(len(given), MASK_CHANNELS, -1, -1, -1).to(image)
        batch = max(len(given), len(image))
        condition = torch.cat([comfy.utils.repeat_to_batch_size(part, batch) for part in (given, image)], dim=1)
        own = {"audio_context": comfy.conds.CONDRegular(entries[AUDIO_TEXT])} if AUDIO_TEXT in entries else {}
        return {
            **own,
            "c_crossattn": comfy.conds.CONDRegular(entries["cross_attn"]),
            "condition": comfy.conds.CONDRegular(condition),
            "frame_rate": comfy.conds.CONDConstant(self.frame_rate),
            "settings": comfy.conds.CONDConstant(Settings.named(entries, PREFIX)),
            "latent_shapes": comfy.conds.CONDConstant(shapes),
        }

    def apply_model(self, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As the host's. NaN that an evaluation makes ends the run when the next one begins."""
        finite.look(self)
        made = super().apply_model(x, t, *args, **kwargs)
        options = kwargs.get("transformer_options") or {}
        self.watch.note((t, options.get("sample_sigmas")), given=x, made=made)
        return made

    def process_latent_in(self, latent: Tensor) -> Tensor:
        """As the host's, which asks for it once before a run."""
        finite.check(latent, "The latent that is given to the sampler", "look at the node that made it")
        return super().process_latent_in(latent)

    def map_context_window_to_modalities(self, primary_indices: list[int], latent_shapes: list, dim: int) -> list:
        """Asked by the host's context windows: a window's latent frames, and the audio latents that sound in it."""
        return [primary_indices, context_windows.audio_of(primary_indices, latent_shapes, self.frame_rate)]

    def resize_cond_for_context_window(
        self, cond_key: str, cond_value: Any, window: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Which part of the clip a window is, in place of the frame rate. The host cuts the image condition itself."""
        if cond_key == "frame_rate":
            return comfy.conds.CONDConstant(context_windows.part_of(cond_value.cond, window))
        return super().resize_cond_for_context_window(cond_key, cond_value, window, *args, **kwargs)

    def on_all_devices(self) -> list["MOVA"]:
        """This model, and its clones on other devices."""
        clones = self.current_patcher.get_additional_models_with_key("multigpu") if self.current_patcher else []
        return [self, *(clone.model for clone in clones)]

    def process_latent_out(self, latent: Tensor) -> Tensor:
        """As the host's. It is what a run ends with: the rotary tables, which the host cannot unload, end with it.

        Raises MovaError for NaN that the last step has made.
        """
        models = self.on_all_devices()
        for network in (network for model in models for network in model.modules()):
            if isinstance(network, HostModel):  # also in what a pack has put around it
                network.last_rotations = None
        for model in models:
            finite.look(model, wait=True)
        finite.check(latent, "What the sampler has made", "lower cfg, or take another sampler or other sigmas")
        return super().process_latent_out(latent)


def fit_noise(noise: Tensor, shapes: Sequence[Sequence[int]]) -> None:
    """Give noise of zeros (KSamplerAdvanced, add_noise off) the size of video and audio, packed [B, 1, N], in place.

    Up to v0.29 the host makes it for the video only, and packs it as if its batch were the parts. This is the same
    tensor that the host then starts from. Raises MovaError if there is something in it.
    """
    size = sum(math.prod(shape[1:]) for shape in shapes)
    if noise.shape[-1] == size:
        return
    if noise.any():
        raise MovaError(
            "The noise does not fit the audio-video latent; use SamplerCustomAdvanced with Disable Noise, or MOVA "
            "Joint Sampler."
        )
    noise.set_(noise.new_zeros(shapes[0][0], 1, size))  # type: ignore[call-overload]
