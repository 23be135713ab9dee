"""What a file or folder is: a checkpoint folder, weights in safetensors or GGUF, a LoRA, or a clip.

Of weights only the headers are read, and of LoRAs all.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.header import DTYPE_BITS, TensorInfo
from ..checkpoint.hub_record import record_of
from ..checkpoint.prism import alone, find_prism, is_prism, opened, prism_of
from ..checkpoint.quantised_layers import BESIDE, METADATA, quantised_layers
from ..checkpoint.release import EXPERT_FOLDERS, FOLDERS, JOINT, open_checkpoint
from ..checkpoint.weights import PICKLES, Weights, open_weights
from ..clip.reading import read_clip_info
from ..errors import MovaError
from ..lora.file import TRAINERS_NAMES
from ..model.audio_vae import WEIGHT_NORM
from ..model.config import MovaConfig, Shapes
from ..model.stored_config import EXPERT_NAMES, stored_expert
from ..shorten import printable

# Tensors by which a part is known: in the release, in the files that ComfyUI's users have, or in GGUF.
SIGNS = {
    "MOVA bridge": ("audio_to_video_conditioners.0.inner.q.weight",),
    "MOVA audio VAE": tuple("decoder.model.0." + weight for weight in ("weight", *(name for name, _ in WEIGHT_NORM))),
    "Wan video VAE": ("decoder.mid_block.resnets.0.norm1.gamma", "decoder.middle.0.residual.0.gamma"),
    # T5 itself has this in its first block only.
    "UMT5 encoder": (
        "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
        "enc.blk.1.attn_rel_b.weight",
    ),
}
# Beside the weights: what belongs to a quantised layer, and the tokenizer in a text encoder's file.
NOT_WEIGHTS = (*BESIDE, "spiece_model")


def describe(path: Path) -> Iterator[str]:
    """Lines for the user. Raises MovaError if the path is nothing that MOVA knows, or is damaged."""
    from ..lora.describe import describe_lora

    suffix = path.suffix.lower()
    if path.is_dir() and ((path / "model_index.json").exists() or any((path / part).is_dir() for part in FOLDERS)):
        return describe_folder(path)
    if path.is_dir() and any((path / name).is_file() for name in TRAINERS_NAMES):
        return describe_lora(path)
    if path.is_dir() or suffix == ".safetensors":
        return describe_weights(path)
    if suffix == ".gguf":
        return describe_gguf(path)
    if path.exists() and suffix in PICKLES:  # LoRAs and Prism's are the only pickles that MOVA takes
        return describe_weights(path) if find_prism(path) else describe_lora(path)
    if suffix == ".mp4":
        return describe_clip(path)
    if not path.exists():
        raise MovaError(f"{path} is not there; check the path.")
    kinds = "a model folder, weights (.safetensors, .gguf), a LoRA (also .pt) nor an .mp4 clip"
    raise MovaError(f"{path} is neither {kinds}; name one of those.")


def describe_folder(path: Path) -> Iterator[str]:
    unchecked: tuple[str, ...] = ()
    try:
        checkpoint = open_checkpoint(path)
    except ImportError:  # of the libraries that know what these should be like; ComfyUI's Python has no diffusers
        unchecked = ("video_vae", "text_encoder")
        checkpoint = open_checkpoint(path, set(FOLDERS).difference(unchecked))
    parts = {part: open_weights(path / part) if part in unchecked else checkpoint.weights[part] for part in FOLDERS}
    video, audio = checkpoint.config.video_dit, checkpoint.config.audio_dit
    yield f"MOVA checkpoint folder {path}"
    yield f"video tower: {video.num_layers} layers, width {video.dim}; audio tower: {audio.num_layers}, {audio.dim}"
    yield f"experts switch at timestep {1000 * checkpoint.boundary:g}; schedule shift {checkpoint.schedule.shift:g}"
    for part, weights in parts.items():
        note = {EXPERT_FOLDERS[0]: " (high noise)", EXPERT_FOLDERS[1]: " (low noise)"}.get(part, "")
        commits = {record.commit[:7]: None for path in weights.paths() if (record := record_of(path))}
        known = f", commit {' and '.join(commits)}" if commits else ""
        doubt = ", not checked: that needs diffusers and transformers" if part in unchecked else ""
        yield f"{part + note:28} {totals(weights.tensors)}, {len(weights.paths())} file(s){known}{doubt}"


def describe_weights(path: Path) -> Iterator[str]:
    from ..lora.describe import describe_lora
    from ..lora.reading import is_lora

    weights = opened(path)
    if is_lora(weights.tensors):
        yield from describe_lora(path)
        yield totals(weights.tensors)
    else:
        layers = quantised_layers(weights)
        yield f"{kind_of(weights.shapes(), weights.metadata) or 'safetensors of another kind'}: {path}"
        yield totals(weights.tensors, layers)
        if layers:
            yield "quantised layers: " + counted(layers.values())
        yield from describe_parts(weights.tensors, layers)
        yield from describe_faults(weights, path)
    yield from describe_metadata({name: value for name, value in weights.metadata.items() if name != METADATA})


def describe_faults(weights: Weights, path: Path) -> Iterator[str]:
    """Of Prism's file: what keeps it from being a whole model by itself, as `convert` would say it."""
    if not is_prism(weights.tensors):
        return
    try:
        alone(prism_of(weights, path))
    except MovaError as error:
        yield f"no whole model by itself: {error}"


