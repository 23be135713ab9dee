"""Loading the two experts, from single files or from a released folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..mova import MovaError
from ..mova.checkpoint.header import read_header
from ..mova.checkpoint.hub_record import release_name
from ..mova.checkpoint.prism import alone, is_prism, joint_names, open_prism
from ..mova.checkpoint.quantised_layers import is_quantised
from ..mova.checkpoint.release import EXPERTS, JOINT, open_checkpoint
from ..mova.checkpoint.weights import PICKLES
from ..mova.errors import memory_is_full
from ..mova.model.stored_config import EXPERT_NAMES, stored_config
from ..mova.shorten import short
from . import released
from .host import notice
from .host.family import CONFIG_PARTS, MovaFamily
from .host.load_prism import CONVERT
from .inputs import file_fault

NONE = "none"
FAST = "fp8_e4m3fn_fast"  # as the core loader calls it
DTYPES = {
    "default": None,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    FAST: torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Expert:
    """The weights of one expert, read but not built. Mapped files: nothing is in memory yet."""

    where: str
    state: dict[str, Tensor]
    config: dict[str, Any]  # empty if the file has none
    metadata: dict[str, str]


def read_expert(name: str, expert: str) -> Expert:
    """Raises MovaError if the file is damaged, no MOVA file, or of the other expert."""
    return read_folder(released.path(name), expert) if name in released.folders() else read_file(name, expert)


def load_expert(name: str, expert: str, weight_dtype: str, disable_dynamic: bool = False) -> Any:
    """The ModelPatcher of one expert, which the host can have again: it makes another for each further device.

    disable_dynamic: for the host, without its dynamic VRAM. Raises MovaError as reading and building do.
    """
    return build_expert(read_expert(name, expert), weight_dtype, disable_dynamic)


def build_expert(read: Expert, weight_dtype: str, disable_dynamic: bool = False) -> Any:
    """The ModelPatcher of one expert. Raises MovaError if tensors are missing or do not fit."""
    metadata = read.metadata
    if read.config:
        metadata = {**metadata, "config": json.dumps({"transformer": read.config})}
    dtype = DTYPES[weight_dtype]
    if dtype is not None and is_quantised(read.state, metadata):
        notice.show(f"{read.where} is quantised already; weight_dtype {weight_dtype} is not used.")
        dtype = None
    options = {} if dtype is None else {"dtype": dtype, "fp8_optimizations": weight_dtype == FAST}
    try:
        return comfy.sd.load_diffusion_model_state_dict(
            read.state, model_options=options, metadata=metadata, disable_dynamic=disable_dynamic
        )
    except MovaError as error:  # the host's loader knows no path
        raise MovaError(f"{read.where}: {error}") from error


def read_file(name: str, expert: str) -> Expert:
    """A file under models/diffusion_models."""
    path = folder_paths.get_full_path_or_raise(released.CATEGORY, name)
    check_no_pickle(path)
    tensors, metadata = read_header(Path(path))  # tells at once of a damaged or cut-off file
    if is_prism(tensors):
        return read_prism(Path(path), expert)
    missing = [key for key in MovaFamily.required_keys if key not in tensors]
    if missing:
        raise MovaError(f"{path} is not a MOVA file (it lacks {missing[0]}); choose an expert of MOVA.")
    config = stored_config(metadata, path)
    found = config.get("expert", expert)
    if found != expert:
        raise MovaError(
            f"{path} is the {EXPERT_NAMES[found]} expert, chosen as {expert}; choose the {EXPERT_NAMES[expert]} one "
            "there (are the two swapped?)."
        )
    kept = {key: config[key] for key in (*CONFIG_PARTS, "expert") if key in config}
    return Expert(path, held_by_host(path), kept, metadata)


def check_no_pickle(path: str) -> None:
    if path.lower().endswith(PICKLES):
        raise MovaError(
            f"{path} is a pickle, which can hold code; use a .safetensors file (of Prism's the command `convert` makes "
            "them)."
        )


def held_by_host(path: str) -> dict[str, Tensor]:
    """A file's tensors as the host maps them. Raises MovaError where it cannot, being short of memory."""
    try:
        return comfy.utils.load_torch_file(path)
    except Exception as error:
        if not memory_is_full(error):
            raise
        raise MovaError(
            f"{path} is larger than what this system maps at once; make smaller files of it with the command "
            "`convert`, or add memory or swap."
        ) from error


