"""Prepared clips and captions on disk: latents and features, each in a file that is named by what it was made of."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import strict_json
from ..checkpoint.header import TensorInfo
from ..checkpoint.tensor_file import write_tensors
from ..checkpoint.weights import Weights, open_file, read_json
from ..errors import MovaError
from ..files import alone, whole_file
from ..model.text import TOKENS

INDEX = "clips.json"
FORMAT = "mova-training-cache"
VERSION = 1
KEY = re.compile("[0-9a-f]{32}")  # of key_of: it names a file
END = 1 << 20  # bytes at either end of a weights file by which it is known again


def key_of(*parts: object) -> str:
    """A name for what is made of these."""
    return hashlib.sha256(json.dumps([VERSION, *parts], default=str).encode()).hexdigest()[:32]


def content_key(path: Path) -> str:
    """By what is in a file, wherever it lies."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else digest(file)


def digest(file: Any) -> str:
    """As hashlib.file_digest, which Python 3.10 lacks."""
    whole = hashlib.sha256()
    while piece := file.read(END):
        whole.update(piece)
    return whole.hexdigest()


def weights_key(weights: Weights) -> str:
    """By the beginning, the end and the size of each file: reading all of it would take a minute."""
    whole = hashlib.sha256()
    for path in sorted(weights.paths()):
        size = path.stat().st_size
        whole.update(str(size).encode())
        with open(path, "rb") as file:
            whole.update(file.read(END))
            file.seek(max(0, size - END))
            whole.update(file.read(END))
    return whole.hexdigest()


def is_index(path: Path) -> bool:
    """Whether it is a list of prepared clips, of whatever version."""
    try:
        return read_json(path).get("format") == FORMAT
    except MovaError:
        return False


@dataclass(frozen=True)
class Entry:
    """A line of the index: a clip and its caption."""

    name: str
    caption: str
    clip: str
    text: str


@dataclass(frozen=True)
class Item:
    """A clip to train on. video [1, 16, T, h, w] normalised latents, condition [1, 20, T, h, w], audio [1, 128, L]."""

    video: Tensor
    audio: Tensor
    condition: Tensor
    fps: float
    sound: bool  # else audio is of silence, and not trained


