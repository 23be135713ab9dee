"""What other libraries would read of a release: refused here where they would hang, fetch or run code by it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.config_values import MAX_LAYERS, is_number
from ..shorten import short
from .header import broken

MAX_NUMBER = 2**20  # the largest in a release is the vocabulary, 2^18
# By these, transformers would fetch or run code of others, or expect weights in another format.
FOREIGN = ("attn_implementation", "_attn_implementation", "auto_map", "quantization_config")


def refuse_foreign(path: Path, values: Mapping[str, Any]) -> None:
    """Raise MovaError for a setting by which transformers would fetch or run code, or ask the user whether to."""
    for name in FOREIGN:
        if values.get(name) is not None:
            raise broken(path, f"sets {name}, which no release does", "take the file from the release")


def check_library_config(path: Path, values: Mapping[str, Any]) -> None:
    """Raise MovaError for what another library would not refuse itself, but hang on, or take as leave to run code."""
    refuse_foreign(path, values)
    for name, value in values.items():
        depth = "layers" in name or "blocks" in name or name == "num_labels"  # of each label, names are made
        for number in value if isinstance(value, list) else [value]:
            large = isinstance(number, int) and abs(number) > (MAX_LAYERS if depth else MAX_NUMBER)
            if large or (isinstance(value, list) and len(value) > 100):
                raise broken(path, f"has the impossible {short(name)}: {short(value)}")
    for name in ("latents_mean", "latents_std"):
        value = values.get(name)
        numbers = isinstance(value, list) and all(map(is_number, value)) and len(value) == values.get("z_dim", 16)
        if value is not None and not (numbers and (name == "latents_mean" or 0 not in value)):
            raise broken(path, f"has the impossible {name}: {short(value)}")
