"""From the released folder to the single files that ComfyUI's own nodes load."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .checkpoint import Weights, read_json
from .errors import MovaError
from .files import whole_file
from .folder import EXPERTS, JOINT, Checkpoint
from .safetensors_header import DTYPE_BITS
from .wan_vae_names import wan_name

DTYPES = {"bf16": (torch.bfloat16, "BF16"), "fp16": (torch.float16, "F16"), "fp32": (torch.float32, "F32")}
FLOATS = {"BF16", "F16", "F32", "F64"}
EXPERT_NAMES = {"video_dit": "high_noise", "video_dit_2": "low_noise"}


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its new name, and where it is read."""

    name: str
    source: Weights
    source_name: str


@dataclass(frozen=True)
class Target:
    """A file to write."""

    name: str
    folder: str  # under ComfyUI's models
    entries: list[Entry]
    metadata: dict[str, str]


def targets(checkpoint: Checkpoint, stem: str, dtype: str) -> dict[str, Target]:
    """The files made of a checkpoint, by part; `stem` begins their names."""
    found = {}
    for part in EXPERTS:
        entries = whole(checkpoint.weights[part], lambda name: name)
        for shared in JOINT:
            entries += whole(checkpoint.weights[shared], lambda name, shared=shared: f"{shared}.{name}")  # type: ignore[misc]
        # Under "transformer", where ComfyUI's core loader looks for it.
        config = {"transformer": {**checkpoint.config.to_dict(), "expert": EXPERT_NAMES[part]}}
        metadata = {"config": json.dumps(config), "source": checkpoint.root.resolve().name}
        found[part] = Target(f"{stem}_{EXPERT_NAMES[part]}_{dtype}", "diffusion_models", entries, metadata)
    audio = checkpoint.weights["audio_vae"]
    audio_config = json.dumps({"audio_vae": {**asdict(checkpoint.audio_vae), "continuous": True}})
    # In float32 if it is stored so: sound shows rounding sooner than pictures do, and the file is small.
    found["audio_vae"] = Target(f"{stem}_audio_vae", "vae", whole(audio, lambda name: name), {"config": audio_config})
    resnets = read_json(checkpoint.root / "video_vae" / "config.json").get("num_res_blocks", 2)
    video = whole(checkpoint.weights["video_vae"], lambda name: wan_name(name, resnets))
    found["video_vae"] = Target(f"{stem}_wan_vae", "vae", video, {})
    return found


def whole(weights: Weights, rename: Callable[[str], str]) -> list[Entry]:
    return [Entry(rename(name), weights, name) for name in weights.tensors]


def convert(checkpoint: Checkpoint, destination: Path, dtype: str = "bf16", stem: str = "mova") -> Iterator[Path]:
    """Write each target into a folder like ComfyUI's models, tensor by tensor; yields the files as they are done.

    The VAEs keep their stored dtype. Raises MovaError if the dtype is unknown or the destination cannot be written.
    """
    if dtype not in DTYPES:
        raise MovaError(f"There is no format called {dtype!r}; choose one of {', '.join(DTYPES)}.")
    for part, target in targets(checkpoint, stem, dtype).items():
        path = Path(destination) / target.folder / f"{target.name}.safetensors"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MovaError(f"{path.parent} cannot be made ({error.strerror}); name another folder.") from error
        write(path, target, dtype if part in EXPERTS else None)
        yield path


def write(path: Path, target: Target, dtype: str | None) -> None:
    """Write one file. Only one tensor is in memory at a time; floating ones are cast to `dtype` (None: as stored)."""
    header: dict[str, object] = {"__metadata__": {**target.metadata, "format": "pt"}}
    at = 0
    for entry in target.entries:
        info = entry.source.tensors[entry.source_name]
        stored = DTYPES[dtype][1] if dtype and info.dtype in FLOATS else info.dtype
        size = math.prod(info.shape) * DTYPE_BITS[stored] // 8
        header[entry.name] = {"dtype": stored, "shape": info.shape, "data_offsets": (at, at + size)}
        at += size
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8, as the library's own files have them
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in target.entries:
            for _, tensor in entry.source.read([entry.source_name], DTYPES[dtype][0] if dtype else None):
                file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
