"""What a LoRA file holds, in words."""

from collections.abc import Iterator
from pathlib import Path

from ..model.stored_config import EXPERT_NAMES
from ..shorten import first_names
from .experts import noted_expert
from .fit import has_any_place
from .names import UNNAMED
from .reading import read_lora

ROLES = {
    "video_dit": "video tower of the high-noise expert",
    "video_dit_2": "video tower of the low-noise expert",
    "audio_dit": "audio tower",
    "dual_tower_bridge": "bridge",
    UNNAMED: "no module is named: a video tower of Wan's kind",
}


def describe_lora(path: Path) -> Iterator[str]:
    """Lines for the user. Raises MovaError as read_lora does."""
    file = read_lora(path)
    yield f"LoRA {file.path}"
    for module, layers in file.modules.items():
        ranks = sorted({lora.rank for lora in layers.values() if lora.rank})
        rank = f", rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else ""
        known = module != UNNAMED or has_any_place(layers)
        role = ROLES[module] if known else "a LoRA for another model, MOVA has no such layers"
        yield f"{role}: {len(layers)} layers{rank}"
    yield file.scales()
    if UNNAMED in file.modules and (noted := noted_expert(file)):
        yield f"for the {EXPERT_NAMES[noted[0]]} expert alone, by its {noted[1]}"
    if file.unknown:
        yield f"keys that are not known: {first_names(file.unknown)}"
    for kind, keys in file.others.items():
        yield f"keys of {kind}, which is not read: {first_names(keys)}"
    if file.incomplete:
        yield f"layers of which a part is missing: {first_names(file.incomplete)}"
