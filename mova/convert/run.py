"""From the released folder to the single files that ComfyUI's own nodes load."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

from torch import Tensor

from ..checkpoint.formats import GGUF, check_format
from ..checkpoint.header import TensorInfo
from ..checkpoint.hub_record import release_name
from ..checkpoint.prism import find_prism, open_prism
from ..checkpoint.weights import Weights, open_weights
from ..errors import MovaError
from ..files import remove_leftovers
from ..shorten import short
from . import gguf_writer, safetensors_writer
from .parts import (
    PARTS,
    Entry,
    Target,
    chosen_parts,
    plan_file,
    plan_folder,
    plan_prism,
    sentencepiece_model,
    with_ending,
)
from .safetensors_writer import BytesDone
from .sources import UNKNOWN, FileProgress, Sums, with_sums

VAES = ("audio_vae", "video_vae")


@dataclass(frozen=True)
class Converted:
    """A finished file. `kept`: it was there already, whole and of the same source; `verified`: it was read back."""

    path: Path
    kept: bool
    verified: bool


def plan(
    source: Path,
    dtype: str = "bf16",
    stem: str | None = None,
    parts: Sequence[str] | None = None,
    opened: Callable[[Path], Weights] = open_weights,
    base: Path | None = None,
) -> list[Target]:
    """The files made of a released folder, of one expert's file, or of Prism's. Reads headers and configurations only.

    `stem` begins the files' names (None: the source's name; from the hub's cache, the model's); `parts` are those asked
    for (None: `default_parts`); `opened` reads the headers in a part's folder; `base` is the folder of the release that
    Prism's file goes over.
    The VAEs keep their stored dtype; the text encoder has no GGUF file here, and gets bf16 instead.
    Raises MovaError if something asked for is unknown, missing, damaged, or does not fit.
    """
    source = Path(source)
    check_format(dtype)
    if stem is not None:
        check_stem(stem)
    chosen = chosen_parts(parts)
    if prism := find_prism(source):
        return list(plan_prism(open_prism(prism), base, stem, dtype, chosen))
    if base is not None and source.exists():
        raise MovaError(f"{source} is not in Prism's layout, and --base is for that; leave --base out.")
    if source.is_file():
        return [plan_file(source, stem, dtype, chosen)]
    # In float32 if it is stored so: sound shows rounding sooner than pictures do, and the files are small.
    dtypes: dict[str, str | None] = dict.fromkeys(PARTS, dtype) | dict.fromkeys(VAES)
    if dtype in GGUF:
        dtypes["text_encoder"] = "bf16"
    wanted = chosen or default_parts(source)[0]
    return list(plan_folder(source, stem or release_name(source), dtypes, wanted, opened))


def default_parts(source: Path) -> tuple[tuple[str, ...], str | None]:
    """The parts written if none are named: all, or all but a text encoder without ComfyUI's tokenizer, and why."""
    folder = Path(source) / "tokenizer"
    if folder.is_dir():
        try:
            sentencepiece_model(folder)
        except MovaError as error:
            return tuple(part for part in PARTS if part != "text_encoder"), f"text_encoder is left out: {error}"
    return PARTS, None