class Cache:
    """A folder of prepared clips."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clip_path(self, key: str) -> Path:
        return self.folder / "clips" / f"{key}.safetensors"

    def text_path(self, key: str) -> Path:
        return self.folder / "texts" / f"{key}.safetensors"

    def has(self, path: Path) -> bool:
        """Whether a whole file is there; one that is damaged is to be made again."""
        if not path.is_file():
            return False
        try:
            open_file(path)
        except MovaError:
            return False
        return True

    def write(self, path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        make_folder(path.parent)
        plain = {name: value.contiguous().cpu() for name, value in tensors.items()}
        write_tensors(path, plain, {FORMAT: json.dumps(told)})  # one entry: the order of several is another each time

    def write_text(self, key: str, features: Tensor) -> None:
        """features [1, 512, width] of a caption; the zeros behind it are left out."""
        used = features[0].abs().amax(dim=1).nonzero()
        count = int(used.max()) + 1 if len(used) else 1
        self.write(self.text_path(key), {"features": features[0, :count]}, {})

    def text(self, key: str) -> Tensor:
        """Features of a caption, [1, 512, width]."""
        features = read(self.text_path(key))["features"]
        return torch.nn.functional.pad(features, (0, 0, 0, TOKENS - len(features)))[None]

    def item(self, key: str) -> Item:
        path = self.clip_path(key)
        found, told = read(path), self.told(key)
        video, audio, condition = (found[name][None].float() for name in ("video", "audio", "condition"))
        if not all(part.isfinite().all() for part in (video, audio, condition)):
            raise MovaError(f"{path} holds NaN or infinite values; remove it, and prepare the clips again.")
        return Item(video, audio, condition, told["fps"], told["sound"])

    def pictures(self, key: str) -> Tensor:
        """A few frames of a clip, uint8 [N, h, w, 3]."""
        path = self.clip_path(key)
        try:
            return read(path)["pictures"]
        except KeyError as error:
            raise MovaError(f"{path} is no prepared clip; remove it, and prepare the clips again.") from error

    def infos(self, path: Path) -> dict[str, TensorInfo]:
        """Types and shapes of the tensors in a prepared file; only its header is read."""
        return open_file(path).tensors

    def told(self, key: str) -> dict[str, Any]:
        """frames, width, height, fps, and whether there is sound."""
        path = self.clip_path(key)
        try:
            return dict(strict_json.parse(open_file(path).metadata[FORMAT]))
        except (KeyError, TypeError, ValueError) as error:
            raise MovaError(f"{path} is no prepared clip; remove it, and prepare the clips again.") from error

    def write_index(
        self, entries: Iterable[Entry], nothing: str, checkpoint: Path | None, skipped: Mapping[str, str]
    ) -> None:
        """nothing: the key of the features of no caption; checkpoint: None if the encoders were of no release."""
        told = {
            "format": FORMAT,
            "version": VERSION,
            "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
            "nothing": nothing,
            "clips": [vars(entry) for entry in entries],
            "skipped": dict(skipped),
        }
        with whole_file(self.folder / INDEX) as temporary:
            temporary.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def add(self, entry: Entry, nothing: str) -> list[Entry]:
        """Put one more clip into the index, in the place of one of its name; all that it then has.

        Clips whose files are gone are left out.
        """
        with alone(self.folder / INDEX):
            there = (self.folder / INDEX).is_file()
            entries, _, checkpoint = self.listed() if there else ([], "", None)
            at = next((place for place, one in enumerate(entries) if one.name == entry.name), len(entries))
            entries[at : at + 1] = [entry]
            kept = [one for one in entries if self.has(self.clip_path(one.clip)) and self.has(self.text_path(one.text))]
            self.write_index(kept, nothing, checkpoint, {})
        return kept

    def listed(self) -> tuple[list[Entry], str, Path | None]:
        """What the index says. Raises MovaError if there is none, or it is not ours."""
        path = self.folder / INDEX
        if not path.is_file():
            raise MovaError(
                f"{self.folder} holds no prepared clips ({INDEX} is not there); make it with: train prepare DATA "
                f"--checkpoint FOLDER --out {self.folder}"
            )
        told = read_json(path)
        try:
            if told["format"] != FORMAT or told["version"] != VERSION:
                raise KeyError("version")
            entries = [Entry(**{name: str(clip[name]) for name in Entry.__annotations__}) for clip in told["clips"]]
            nothing = str(told["nothing"])
            if not all(map(KEY.fullmatch, [nothing, *(key for entry in entries for key in (entry.clip, entry.text))])):
                raise KeyError("clip")
            return entries, nothing, None if told["checkpoint"] is None else Path(told["checkpoint"])
        except (KeyError, TypeError, AttributeError) as error:
            raise MovaError(f"{path} is not what this version writes; prepare the clips again.") from error

    def index(self) -> tuple[list[Entry], str, Path | None]:
        """The clips, the key of no caption's features, and the checkpoint that all is made with, if it was one.

        Raises MovaError if this is no prepared folder, or a file that it names is not there.
        """
        entries, nothing, checkpoint = self.listed()
        wanted = {self.clip_path(entry.clip): entry.name for entry in entries}
        wanted |= {self.text_path(entry.text): f"the caption of {entry.name}" for entry in entries}
        wanted[self.text_path(nothing)] = "the empty caption"
        for file, name in wanted.items():
            if not self.has(file):
                raise MovaError(f"{self.folder} lacks {name} ({file.name}), or it is damaged; prepare the clips again.")
        if not entries:
            raise MovaError(f"{self.folder} holds no clip to train on; prepare some.")
        return entries, nothing, checkpoint


def read(path: Path) -> dict[str, Tensor]:
    weights = open_file(path)
    return {name: tensor.clone() for name, tensor in weights.read(weights.tensors)}


def make_folder(folder: Path) -> None:
    """Raises MovaError if there is none and none can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MovaError(f"The folder {folder} cannot be made ({error.strerror}); name another one.") from error
