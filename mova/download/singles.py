"""Files for Wan that the workflows name beside MOVA's own: fetched as they are, from another repository."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.header import read_header
from ..errors import MovaError
from .hub import Repository, open_repository, part_of, size_of
from .places import Places


@dataclass(frozen=True)
class Single:
    """A file of a repository, and the folder under ComfyUI's models that it goes to."""

    repository: str
    name: str
    folder: str

    @property
    def path(self) -> Path:
        """Where it goes under models."""
        return Path(self.folder, self.name.rsplit("/", 1)[-1])


WAN = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
SINGLES = {
    "wan_vae": Single(WAN, "split_files/vae/wan_2.1_vae.safetensors", "vae"),
    "wan_text_encoder": Single(
        WAN, "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders"
    ),
}


@dataclass(frozen=True)
class Wanted:
    """A file to fetch, whose size is known."""

    repository: Repository
    name: str
    path: Path

    @property
    def size(self) -> int:
        return self.repository.files[self.name].size

    @property
    def left(self) -> int:
        """Bytes that have not arrived."""
        return self.size - size_of(part_of(self.path))


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is there, to its last byte."""
    try:
        return path.is_file() and bool(read_header(path)[0])
    except MovaError:
        return False


def ask_for(parts: Iterable[str], places: Places) -> tuple[list[Wanted], list[Path]]:
    """The files to fetch, and those that are there. The hub is asked only if one is missing.

    Raises MovaError if it does not have one, or does not say by which SHA-256 to check it.
    """
    wanted, kept, opened = [], [], dict[str, Repository]()
    for single in (SINGLES[part] for part in parts):
        path = places.folder(single.folder) / single.path.name
        if is_whole(path):
            kept.append(path)
            continue
        if single.repository not in opened:
            opened[single.repository] = open_repository(single.repository)
        repository = opened[single.repository]
        if single.name not in repository.files or repository.files[single.name].sha256 is None:
            raise MovaError(
                f"{repository.name} lacks {single.name}; fetch {path.name} by hand into models/{single.folder}."
            )
        wanted.append(Wanted(repository, single.name, path))
    return wanted, kept
