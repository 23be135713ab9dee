"""What conversion writes: for each part of a release, a file, the tensors in it, and where they are read.

Planning reads headers and configurations only.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..checkpoint.formats import GGUF
from ..checkpoint.header import FLOATS, TensorInfo, broken, check_is_file
from ..checkpoint.prism import BASE, Prism, open_together
from ..checkpoint.release import EMBEDDING, EXPERTS, JOINT, Checkpoint, open_checkpoint
from ..checkpoint.weights import Weights, check_tensors, open_weights
from ..errors import MovaError
from ..model.config import MovaConfig
from ..model.joint import JointModel
from ..model.shapes import expected_shapes
from ..model.stored_config import stored_expert
from ..model.wan_vae_names import wan_name
from ..shorten import short

PARTS = (*EXPERTS, "audio_vae", "video_vae", "text_encoder")


class Source(Protocol):
    """Where tensors are read: Weights, or FileBytes."""

    @property
    def where(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]: ...


@dataclass(frozen=True)
class FileBytes:
    """A whole file as the tensor "bytes" (uint8)."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {"bytes": TensorInfo("U8", (self.path.stat().st_size,))}

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        for name in names:
            yield name, torch.frombuffer(bytearray(self.path.read_bytes()), dtype=torch.uint8)


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its new name, and where it is read."""

    name: str
    source: Source
    source_name: str


def file_of(entry: Entry) -> Path:
    """The file in which an entry's tensor is read."""
    source: Any = entry.source
    return source.path if isinstance(source, FileBytes) else source.files[entry.source_name]


@dataclass(frozen=True)
class Target:
    """A file to write. `dtype`: the format of its floating tensors, None as they are stored."""

    name: str
    folder: str  # under ComfyUI's models
    entries: list[Entry]
    metadata: dict[str, str]
    part: str = ""
    dtype: str | None = None


def chosen_parts(given: Sequence[str] | None, known: Sequence[str] = PARTS) -> tuple[str, ...] | None:
    """Names of parts, separated by commas or as separate words, in the usual order; None if none were given."""
    if given is None:
        return None
    names = {name for word in given for name in word.replace(",", " ").split()}
    for name in sorted(names - set(known)):
        raise MovaError(f"There is no part called {short(name)}; choose among {', '.join(known)}.")
    if not names:
        raise MovaError(f"No part is named; choose among {', '.join(known)}.")
    return tuple(part for part in known if part in names)


def place_of(part: str, stem: str, dtype: str | None) -> tuple[str, str]:
    """Where a part's file goes: its name without the ending, and the folder under ComfyUI's models."""
    if part in EXPERTS:
        ending = GGUF[dtype].type_name if dtype in GGUF else dtype  # people look for Q8_0 in a GGUF file's name
        return f"{stem}_{part}_{ending}", "diffusion_models"
    if part == "text_encoder":
        return f"{stem}_umt5_xxl_{dtype}", "text_encoders"
    return f"{stem}_{'wan_vae' if part == 'video_vae' else part}", "vae"


def with_ending(name: str, dtype: str | None) -> str:
    """A file's name, by the kind of file that holds the format."""
    return name + (".gguf" if dtype in GGUF else ".safetensors")


def plan_folder(
    root: Path,
    stem: str,
    dtype: Mapping[str, str | None],
    parts: Sequence[str],
    opened: Callable[[Path], Weights] = open_weights,
) -> Iterator[Target]:
    """The files made of some parts of a released folder; of the others nothing needs to be there.

    `dtype`: the format of each part; `stem` begins the files' names; `opened` reads the headers in a part's folder.
    Raises MovaError if a part is missing, damaged, or does not fit its configuration.
    """
    if not root.is_dir():
        raise MovaError(f"{root} is neither a folder nor a file; give the released folder, or one expert's file.")
    needed = {part: [folder for folder in folders_of(part) if not (root / folder).is_dir()] for part in PARTS}
    missing = sorted({folder for part in parts for folder in needed[part]})
    if missing:
        there = [part for part in PARTS if not needed[part]]
        rest = f", or write only what is there with --parts {','.join(there)}" if there else ""
        raise MovaError(f"{root} lacks {', '.join(missing)}; download the rest{rest}.")
    folders = {folder for part in parts for folder in folders_of(part)} - {"tokenizer"}
    checkpoint = open_checkpoint(root, folders, opened, to_run=False)
    for part in parts:
        yield TARGETS.get(part, expert_target)(checkpoint, part, stem, dtype[part])


def folders_of(part: str) -> tuple[str, ...]:
    """The folders of a release that a part is made of."""
    if part in EXPERTS:
        return (EXPERTS[part], *JOINT)
    return (part, "tokenizer") if part == "text_encoder" else (part,)


def expert_target(checkpoint: Checkpoint, part: str, stem: str, dtype: str | None, source: str | None = None) -> Target:
    """An expert with audio tower and bridge in one file. `source`: the release's name, if it is not the folder's."""
    prefixes = {EXPERTS[part]: ""} | {folder: folder + "." for folder in JOINT}
    held = {prefix: checkpoint.weights[folder] for folder, prefix in prefixes.items()}
    entries = [Entry(prefix + name, weights, name) for prefix, weights in held.items() for name in weights.tensors]
    return joint_target(part, checkpoint.config, entries, checkpoint.name, stem, dtype)


