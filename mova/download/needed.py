"""The files that the workflows name, and whether they are there: told by the files alone, without asking the hub."""

from pathlib import Path

from ..checkpoint.gguf_file import read_gguf_header
from ..checkpoint.header import read_header
from ..checkpoint.release import EXPERTS
from ..convert.parts import place_of, with_ending
from ..errors import MovaError
from . import singles
from .run import PRISM, PRISM_BASE
from .singles import SINGLES

DTYPE = "fp8_e4m3_scaled"  # of the files that the workflows name
NEEDED = (*EXPERTS, "audio_vae", *SINGLES)  # their parts
MISSING, OURS, ANOTHERS = "missing", "ours", "another's"


def release_of(part: str, release: str) -> str:
    """Which release's download brings one of NEEDED: Prism has but the experts, the rest is its base's."""
    return PRISM_BASE if release in PRISM and part not in EXPERTS else release


def file_for(part: str, release: str, dtype: str) -> Path:
    """The file of one of NEEDED, under ComfyUI's models: "vae/MOVA-360p_audio_vae.safetensors"."""
    if part in SINGLES:
        return SINGLES[part].path
    stored = dtype if part in EXPERTS else None
    name, folder = place_of(part, release_of(part, release), stored)
    return Path(folder, with_ending(name, stored))


def state_of(path: Path, part: str, release: str, dtype: str) -> str:
    """MISSING if the file is not there, or not whole; OURS if it says that it is that part of that release in that
    format; else ANOTHERS, which is not ours to replace.
    """
    if part in SINGLES:
        return OURS if singles.is_whole(path) else MISSING
    try:
        _, said = read_gguf_header(path) if path.suffix == ".gguf" and path.is_file() else read_header(path)
    except MovaError:
        return MISSING
    wanted = {"source": release_of(part, release), "part": part, "dtype": dtype if part in EXPERTS else "as stored"}
    return OURS if wanted.items() <= said.items() else ANOTHERS


def lacking(models: Path) -> str | None:
    """Which files for Wan a folder like ComfyUI's models has not, in a sentence."""
    missing = {part: single.path for part, single in SINGLES.items() if not singles.is_whole(models / single.path)}
    names = ", ".join(map(str, missing.values()))
    if not missing:
        return None
    return f"{models} has no {names}, which the workflows need too; add --parts {','.join(missing)}."
