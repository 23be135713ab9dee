"""Where training keeps its clips and its LoRAs: in the output folder, under names that lead nowhere else."""

import re
from pathlib import Path

import folder_paths

from ...mova import MovaError
from ...mova.files import DEVICE
from ...mova.shorten import short

CLIPS = "mova_training"  # a folder for each collection of clips
LORAS = "loras"  # which the host's lists of LoRAs hold, too
SUFFIX = ".safetensors"
# Also what turns the direction of text, by which a name is shown as another one.
FORBIDDEN = re.compile(r'[\0-\x1f\x7f:*?"<>|\u2028-\u202e\u2066-\u2069\ufeff]')
LONGEST = 150  # bytes of a name: files beside it have longer ones
DEEPEST = 1000  # bytes of all of it: systems end a path at about 4000


def clips_folder(name: str) -> Path:
    """The folder of a collection of clips. Raises MovaError for what is no name."""
    return inside(CLIPS, name, "folder", "my_clips")


def lora_path(name: str) -> Path:
    """The file of a LoRA. Raises MovaError for what is no name."""
    path = inside(LORAS, name.removesuffix(SUFFIX), "lora_name", "my_lora")
    return path.with_name(path.name + SUFFIX)


def name_fault(slot: str, name: str) -> str | None:
    """What the two above would say."""
    try:
        clips_folder(name) if slot == "folder" else lora_path(name)
    except MovaError as error:
        return str(error)
    return None


def inside(base: str, name: str, slot: str, example: str) -> Path:
    """A path in a folder of the output folder; its name may have folders before it."""
    root = Path(folder_paths.get_output_directory()) / base
    parts = name.replace("\\", "/").split("/")
    plain = all(map(is_plain, parts)) and len(name.encode()) <= DEEPEST
    path = root.joinpath(*parts) if plain else None
    if path is None or not path.resolve().is_relative_to(root.resolve()):
        raise MovaError(f"{slot} is {short(name)}, which is no name in output/{base}; give one such as {example}.")
    return path


def is_plain(part: str) -> bool:
    """Whether this can name a file on every system."""
    if not part or part != part.strip() or part.startswith(".") or part.endswith("."):
        return False
    try:
        return not FORBIDDEN.search(part) and not DEVICE.fullmatch(part) and len(part.encode()) <= LONGEST
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON may hold
        return False