def joint_target(
    part: str, config: MovaConfig, entries: list[Entry], source: str, stem: str, dtype: str | None
) -> Target:
    # Under "transformer", where ComfyUI's core loader looks for it.
    values = {"transformer": {**config.to_dict(), "expert": part}}
    metadata = metadata_of(part, values, source, dtype)
    return Target(*place_of(part, stem, dtype), entries, metadata, part, dtype)


def audio_vae_target(checkpoint: Checkpoint, part: str, stem: str, dtype: str | None) -> Target:
    """The audio VAE, in one file."""
    config = {part: {**asdict(checkpoint.audio_vae), "continuous": True}}
    entries = [Entry(name, checkpoint.weights[part], name) for name in checkpoint.weights[part].tensors]
    metadata = metadata_of(part, config, checkpoint.name, dtype)
    return Target(*place_of(part, stem, dtype), entries, metadata, part, dtype)


def video_vae_target(checkpoint: Checkpoint, part: str, stem: str, dtype: str | None) -> Target:
    """The video VAE, with Wan's names."""
    values, weights = checkpoint.configs[part], checkpoint.weights[part]
    resnets = values.get("num_res_blocks", 2)
    entries = [Entry(wan_name(name, resnets), weights, name) for name in weights.tensors]
    metadata = metadata_of(part, {part: values}, checkpoint.name, dtype)
    return Target(*place_of(part, stem, dtype), entries, metadata, part, dtype)


def text_encoder_target(checkpoint: Checkpoint, part: str, stem: str, dtype: str | None) -> Target:
    """UMT5 and its sentencepiece model in one file, as ComfyUI's Load CLIP (type wan) reads it."""
    weights, tokenizer = checkpoint.weights[part], sentencepiece_model(checkpoint.root / "tokenizer")
    entries = [Entry(name, weights, name) for name in weights.tensors if name != EMBEDDING]
    entries += [Entry("spiece_model", FileBytes(tokenizer), "bytes")]
    metadata = metadata_of(part, {part: checkpoint.configs[part]}, checkpoint.name, dtype)
    return Target(*place_of(part, stem, dtype), entries, metadata, part, dtype)


TARGETS = {"audio_vae": audio_vae_target, "video_vae": video_vae_target, "text_encoder": text_encoder_target}


def metadata_of(part: str, config: Mapping[str, Any], source: str, dtype: str | None) -> dict[str, str]:
    return {"config": json.dumps(config), "source": source, "part": part, "dtype": dtype or "as stored"}


def sentencepiece_model(folder: Path) -> Path:
    """The tokenizer in the form that ComfyUI reads. Raises MovaError if it is not there, or is something else."""
    path = folder / "spiece.model"
    remedy = "download it from the release, or leave the text encoder out with --parts"
    if not path.exists():
        raise broken(folder, "lacks spiece.model, the tokenizer that ComfyUI reads", remedy)
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            first = file.read(1)
    except OSError as error:
        raise MovaError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if first != b"\x0a":  # field 1 of the message, the vocabulary, with which all such files begin
        raise broken(path, "is not a sentencepiece model", remedy)
    return path


def plan_file(path: Path, stem: str | None, dtype: str, parts: Sequence[str] | None) -> Target:
    """One expert's file, written by us, once more in another dtype.

    Raises MovaError if it is another kind of file, if it is not known which expert it is, or if it is quantised.
    """
    weights = open_weights(path)
    if "config" not in weights.metadata or "audio_dit.patch_embedding.weight" not in weights.tensors:
        raise broken(path, "is not one expert's file with its configuration", "give the released folder")
    held = sorted({info.dtype for info in weights.tensors.values()} - FLOATS)
    if held:
        raise broken(path, f"is quantised ({', '.join(held)})", "convert from the bf16 file, or the released folder")
    config = MovaConfig.from_file(weights.shapes(), weights.metadata, path)
    check_tensors(weights.tensors, expected_shapes(JointModel(config, device="meta")), weights.where)
    part = stored_expert(weights.metadata, path)
    if part is None and parts and len(parts) == 1:
        part = parts[0]
    if part not in EXPERTS:
        raise broken(path, "does not say which expert it is", "add --parts high_noise or --parts low_noise")
    if parts and parts != (part,):
        raise broken(path, f"holds the part {part}, not {', '.join(parts)}", "give the released folder")
    stem = stem or re.sub(rf"_{part}(_[^_]+)?$", "", path.stem)
    source = weights.metadata.get("source", path.stem)
    return joint_target(part, config, [Entry(n, weights, n) for n in weights.tensors], source, stem, dtype)


def plan_prism(
    prism: Prism,
    base: Path | None,
    stem: str | None,
    dtype: str,
    parts: Sequence[str] | None,
    remedy: str = BASE,
) -> Iterator[Target]:
    """The experts of a file in Prism's layout, alone or over the release that it was trained from.

    The VAEs and the text encoder are MOVA-360p's. remedy: what to do about a file that lacks something. Raises
    MovaError if the file is damaged, lacks something, or is asked for parts that it has not.
    """
    if wrong := [part for part in parts or () if part not in EXPERTS]:
        raise MovaError(
            f"{prism.path} holds no {' and no '.join(wrong)}: Prism uses MOVA-360p's; convert these from there, or "
            f"name only {' and '.join(EXPERTS)} with --parts."
        )
    checkpoint = open_together(prism, base, remedy)
    for part in parts or EXPERTS:
        yield expert_target(checkpoint, part, stem or prism.name, dtype)
