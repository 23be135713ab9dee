"""A checkpoint folder laid out like the release: what is in it, checked before any weight is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import text, video_vae
from .audio_vae import WEIGHT_NORM, AudioVAE
from .checkpoint import TensorInfo, Weights, check_tensors, expected_shapes, open_weights, read_json
from .config import AudioVAEConfig, MovaConfig
from .errors import MovaError
from .joint import JointModel

EXPERTS = ("video_dit", "video_dit_2")  # high noise, low noise
JOINT = ("audio_dit", "dual_tower_bridge")  # what both experts share
PARTS = (*EXPERTS, *JOINT, "audio_vae", "video_vae", "text_encoder")


@dataclass(frozen=True)
class ScheduleConfig:
    """The released schedule's settings."""

    shift: float = 5.0
    sigma_min: float = 0.0
    extra_one_step: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder. The weights are still on disk."""

    root: Path
    config: MovaConfig
    audio_vae: AudioVAEConfig
    schedule: ScheduleConfig
    boundary: float
    weights: dict[str, Weights]


def open_checkpoint(root: Path) -> Checkpoint:
    """Read the configurations and the headers of all weights, and check that they belong together.

    Raises MovaError, naming the part, if one is missing or damaged, or if a tensor is missing, extra or misshapen.
    """
    root = Path(root)
    if not root.is_dir():
        raise MovaError(f"{root} is not a folder; give the folder that holds model_index.json and the model's parts.")
    missing = [name for name in (*PARTS, "tokenizer", "scheduler") if not (root / name).is_dir()]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise MovaError(f"{root} lacks the part{plural} {', '.join(missing)}; download the whole model folder.")
    configs = {part: read_json(root / part / "config.json") for part in PARTS}
    if MovaConfig.from_dict(configs) != MovaConfig.from_dict({**configs, "video_dit": configs["video_dit_2"]}):
        raise MovaError(
            f"{root}: video_dit/config.json and video_dit_2/config.json differ; take both experts from one release."
        )
    checkpoint = Checkpoint(
        root,
        MovaConfig.from_dict(configs),
        AudioVAEConfig.from_dict(configs["audio_vae"]),
        read_schedule(root / "scheduler" / "scheduler_config.json"),
        read_boundary(root / "model_index.json"),
        {part: open_weights(root / part) for part in PARTS},
    )
    if checkpoint.audio_vae.latent_dim != checkpoint.config.audio_dit.out_dim:
        raise MovaError(f"{root}: audio_vae and audio_dit have different latents; take both from one release.")
    text.load_tokenizer(root / "tokenizer")  # small, and its faults show only so
    for part, weights in checkpoint.weights.items():
        found, expected, optional = weights.tensors, expected_tensors(checkpoint, part), set[str]()
        if part == "audio_vae":
            found = plain_infos(found)
        if part == "text_encoder":
            optional = {"encoder.embed_tokens.weight"}  # the same tensor as shared.weight; files hold one or both
        check_tensors(found, expected, weights.where, optional)
    return checkpoint


def expected_tensors(checkpoint: Checkpoint, part: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes that a part must have according to its configuration."""
    if part == "text_encoder":
        return text.expected_tensors(checkpoint.root / part)
    if part == "video_vae":
        return video_vae.expected_tensors(checkpoint.root / part)
    if part == "audio_vae":
        return expected_shapes(AudioVAE(checkpoint.audio_vae, device="meta"))
    joint = JointModel(checkpoint.config, device="meta")
    if part in JOINT:
        return expected_shapes(joint, part + ".")
    return {name: shape for name, shape in expected_shapes(joint).items() if not name.startswith(JOINT)}


def plain_infos(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """What audio_vae.plain_weights makes of tensors with these names."""
    plain = {}
    for name, info in infos.items():
        for magnitude, direction in WEIGHT_NORM:
            if name.endswith(magnitude):
                break
            if name.endswith(direction):
                plain[name.removesuffix(direction) + "weight"] = info
                break
        else:
            plain[name] = info
    return plain


def read_schedule(path: Path) -> ScheduleConfig:
    """The settings in scheduler_config.json; raises MovaError if they make no schedule."""
    values = read_json(path)
    shift, sigma_min = values.get("shift", 5.0), values.get("sigma_min", 0.0)
    extra_one_step = values.get("extra_one_step", True)
    if not (is_number(shift) and shift > 0 and is_number(sigma_min) and 0 <= sigma_min < 1):
        raise MovaError(f"{path}: shift {shift!r} and sigma_min {sigma_min!r} make no schedule; download it again.")
    if values.get("num_train_timesteps", 1000) != 1000 or not isinstance(extra_one_step, bool):
        raise MovaError(f"{path} is not the schedule of a MOVA release (1000 training timesteps); download it again.")
    return ScheduleConfig(shift, sigma_min, extra_one_step)


def read_boundary(path: Path) -> float:
    """The sigma below which the low-noise expert works, from model_index.json."""
    boundary = read_json(path).get("boundary_ratio", 0.9)
    if not (is_number(boundary) and 0 <= boundary <= 1):
        raise MovaError(f"{path}: boundary_ratio {boundary!r} must be between 0 and 1; download it again.")
    return float(boundary)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
