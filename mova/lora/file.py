"""A LoRA on disk: its tensors, and the settings that trainers save in it or beside it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import strict_json
from ..checkpoint.header import REFUSED, broken, check_is_file
from ..checkpoint.pickled import check_plain
from ..checkpoint.weights import PICKLES, open_weights, read_json
from .names import wan_name

Settings = Mapping[str, Any]
TRAINERS_NAMES = (  # beside which, and only beside which, a configuration is looked for: it is theirs
    *("lora_weights.pt", "lora_weights.safetensors", "pytorch_lora_weights.safetensors"),
    *("adapter_model.safetensors", "adapter_model.bin"),
)
ADAPTER = "lora_adapter_metadata"  # an entry of a safetensors file's metadata, in JSON
CONFIGS = ("lora_config.pt", "lora_config.json", "adapter_config.json")


def weights_file(path: Path) -> Path:
    """The file of tensors that a path stands for: itself, or the one in a trainer's folder."""
    if not path.is_dir():
        return path
    found = [path / name for name in TRAINERS_NAMES if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        raise broken(path, f"holds {len(found) or 'no'} LoRA files", "name the file to use")
    return found[0]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Settings, str, Mapping[str, str]]:
    """The tensors in a LoRA file, the trainer's settings (rank, alpha, ...), where those were found, and its metadata.

    Raises MovaError if the file is damaged, or is a pickle with more than tensors and plain values.
    """
    inside: dict[str, Any] = {}
    metadata: Mapping[str, str] = {}
    if path.suffix.lower() in PICKLES:
        values = read_pickle(path)
        nested = next((values[n] for n in ("lora_state_dict", "state_dict") if isinstance(values.get(n), dict)), values)
        tensors = {key: value for key, value in nested.items() if isinstance(key, str) and isinstance(value, Tensor)}
        inside = {key: value for key, value in values.items() if not isinstance(value, Tensor | dict)}
        check_plain(path, tensors)
        if not tensors and number(inside, "alpha"):
            raise broken(path, "holds the settings of a LoRA, not its weights", "choose lora_weights.pt beside it")
    else:
        weights = open_weights(path)
        tensors, metadata = dict(weights.read(weights.tensors)), weights.metadata
        inside = adapter_settings(metadata)
    if number(inside, "alpha", "lora_alpha") is None and path.name in TRAINERS_NAMES:
        for config in (path.parent / name for name in CONFIGS):
            if config.is_file():
                return (
                    tensors,
                    (read_pickle if config.suffix == ".pt" else read_json)(config),
                    f"from {config.name}",
                    metadata,
                )
    return tensors, inside, f"in {path.name}", metadata


def adapter_settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The adapter's configuration as diffusers (0.34 and later) and SimpleTuner save it in a file's metadata.

    Each name there has that of the model's part in front ("transformer.lora_alpha"), which is left off.
    """
    try:
        values = strict_json.parse(metadata.get(ADAPTER, "{}"))
    except ValueError:
        return {}
    return {name.rpartition(".")[2]: value for name, value in values.items()} if isinstance(values, dict) else {}


def read_pickle(path: Path) -> dict[Any, Any]:
    """A dict of tensors and plain values. Raises MovaError for anything else; no code in the file is run."""
    check_is_file(path)
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle leads to
        what = f"is damaged, or a pickle with more than tensors in it, {REFUSED}"
        raise broken(path, what, "get it again, or as a .safetensors file") from error
    if not isinstance(values, dict):
        raise broken(path, f"holds a {type(values).__name__}, not tensors by name", "choose a LoRA file")
    return values


def alpha_of(settings: Settings, layer: str, rank: int | None) -> float | None:
    """alpha for a layer of this rank, so that alpha / rank is what the trainer's settings mean; None if they say none.

    MOVA's own pipeline divides by the rank in its configuration, in place of which one of its trainers writes the name
    of a class. PEFT divides by each layer's own rank, or (rsLoRA) by its square root.
    """
    alpha = number(settings, "alpha", "lora_alpha")
    if alpha is None or not rank:
        return None
    if "lora_alpha" not in settings:
        return alpha / (number(settings, "rank") or rank) * rank
    patterns = settings.get("alpha_pattern")
    if isinstance(patterns, dict):
        alpha = (
            next((number(patterns, name) for name in patterns if f".{layer}".endswith(f".{wan_name(str(name))}")), None)
            or alpha
        )
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def number(settings: Settings, *names: str) -> float | None:
    """The first of these settings that is a number above 0."""
    values = [settings[name] for name in names if isinstance(settings.get(name), int | float)]
    return next((float(value) for value in values if math.isfinite(value) and value > 0), None)
