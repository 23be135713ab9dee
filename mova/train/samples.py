"""What is to be trained on: clips and their captions, from a folder or a list, before any of them is opened."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import strict_json
from ..errors import MovaError
from ..files import reason
from ..shorten import first_names, short

VIDEOS = {
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".wmv", ".ts", ".mts", ".m2ts"),
    *(".ogv", ".3gp", ".gif"),
}
LIST = ".jsonl"
FIELDS = {"video", "caption", "audio", "start", "seconds"}
LONGEST_CAPTION = 100_000  # bytes; 512 tokens are used


@dataclass(frozen=True)
class Sample:
    """A clip: from `start` (seconds) on, at most `seconds` long, with the sound of the video or of another file."""

    name: str  # for messages
    video: Path
    caption: str
    audio: Path | None = None
    start: float = 0.0
    seconds: float = math.inf


@dataclass
class Skipped:
    """What is not trained on, and why."""

    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, why: str) -> None:
        while name in self.reasons:
            name += " (again)"
        self.reasons[name] = why


def find_samples(data: Path, skipped: Skipped) -> list[Sample]:
    """The samples in a folder (clips, each with a .txt beside it) or a JSONL file, by their names or lines.

    What is no sample goes to `skipped`. Raises MovaError if there is nothing to look into.
    """
    if data.suffix.lower() == LIST and data.is_file():
        return list(listed(data, skipped))
    if not data.is_dir():
        raise MovaError(f"{data} is not a folder of clips, nor a {LIST} file; name one of both.")
    try:
        files = sorted(path for path in data.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise MovaError(f"{data} cannot be read ({reason(error)}); give yourself the right to read it.") from error
    if not files:
        raise MovaError(f"{data} is empty; put clips there, each with its caption in a .txt file of the same name.")
    return list(in_folder(files, skipped))


def in_folder(files: list[Path], skipped: Skipped) -> Iterator[Sample]:
    videos = [path for path in files if path.suffix.lower() in VIDEOS and path.is_file()]
    captions = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
    clips, stems = set(videos), {path.stem for path in videos}
    for path in files:
        if path in clips or (path.suffix.lower() == ".txt" and path.stem in stems):
            continue
        if path.is_dir():
            skipped.add(path.name, "is a folder, which is not looked into")
        elif path.suffix.lower() == ".txt":
            skipped.add(path.name, "is a caption without a clip of its name")
        else:
            skipped.add(path.name, f"is no clip (known are {', '.join(sorted(VIDEOS))})")
    for path in videos:
        if path.stem not in captions:
            skipped.add(path.name, f"has no caption ({path.stem}.txt beside it)")
            continue
        try:
            yield Sample(path.name, path, caption_of(captions[path.stem]))
        except MovaError as error:
            skipped.add(path.name, str(error))


def caption_of(path: Path) -> str:
    """The text of a caption. Raises MovaError if there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MovaError(f"its caption {path.name} cannot be read ({reason(error)})") from error
    if len(content) > LONGEST_CAPTION:
        raise MovaError(f"its caption {path.name} has {len(content)} bytes, which no caption has")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MovaError(f"its caption {path.name} is not UTF-8 text") from None
    return checked_caption(text)


def checked_caption(text: str) -> str:
    if "\0" in text:
        raise MovaError("its caption is not plain text")
    if not text.strip():
        raise MovaError("its caption is empty")
    return text.strip()


def listed(path: Path, skipped: Skipped) -> Iterator[Sample]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MovaError(f"{path} cannot be read ({reason(error)}); give yourself the right to read it.") from error
    except UnicodeDecodeError:
        raise MovaError(f"{path} is not UTF-8 text; save it as such.") from None
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise MovaError(f'{path} is empty; give one {{"video": ..., "caption": ...}} a line.')
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield sample_of(path, number, strict_json.parse(line))
        except ValueError as error:  # MovaError is one, too
            skipped.add(f"{path.name}, line {number}", str(error))


def sample_of(path: Path, number: int, told: Any) -> Sample:
    """A line of a JSONL file. Raises MovaError for what it may not say."""
    if not isinstance(told, dict):
        raise MovaError("is not a JSON object ({...})")
    if unknown := sorted(set(told) - FIELDS):
        raise MovaError(f"has the unknown {first_names(unknown)}; known are {', '.join(sorted(FIELDS))}")
    texts: dict[str, str] = {}
    for name in ("video", "caption", "audio"):
        value = told.get(name)
        if value is None and name == "audio":
            continue
        if not isinstance(value, str) or not value.strip() or (name != "caption" and "\0" in value):
            raise MovaError(f"has no {name}, or one that is no text ({short(value)})")
        texts[name] = value
    numbers = {"start": 0.0, "seconds": math.inf}
    for name in numbers:
        value = told.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise MovaError(f"has {short(value)} for {name}; give seconds, 0 or more")
        numbers[name] = float(value)
    video = path.parent / os.path.expanduser(texts["video"])
    audio = path.parent / os.path.expanduser(texts["audio"]) if "audio" in texts else None
    for file in (video, audio):
        if file is not None and not os.path.isfile(file):
            raise MovaError(f"names {short(str(file))}, which is no file")
    name = f"{video.name} (line {number})"
    return Sample(name, video, checked_caption(texts["caption"]), audio, **numbers)