def read_prism(path: Path, expert: str) -> Expert:
    """One expert of a file in Prism's layout, under the joint names."""
    prism = open_prism(path)
    config = alone(prism, CONVERT).config
    held = held_by_host(str(path))
    state = {new: held[old] for old, new in joint_names(held, expert).items()}
    return Expert(str(path), state, {**config.to_dict(), "expert": expert}, {"source": prism.name})


def read_folder(folder: Path, expert: str) -> Expert:
    """One expert of a released folder, under the joint names."""
    state: dict[str, Tensor] = {}
    release = open_checkpoint(folder, (EXPERTS[expert], *JOINT), to_run=False)
    for part, weights in release.weights.items():
        prefix = f"{part}." if part in JOINT else ""
        for file in weights.paths():
            # By the host: with dynamic VRAM its tensors know their place in the file, and are read from there right
            # into the device's memory.
            state |= {prefix + name: tensor for name, tensor in held_by_host(str(file)).items()}
    config = {**release.config.to_dict(), "expert": expert}
    return Expert(str(folder), state, config, {"source": release_name(folder)})  # as conversion names it


def tell_sources(read: Sequence[Expert]) -> None:
    """Say so if the experts are of two releases, as far as their files tell: it may be meant (merged, trained on)."""
    sources = [expert.metadata.get("source") for expert in read]
    if None not in sources and len(set(sources)) > 1:
        high, low = map(short, sources)
        notice.show(f"The high-noise expert comes from {high}, the low-noise one from {low}; is that meant?")


def holds_both(name: str) -> bool:
    """Whether a choice has both experts: a released folder, or a file in Prism's layout."""
    if name in released.folders():
        return True
    path = Path(folder_paths.get_full_path_or_raise(released.CATEGORY, name))
    check_no_pickle(str(path))
    return path.suffix == ".safetensors" and is_prism(read_header(path)[0])


def choices() -> list[str]:
    """Released folders, then single files; not the files inside those folders, which are no whole expert."""
    folders = released.folders()
    files = folder_paths.get_filename_list(released.CATEGORY)
    return [*folders, *(name for name in files if Path(name).parts[0] not in folders)]


def likely(names: Sequence[str], expert: str) -> str | None:
    """What a new node begins with: our file of that expert (Wan 2.2 has files called high_noise, too)."""
    return next((name for name in names if "mova" in name.lower() and expert in name.lower()), None)


class MOVAModelLoader(io.ComfyNode):
    """Load one or both experts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = choices()
        return io.Schema(
            node_id="MOVAModelLoader",
            display_name="MOVA Model Loader",
            category="MOVA",
            description="Both experts, from single files or a released MOVA folder in models/diffusion_models.",
            search_aliases=["load mova", "unet loader mova", "checkpoint", "video with sound"],
            inputs=[
                io.Combo.Input(
                    "high_noise",
                    options=names,
                    default=likely(names, "high_noise"),
                    tooltip="The high-noise expert, or the released folder.",
                ),
                io.Combo.Input(
                    "low_noise",
                    options=[*names, NONE],
                    default=likely(names, "low_noise"),
                    tooltip="The low-noise expert, the same released folder, or none.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(DTYPES),
                    default="default",
                    tooltip="fp8 halves the memory of bf16; fast also multiplies in fp8 where the GPU can. Not used if "
                    "a file is quantised.",
                ),
            ],
            outputs=[io.Model.Output(display_name="high"), io.Model.Output(display_name="low")],
        )

    @classmethod
    def validate_inputs(cls, high_noise: str | None = None) -> bool | str:
        """Before anything runs; a name from another node (None) is checked in execute.

        Of low_noise the host speaks itself: it would show a fault of either on both.
        """
        return high_noise is None or file_fault("high_noise", high_noise, choices()) or True

    @classmethod
    def execute(cls, high_noise: str, low_noise: str, weight_dtype: str) -> io.NodeOutput:
        if fault := file_fault("high_noise", high_noise, choices()):
            raise MovaError(fault)
        if high_noise == low_noise and not holds_both(high_noise):
            raise MovaError(f"{high_noise} is chosen for both experts; choose the low-noise file, or none.")
        names = {"high_noise": high_noise, "low_noise": low_noise}
        # Both are read and checked before either is built: a wrong second file must not cost a build of the first.
        read = {expert: read_expert(name, expert) for expert, name in names.items() if name != NONE}
        tell_sources([*read.values()])
        models = {expert: build_expert(found, weight_dtype) for expert, found in read.items()}
        for expert, model in models.items():
            model.cached_patcher_init = load_expert, (names[expert], expert, weight_dtype)
        return io.NodeOutput(models["high_noise"], models.get("low_noise"))
