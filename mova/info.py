"""What a file or folder is: a checkpoint folder, a safetensors file, or a clip."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

from .checkpoint import TensorInfo, Weights, open_weights
from .config import MovaConfig
from .errors import MovaError
from .folder import EXPERTS, PARTS, open_checkpoint
from .media import read_clip_info
from .safetensors_header import DTYPE_BITS


def describe(path: Path) -> Iterator[str]:
    """Lines for the user. Raises MovaError if the path is nothing that MOVA knows."""
    if path.is_dir() and ((path / "model_index.json").exists() or any((path / part).is_dir() for part in PARTS)):
        return describe_folder(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return describe_weights(path)
    if path.suffix == ".mp4":
        return describe_clip(path)
    what = "is not there" if not path.exists() else "is neither a model folder, a .safetensors file nor an .mp4 clip"
    raise MovaError(f"{path} {what}; name one of those.")


def describe_folder(path: Path) -> Iterator[str]:
    checkpoint = open_checkpoint(path)
    video, audio = checkpoint.config.video_dit, checkpoint.config.audio_dit
    yield f"MOVA checkpoint folder {path}"
    yield f"video tower: {video.num_layers} layers, width {video.dim}; audio tower: {audio.num_layers}, {audio.dim}"
    yield f"experts switch at timestep {1000 * checkpoint.boundary:g}; schedule shift {checkpoint.schedule.shift:g}"
    for part, weights in checkpoint.weights.items():
        note = {EXPERTS[0]: " (high noise)", EXPERTS[1]: " (low noise)"}.get(part, "")
        yield f"{part + note:28} {totals(weights.tensors)}, {len(set(weights.files.values()))} file(s)"


def describe_weights(path: Path) -> Iterator[str]:
    weights = open_weights(path)
    yield f"{kind_of(weights)}: {path}"
    yield totals(weights.tensors)
    for name, value in weights.metadata.items():
        yield f"{name}: {value if len(value) < 200 else value[:200] + '…'}"


def describe_clip(path: Path) -> Iterator[str]:
    clip = dataclasses.asdict(read_clip_info(path))
    settings = clip.pop("settings")
    yield f"clip {path}"
    for name, value in clip.items():
        yield f"{name}: {value}"
    if not settings:
        yield "no settings of ours in it"
    for name, value in settings.items():
        yield f"{name}: {value if isinstance(value, str) else json.dumps(value)}"


def kind_of(weights: Weights) -> str:
    """Which part of a model these tensors are, by their names."""
    tensors = weights.tensors
    if any(name.startswith("audio_dit.") for name in tensors) and "patch_embedding.weight" in tensors:
        config = MovaConfig.from_file(weights.shapes(), weights.metadata)
        return f"MOVA joint model, one expert, {config.video_dit.num_layers} video layers"
    signs = {
        "MOVA bridge": "audio_to_video_conditioners.0.inner.q.weight",
        "MOVA audio VAE": "decoder.model.0.weight",
        "Wan transformer or MOVA tower": "blocks.0.self_attn.q.weight",
        "Wan video VAE": "decoder.conv_in.weight",
        "UMT5 encoder": "shared.weight",
    }
    return next((kind for kind, name in signs.items() if name in tensors), "safetensors of another kind")


def totals(tensors: dict[str, TensorInfo]) -> str:
    """How many tensors, parameters and bytes, and in which dtypes."""
    count = {name: math.prod(info.shape) for name, info in tensors.items()}
    size = sum(count[name] * DTYPE_BITS[info.dtype] // 8 for name, info in tensors.items())
    dtypes = collections.Counter(info.dtype for info in tensors.values())
    listed = ", ".join(dtype for dtype, _ in dtypes.most_common())
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{len(tensors)} tensors, {sum(count.values()) / 1e6:,.1f} M parameters, {size / unit:.2f} {name}, {listed}"
