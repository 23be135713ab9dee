"""Released MOVA folders (laid out like a diffusers pipeline) among the host's model folders."""

from pathlib import Path

import folder_paths

from ..mova import MovaError

INDEX = "model_index.json"
CATEGORY = "diffusion_models"


def folders() -> dict[str, Path]:
    """Folders under models/diffusion_models that hold a pipeline: names as a user sees them, and where they are."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths(CATEGORY)):
        if root.is_dir():
            found |= {f.name: f for f in sorted(root.iterdir()) if f.name not in found and (f / INDEX).is_file()}
    return found


def parts(part: str) -> list[str]:
    """`NAME/part` for each released folder that has it."""
    return [f"{name}/{part}" for name, folder in folders().items() if (folder / part).is_dir()]


def path(name: str) -> Path:
    """Where a released folder, or a part of one, is. Raises MovaError if it is gone."""
    folder, *rest = name.split("/")
    place = folders().get(folder)
    if place is None or ".." in rest:
        raise MovaError(f"There is no released MOVA folder {name!r} in models/{CATEGORY}; choose another.")
    return place.joinpath(*rest)
