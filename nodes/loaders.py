"""Loading the two experts, from single files or from a released folder."""

import json
import logging
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..mova import MovaError
from ..mova.checkpoint import open_weights, read_header, read_json
from . import released
from .host import CONFIG_PARTS, MovaFamily

NONE = "none"
DTYPES = {"default": None, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
EXPERT_FOLDERS = {"high_noise": "video_dit", "low_noise": "video_dit_2"}


def load_expert(name: str, expert: str, weight_dtype: str) -> Any:
    """The ModelPatcher of one expert. Raises MovaError if the file is no whole MOVA file, or of the other expert."""
    options = {} if DTYPES[weight_dtype] is None else {"dtype": DTYPES[weight_dtype]}
    in_folder = name in released.folders()
    state, config = read_folder(released.path(name), expert) if in_folder else read_file(name, expert)
    metadata = {"config": json.dumps({"transformer": config})} if config else {}
    return comfy.sd.load_diffusion_model_state_dict(state, model_options=options, metadata=metadata)


def read_file(name: str, expert: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration (empty if it has none) of a single file under models/diffusion_models."""
    path = folder_paths.get_full_path_or_raise(released.CATEGORY, name)
    config: dict[str, Any] = {}
    if path.endswith(".safetensors"):
        tensors, metadata = read_header(Path(path))  # tells at once of a damaged or cut-off file
        missing = [key for key in MovaFamily.required_keys if key not in tensors]
        if missing:
            raise MovaError(f"{path} is not a MOVA file (it lacks {missing[0]}); choose an expert of MOVA.")
        config = config_in(path, metadata)
        if config.get("expert", expert) != expert:
            raise MovaError(
                f"{path} is the {config['expert'].replace('_', '-')} expert, chosen as {expert}; swap the two files."
            )
    return comfy.utils.load_torch_file(path), config


def config_in(path: str, metadata: dict[str, str]) -> dict[str, Any]:
    """The configuration in a file's metadata: the host reads it under "transformer", other tools at the top."""
    try:
        values = json.loads(metadata.get("config", "{}"))
    except ValueError as error:
        raise MovaError(f"{path} has a config in its metadata that is not JSON; convert the file again.") from error
    values = {**values, **values.get("transformer", {})}
    return {key: values[key] for key in (*CONFIG_PARTS, "expert") if key in values}


def read_folder(folder: Path, expert: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights (mapped, not copied) and configuration of one expert of a released folder, under the joint names."""
    state: dict[str, Tensor] = {}
    config: dict[str, Any] = {"expert": expert}
    places = {**dict.fromkeys(CONFIG_PARTS), "video_dit": EXPERT_FOLDERS[expert]}
    for part in CONFIG_PARTS:
        place = folder / (places[part] or part)
        config[part] = read_json(place / "config.json")
        weights, prefix = open_weights(place), "" if part == "video_dit" else f"{part}."
        state |= {prefix + name: tensor for name, tensor in weights.read(weights.tensors)}
    return state, config


class MOVAModelLoader(io.ComfyNode):
    """Load one or both experts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [*folder_paths.get_filename_list(released.CATEGORY), *released.folders()]
        return io.Schema(
            node_id="MOVAModelLoader",
            display_name="MOVA Model Loader",
            category="MOVA",
            description="Both experts, from single files or a released MOVA folder in models/diffusion_models.",
            search_aliases=["load mova", "unet loader mova", "checkpoint"],
            inputs=[
                io.Combo.Input("high_noise", options=names, tooltip="The high-noise expert, or the released folder."),
                io.Combo.Input(
                    "low_noise",
                    options=[*names, NONE],
                    tooltip="The low-noise expert, the same released folder, or none.",
                ),
                io.Combo.Input(
                    "weight_dtype", options=list(DTYPES), default="default", tooltip="fp8 halves the memory of bf16."
                ),
            ],
            outputs=[io.Model.Output(display_name="high"), io.Model.Output(display_name="low")],
        )

    @classmethod
    def execute(cls, high_noise: str, low_noise: str, weight_dtype: str) -> io.NodeOutput:
        if high_noise == low_noise and high_noise not in released.folders():
            raise MovaError(f"{high_noise} is chosen for both experts; choose the low-noise file, or none.")
        high = load_expert(high_noise, "high_noise", weight_dtype)
        if low_noise == NONE:
            logging.info("[MOVA] No low-noise expert is chosen; the high-noise expert does all steps.")
            return io.NodeOutput(high, None)
        return io.NodeOutput(high, load_expert(low_noise, "low_noise", weight_dtype))
