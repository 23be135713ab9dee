"""The host's model folders: where a download puts its files, what is there, and word to the page that there is more."""

from pathlib import Path

import folder_paths
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...mova.download.places import FOLDERS, Places
from .accessory import harmless

CHANGED = "mova.models"  # web/models.js listens


def places() -> Places:
    """The folders that the host's loaders look in first, extra_model_paths among them."""
    return Places(Path(folder_paths.models_dir), {name: folder_of(name) for name in FOLDERS})


def folder_of(category: str) -> Path:
    """The first folder of a category; not models/unet and models/clip, older names that the host still lists first."""
    folders = [*map(Path, folder_paths.get_folder_paths(category))]
    own = Path(folder_paths.models_dir, category)
    return own if folders[0].parent == own.parent and own in folders else folders[0]


def found(file: Path) -> Path | None:
    """Where "vae/NAME" is, in any folder of that category."""
    path = folder_paths.get_full_path(str(file.parent), file.name)
    return Path(path) if path else None


def tell_changed() -> None:
    """Have the page of whoever started this list the files anew, as R does."""
    server = getattr(PromptServer, "instance", None)
    if get_executing_context() is not None and server is not None and server.client_id is not None:
        harmless(server.send_sync, "Word of new files")(CHANGED, {}, server.client_id)
