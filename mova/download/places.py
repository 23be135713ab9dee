"""Where the files of a download go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..convert.parts import Target, with_ending

FOLDERS = ("diffusion_models", "vae", "text_encoders")  # under ComfyUI's models
STATE = ".mova-download"


@dataclass(frozen=True)
class Places:
    """A folder like ComfyUI's models; `others`: which of the folders in it are elsewhere, and where."""

    root: Path
    others: Mapping[str, Path] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """One of FOLDERS."""
        return self.others.get(name, self.root / name)

    def path(self, target: Target) -> Path:
        """The file that a target is written to."""
        return self.folder(target.folder) / with_ending(target.name, target.dtype)

    def state(self, repository: str) -> Path:
        """What is kept of an unfinished download of OWNER/NAME."""
        return self.root / STATE / repository.split("/")[1]

    def unfinished(self, state: Path) -> Iterator[Path]:
        """Files of that download that have begun to grow."""
        for name in FOLDERS:
            yield from self.folder(name).glob(f".{state.name}_*.download")


def growing(path: Path) -> Path:
    """Where a converted file is until it is whole."""
    return path.with_name(f".{path.name}.download")