def convert(
    source: Path,
    destination: Path,
    dtype: str = "bf16",
    stem: str | None = None,
    parts: Sequence[str] | None = None,
    verified: bool = False,
    progress: FileProgress = lambda name, done, total: None,
    note: Callable[[str], None] = lambda text: None,
    base: Path | None = None,
) -> Iterator[Converted]:
    """Write the planned files into a folder like ComfyUI's models, one after the other; yields each as it is done.

    A file that is there with the same header (names, shapes, dtypes, metadata) and size is kept: a file gets its name
    only when it is whole, and its metadata says of which contents it is made. So the same call goes on after an
    interruption, from file to file, and makes anew what was made of other weights. What a killed run left is removed.
    `note` is told what is left out. Raises MovaError as `plan` does, for values that are not finite, and if the disk
    refuses or is too small.
    """
    source, destination = Path(source), Path(destination)
    check_destination(destination)
    targets = plan(source, dtype, stem, parts, base=base)
    paths = [path_of(target, destination) for target in targets]
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MovaError(f"{path.parent} cannot be made ({error.strerror}); name another folder.") from error
        if source.is_file() and path.exists() and path.samefile(source):
            raise MovaError(f"{source} would be written over itself; choose another --dtype, --name or folder.")
    for folder in {path.parent for path in paths}:
        remove_leftovers(folder)
    root, sums = source if source.is_dir() else source.parent, Sums(progress)
    sizes = [writer(target).file_size(with_sums(target, root, lambda _: UNKNOWN)) for target in targets]
    kept = [
        path.is_file() and path.stat().st_size == size and writer(target).is_whole(path, with_sums(target, root, sums))
        for path, target, size in zip(paths, targets, sizes, strict=True)
    ]
    check_room(destination, sum(size for size, there in zip(sizes, kept, strict=True) if not there))
    if parts is None and (left_out := default_parts(source)[1]):
        note(left_out)
    for path, target, there in zip(paths, targets, kept, strict=True):
        yield write_target(path, with_sums(target, root, sums), there, verified, progress)


def check_stem(stem: str) -> None:
    """Raise MovaError for what begins no file's name, or would lead elsewhere (by Windows' rules, everywhere)."""
    plain = PureWindowsPath(stem).name == stem and stem.isprintable() and not stem.startswith(".")
    if not plain or len(stem) > 100:
        raise MovaError(f"--name {short(stem)} cannot begin a file's name; give a plain word, such as MOVA-360p.")


def check_destination(folder: Path) -> None:
    """Raise MovaError for ComfyUI's own folder, in which no loader would find the files."""
    if (folder / "main.py").is_file() and (models := folder / "models").is_dir():
        raise MovaError(f"{folder} is ComfyUI itself; name its folder models ({models}).")


def path_of(target: Target, destination: Path) -> Path:
    """Where a file goes in a folder like ComfyUI's models."""
    return destination / target.folder / with_ending(target.name, target.dtype)


class Writer(Protocol):
    """What a module that writes files has."""

    def layout(self, target: Target) -> dict[str, TensorInfo]: ...
    def file_size(self, target: Target) -> int: ...
    def is_whole(self, path: Path, target: Target) -> bool: ...
    def header(self, target: Target) -> bytes: ...
    def data(self, entry: Entry, tensor: Tensor, target: Target) -> Iterator[Any]: ...
    def data_size(self, entry: Entry, target: Target) -> int: ...
    def write(self, path: Path, target: Target, progress: BytesDone = ..., verified: bool = ...) -> None: ...
    def verify(self, path: Path, target: Target, progress: BytesDone = ...) -> None: ...


def writer(target: Target) -> Writer:
    """Which module writes the file."""
    return gguf_writer if target.dtype in GGUF else safetensors_writer


def check_room(folder: Path, needed: int) -> None:
    """Raise MovaError if the disk has not as many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MovaError(
            f"{folder} has {free / 1e9:.2f} GB free, and the files need {needed / 1e9:.2f} GB; make room, or choose "
            "another folder, fewer --parts or a smaller --dtype."
        )


def write_target(
    path: Path,
    target: Target,
    kept: bool = False,
    verified: bool = False,
    progress: FileProgress = lambda name, done, total: None,
) -> Converted:
    """Write one planned file, or if it is `kept`, only read it back if it should be `verified`."""
    done, total = 0, safetensors_writer.source_bytes(target) * ((not kept) + verified)

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(path.name, done, total)

    if not kept:
        writer(target).write(path, target, tell, verified)
    elif verified:
        writer(target).verify(path, replace(target, name=str(path)), tell)
    return Converted(path, kept, verified)