def describe_gguf(path: Path) -> Iterator[str]:
    from ..checkpoint import gguf_file

    tensors, metadata = gguf_file.read_gguf_header(path)
    shapes = {name: info.shape for name, info in tensors.items()}
    yield f"{kind_of(shapes, metadata) or 'another kind of model'} in GGUF: {path}"
    yield totals(tensors, byte_count=lambda info: gguf_file.byte_count(info.shape, info.dtype))
    yield from describe_parts(tensors)
    yield from describe_metadata(metadata)


def describe_clip(path: Path) -> Iterator[str]:
    clip = dataclasses.asdict(read_clip_info(path))
    settings, prompt = clip.pop("settings"), clip.pop("prompt")
    if "mova" not in settings:  # else it is a clip of the command line, whose workflow says the same
        settings |= dict(node_settings(prompt))
    yield f"clip {path}"
    for name, value in clip.items():
        yield printable(f"{name}: {value}")
    if not settings:
        yield "no settings of ours in it"
    for name, value in ((name, value) for name, value in settings.items() if name not in clip):
        yield printable(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")


def node_settings(prompt: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What MOVA's nodes were set to in a workflow (ComfyUI's API format), but for what came over links."""
    for number, node in prompt.items():
        kind = node.get("class_type") if isinstance(node, dict) else None
        inputs = node.get("inputs") if isinstance(kind, str) and kind.startswith("MOVA") else None
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if not isinstance(value, list):
                yield f"{kind} ({number}), {name}", value


def kind_of(shapes: Shapes, metadata: Mapping[str, str]) -> str:
    """Which part of a model these tensors are, by their names; empty if of none."""
    if is_prism(shapes):
        depth = sum(
            bool(re.fullmatch(r"fusion_blocks\.\d+\.audio_block\.self_attn\.q\.weight", name)) for name in shapes
        )
        return f"Prism, both experts in one file, {depth} layers with sound"
    if "audio_dit.patch_embedding.weight" in shapes:
        config = MovaConfig.from_file(shapes, metadata)
        layers = f"{config.video_dit.num_layers} video and {config.audio_dit.num_layers} audio layers"
        expert = stored_expert(metadata)
        known = "one expert (it does not say which)" if expert is None else f"{EXPERT_NAMES[expert]} expert"
        return f"MOVA joint model, {known}, {layers}"
    for kind, names in SIGNS.items():
        if any(name in shapes for name in names):
            return kind
    if "blocks.0.self_attn.q.weight" not in shapes:
        return ""
    # Of the released video towers, nothing but the numbers tells whether they are MOVA's.
    axes = len(shapes.get("patch_embedding.weight", ())) - 2
    return "MOVA audio tower" if axes == 1 else "Wan transformer or MOVA tower (video)"


def describe_parts(tensors: Mapping[str, TensorInfo], layers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Of an expert's file: how large the towers and the bridge are."""
    if "audio_dit.patch_embedding.weight" not in tensors:
        return
    counts: collections.Counter[str] = collections.Counter()
    for name, info in tensors.items():
        part = name.split(".")[0]
        counts[part if part in JOINT else "video"] += parameters(name, info, layers or {})
    names = {"video": "video tower", "audio_dit": "audio tower", "dual_tower_bridge": "bridge"}
    yield ", ".join(f"{name} {counts[part] / 1e6:,.1f} M" for part, name in names.items())


def describe_metadata(metadata: Mapping[str, str]) -> Iterator[str]:
    for name, value in metadata.items():
        yield printable(f"{name}: {value if len(value) < 200 else value[:200] + '…'}")


def parameters(name: str, info: TensorInfo, layers: Mapping[str, str]) -> int:
    """How many weights a tensor holds."""
    if name.endswith(NOT_WEIGHTS):
        return 0
    packed = info.dtype == "U8" and layers.get(name.removesuffix(".weight")) == "nvfp4"  # two to a byte
    return math.prod(info.shape) * (2 if packed else 1)


def totals(
    tensors: Mapping[str, TensorInfo],
    layers: Mapping[str, str] | None = None,
    byte_count: Callable[[TensorInfo], int] = lambda info: math.prod(info.shape) * DTYPE_BITS[info.dtype] // 8,
) -> str:
    """How many tensors, parameters and bytes, and in which dtypes."""
    size = sum(map(byte_count, tensors.values()))
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    count = sum(parameters(name, info, layers or {}) for name, info in tensors.items())
    dtypes = counted(info.dtype for info in tensors.values())
    return f"{len(tensors)} tensors, {count / 1e6:,.1f} M parameters, {size / unit:.2f} {name}, {dtypes}"


def counted(kinds: Iterable[str]) -> str:
    """ "F32 (90), Q8_0 (66)": how often each comes, the most frequent first."""
    return ", ".join(f"{kind} ({count})" for kind, count in collections.Counter(kinds).most_common())
