"""The files that the workflows name, and whether they are there: told by the files alone, without asking the hub."""

import json
from pathlib import Path

from ..checkpoint.gguf_file import read_gguf_header
from ..checkpoint.header import read_header
from ..checkpoint.release import EXPERTS
from ..convert.parts import place_of, with_ending
from ..convert.sources import KEY
from ..errors import MovaError
from . import singles
from .singles import SINGLES

DTYPE = "fp8_e4m3_scaled"  # of the files that the workflows name
NEEDED = (*EXPERTS, "audio_vae", *SINGLES)  # their parts


def file_for(part: str, release: str, dtype: str) -> Path:
    """The file of one of NEEDED, under ComfyUI's models: "vae/MOVA-360p_audio_vae.safetensors"."""
    if part in SINGLES:
        return SINGLES[part].path
    stored = dtype if part in EXPERTS else None
    name, folder = place_of(part, release, stored)
    return Path(folder, with_ending(name, stored))


def is_there(path: Path, part: str, release: str, dtype: str) -> bool:
    """Whether the file is there, whole, and says that it was made of that release in that format.

    Raises MovaError if it is whole, but says something else: it is not ours to replace.
    """
    if part in SINGLES:
        return singles.is_whole(path)
    if not path.is_file():
        return False
    try:
        _, said = read_gguf_header(path) if path.suffix == ".gguf" else read_header(path)
    except MovaError:  # damaged, or cut off
        return False
    stored = dtype if part in EXPERTS else "as stored"
    wanted = {"source": release, "part": part, "dtype": stored}
    others = [f"{key} {said.get(key)!r}" for key, value in wanted.items() if said.get(key) != value]
    if others:
        raise MovaError(
            f"{path.name} is there, but does not say that it is the {part} of {release} in {stored} (it says "
            f"{', '.join(others)}); rename or move it, or choose another format."
        )
    return is_sourced(said)


def is_sourced(said: dict[str, str]) -> bool:
    """Whether a file's metadata name the contents that it was made of."""
    try:
        return bool(json.loads(said.get(KEY, "")))
    except ValueError:
        return False


def lacking(models: Path) -> str | None:
    """Which files for Wan a folder like ComfyUI's models has not, in a sentence."""
    missing = {part: single.path for part, single in SINGLES.items() if not singles.is_whole(models / single.path)}
    names = ", ".join(map(str, missing.values()))
    if not missing:
        return None
    return f"{models} has no {names}, which the workflows need too; add --parts {','.join(missing)}."
