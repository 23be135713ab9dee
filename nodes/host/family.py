"""How ComfyUI recognises a MOVA file, and what it builds of it."""

import inspect
from pathlib import Path
from typing import Any

import comfy.quant_ops
import comfy.supported_models
import comfy.supported_models_base
import torch
from torch import Tensor

from ...mova import JointModel, MovaConfig, MovaError
from ...mova.checkpoint.quantised_layers import MARK, marked_format
from ...mova.model.config import RELEASED
from ...mova.model.shapes import expected_shapes
from . import accessory, load_prism, load_vae, nested
from .base import MOVA
from .both_experts import SECOND, BothExperts, both_shapes, given_names
from .latent_format import MovaLatents
from .model import HostModel

CONFIG_PARTS = ("video_dit", "audio_dit", "dual_tower_bridge")

# Activations at their peak in bf16 with all heads at once, as where a pack's attention is plugged in: 2.09 GiB at
# 640x352x193 and 8.51 GiB at 1280x720x193 (1.94 and 7.92 without: benchmarks/peak_memory.py). That is the same 0.039
# of the host's unit (0.02 MiB for each number in the packed latent in bf16) at both sizes.
ACTIVATION_FACTOR = 0.04


class MovaFamily(comfy.supported_models_base.BASE):
    """What the host needs to know of the family. To the host a MOVA file is a Wan file with more in it."""

    unet_config: dict[str, Any] = {"image_model": "wan2.1", "model_type": "t2v"}  # noqa: RUF012 - as in the host's own classes
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
        first = {name: shape for name, shape in shapes.items() if not name.startswith(SECOND)}
        both = len(first) < len(shapes)
        if all(part in self.unet_config for part in CONFIG_PARTS):  # the host merges the file's config["transformer"]
            config = MovaConfig.from_dict(self.unet_config)
        else:
            config = MovaConfig.from_shapes(first)
        wanted = both_shapes(config) if both else expected_shapes(JointModel(config, device="meta"))
        check_weights(wanted, state_dict, prefix)
        check_formats(state_dict)
        self.unet_config["mova_config"] = config
        return MOVA(self, device=device, network=BothExperts if both else HostModel)

    def process_unet_state_dict_for_saving(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """As the host's, whose ModelSave writes a file that it can load again."""
        saved: dict[str, Tensor] = super().process_unet_state_dict_for_saving(given_names(state_dict))
        return saved

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> Any:
        """The text encoder in an all-in-one file: Wan's."""
        return comfy.supported_models.WAN21_T2V.clip_target(self, state_dict or {})


def check_weights(wanted: dict[str, tuple[int, ...]], state_dict: dict[str, Tensor], prefix: str) -> None:
    """Raise MovaError if tensors are missing or have other shapes. Of quantised ones the shape says nothing."""
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
        told = state_dict.get(layer + MARK)
        if told is None:
            raise MovaError(
                f"The MOVA file does not say how {layer} is quantised (_quantization_metadata in its metadata); "
                "load it with Load Diffusion Model or MOVA Model Loader, or convert it again."
            )
        try:
            name = marked_format(told)
        except ValueError as error:
            raise MovaError(f"The MOVA file does not tell the format of {layer}; convert it again.") from error
        if name not in comfy.quant_ops.QUANT_ALGOS:
            known = ", ".join(comfy.quant_ops.QUANT_ALGOS)
            raise MovaError(
                f"The MOVA file is quantised as {name}, which this ComfyUI does not know; "
                f"update ComfyUI, or use a file in one of its formats ({known})."
            )


def register() -> Path | None:
    """Put the family in front of the host's own, once: a MOVA file also looks like a Wan file.

    If another copy of the pack has done so, nothing is changed: the folder of that copy.
    """
    models = comfy.supported_models.models
    there = next((model for model in models if model.__name__ == MovaFamily.__name__), None)
    if there is None:
        models.insert(0, MovaFamily)
        nested.adopt()
        accessory.protect(MOVA)
        load_vae.tell_of_the_audio_vae()
        load_prism.take_prism()
    if there in (None, MovaFamily):
        return None
    return next(folder for folder in Path(inspect.getfile(there)).parents if (folder / "mova").is_dir())
