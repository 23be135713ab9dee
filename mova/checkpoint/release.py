"""A checkpoint folder laid out like the release: what is in it, checked before any weight is loaded."""

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MovaError
from ..model import text, video_vae
from ..model.audio_vae import WEIGHT_NORM, AudioVAE
from ..model.config import AudioVAEConfig, MovaConfig
from ..model.config_values import MAX_LAYERS
from ..model.joint import JointModel
from ..model.presets import DEFAULT
from ..model.shapes import expected_shapes
from ..sampling.schedule import MAX_SHIFT, is_boundary
from ..shorten import short
from .header import FLOATS, TensorInfo, broken, unreadable
from .hub_record import check_one_release
from .weights import Weights, check_tensors, open_weights, read_json

EXPERTS = {"high_noise": "video_dit", "low_noise": "video_dit_2"}  # the folder of each
EXPERT_FOLDERS = tuple(EXPERTS.values())
JOINT = ("audio_dit", "dual_tower_bridge")  # what both experts share
FOLDERS = (*EXPERT_FOLDERS, *JOINT, "audio_vae", "video_vae", "text_encoder")
MAX_NUMBER = 2**20  # in what another library reads; the largest in a release is the vocabulary, 2^18
LIBRARY_PARTS = {"text_encoder": text, "video_vae": video_vae}  # built by another library
F8 = {"F8_E4M3", "F8_E5M2"}  # the Linear layers' weights are cast up from them as they are read
# By these, transformers would fetch or run code of others, or expect weights in another format.
FOREIGN = ("attn_implementation", "_attn_implementation", "auto_map", "quantization_config")
# Where the model hub's client keeps files until they are whole.
DOWNLOADS = ".cache/huggingface/download"


@dataclass(frozen=True)
class ScheduleConfig:
    """The released schedule's settings."""

    shift: float = DEFAULT.shift
    sigma_min: float = 0.0
    extra_one_step: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder, or the parts of it that were asked for. The weights are still on disk."""

    root: Path
    joint: MovaConfig | None  # None if it was opened without experts, audio tower and bridge
    sound: AudioVAEConfig | None  # None if it was opened without the audio VAE
    schedule: ScheduleConfig  # the released values if it was opened without experts
    boundary: float
    weights: dict[str, Weights]

    @property
    def config(self) -> MovaConfig:
        """Sizes of the joint model. Raises MovaError if none of its parts was opened."""
        if self.joint is None:
            raise MovaError(f"{self.root} was opened without its experts; open video_dit, audio_dit and the bridge.")
        return self.joint

    @property
    def audio_vae(self) -> AudioVAEConfig:
        """Sizes of the audio VAE. Raises MovaError if it was not opened."""
        if self.sound is None:
            raise MovaError(f"{self.root} was opened without its audio VAE; open audio_vae too.")
        return self.sound


def open_checkpoint(root: Path, parts: Collection[str] = FOLDERS) -> Checkpoint:
    """Read the configurations and the headers of the weights of `parts`, and check that they belong together.

    Any of the experts, the audio tower and the bridge needs the config.json of one expert and of both others; an expert
    needs the schedule too, the text encoder the tokenizer. Raises MovaError, naming the part, if one is missing or
    damaged, or if a tensor is missing, extra or misshapen.
    """
    root = Path(root)
    try:
        return open_parts(root, parts)
    except MovaError as error:
        unfinished = sum(name.endswith(".incomplete") for *_, names in os.walk(root / DOWNLOADS) for name in names)
        if not unfinished:
            raise
        hint = f"its download is not finished ({unfinished} files in {DOWNLOADS} are incomplete), start it again"
        raise MovaError(f"{str(error).removesuffix('.')}; {hint}.") from error


def open_parts(root: Path, parts: Collection[str]) -> Checkpoint:
    if not os.path.isdir(root):
        name = root.as_posix()
        on_hub = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not os.path.lexists(root)
        hint = f" (`hf download {name} --local-dir {root.name}` gets one)" if on_hub else ""
        raise MovaError(
            f"{root} is not a folder; give the folder that holds model_index.json and the model's parts{hint}."
        )
    try:
        os.listdir(root)
    except OSError as error:
        raise unreadable(root, error) from error
    experts = [part for part in EXPERT_FOLDERS if part in parts]
    needed = set(parts)
    if needed.intersection((*EXPERT_FOLDERS, *JOINT)):
        experts = experts or [EXPERT_FOLDERS[0]]
        needed |= {*JOINT, *experts}
    folders = [part for part in FOLDERS if part in needed]
    scheduled = any(part in EXPERT_FOLDERS for part in parts)
    folders += ["tokenizer"] * ("text_encoder" in needed) + ["scheduler"] * scheduled
    missing = [name for name in folders if not os.path.isdir(root / name)]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise MovaError(f"{root} lacks the part{plural} {', '.join(missing)}; download the whole model folder.")
    configs = read_configs(root, [part for part in FOLDERS if part in needed])
    models = [MovaConfig.from_dict({**configs, "video_dit": configs[expert]}) for expert in experts]
    if models and models[0] != models[-1]:
        raise MovaError(
            f"{root}: video_dit/config.json and video_dit_2/config.json differ; take both experts from one release."
        )
    checkpoint = Checkpoint(
        root,
        models[0] if models else None,
        AudioVAEConfig.from_dict(configs["audio_vae"]) if "audio_vae" in needed else None,
        read_schedule(root / "scheduler" / "scheduler_config.json") if scheduled else ScheduleConfig(),
        read_boundary(root / "model_index.json") if scheduled else DEFAULT.boundary,
        {part: open_weights(root / part) for part in FOLDERS if part in parts},
    )
    joint = expected_shapes(JointModel(checkpoint.joint, device="meta")) if checkpoint.joint else {}
    for part, weights in checkpoint.weights.items():
        found, optional = weights.tensors, set[str]()
        if part == "audio_vae":
            found = plain_infos(found)
        if part == "text_encoder":
            optional = {"encoder.embed_tokens.weight"}  # the same tensor as shared.weight; files hold one or both
        check_tensors(found, expected_tensors(checkpoint, part, joint, configs[part]), weights.where, optional)
        check_dtypes(weights, FLOATS | F8 if part in (*EXPERT_FOLDERS, *JOINT) else FLOATS)
    check_fit(checkpoint)
    return checkpoint


def read_configs(root: Path, parts: Collection[str]) -> dict[str, dict[str, Any]]:
    """The config.json of each part; those that other libraries will read are checked, the tokenizer's with them."""
    configs = {part: read_json(root / part / "config.json") for part in parts}
    for part in LIBRARY_PARTS:
        if part in parts:
            check_library_config(root / part / "config.json", configs[part])
    if "text_encoder" in parts:
        for name in ("tokenizer_config.json", "config.json"):
            path = root / "tokenizer" / name
            if os.path.lexists(path):
                refuse_foreign(path, read_json(path))
    return configs


def check_fit(checkpoint: Checkpoint) -> None:
    """Raise MovaError if a part is whole but of another model: the sizes at which the parts meet must agree, and what
    was trained together must not be proven to be of two releases.
    """
    root, weights, joint, sound = checkpoint.root, checkpoint.weights, checkpoint.joint, checkpoint.sound
    trained_together = [path for part in (*EXPERT_FOLDERS, *JOINT) if part in weights for path in weights[part].paths()]
    check_one_release(trained_together, only_if_proven=True)
    sizes = {}
    if joint:
        video = joint.video_dit
        sizes["input channels of video_dit"] = (video.in_dim, 2 * video.out_dim + 4)  # noise, mask and condition
    if joint and sound:
        sizes["latent channels of audio_vae"] = (sound.latent_dim, joint.audio_dit.out_dim)
    if joint and "video_vae" in weights:
        channels = weights["video_vae"].tensors["post_quant_conv.weight"].shape[0]
        sizes["latent channels of video_vae"] = (channels, joint.video_dit.out_dim)
    if "text_encoder" in weights:
        words, width = weights["text_encoder"].tensors["shared.weight"].shape
        if joint:
            sizes["width of text_encoder"] = (width, joint.video_dit.text_dim)
        known = len(text.load_tokenizer(root / "tokenizer"))  # small, and its faults show only so
        if known > words:
            raise MovaError(
                f"{root}: tokenizer knows {known} words and text_encoder only {words}; take both from one release."
            )
    for what, (found, wanted) in sizes.items():
        if found != wanted:
            raise MovaError(f"{root}: the {what} should be {wanted}, not {found}; take all parts from one release.")


def check_dtypes(weights: Weights, allowed: Collection[str]) -> None:
    """Raise MovaError for a tensor of whole numbers, or of floats that this part cannot compute with."""
    for name, info in weights.tensors.items():
        if info.dtype not in allowed:
            what = f"stores {short(name)} as {info.dtype}, but a model's weights are {', '.join(sorted(allowed))}"
            raise broken(weights.where, what, "use the release's files")


def refuse_foreign(path: Path, values: Mapping[str, Any]) -> None:
    """Raise MovaError for a setting by which transformers would fetch or run code, or ask the user whether to."""
    for name in FOREIGN:
        if values.get(name) is not None:
            raise broken(path, f"sets {name}, which no release does", "take the file from the release")


def check_library_config(path: Path, values: Mapping[str, Any]) -> None:
    """Raise MovaError for what another library would not refuse itself, but hang on, or take as leave to run code."""
    refuse_foreign(path, values)
    for name, value in values.items():
        depth = "layers" in name or "blocks" in name
        for number in value if isinstance(value, list) else [value]:
            large = isinstance(number, int) and abs(number) > (MAX_LAYERS if depth else MAX_NUMBER)
            if large or (isinstance(value, list) and len(value) > 100):
                raise broken(path, f"has the impossible {short(name)}: {short(value)}")
    for name in ("latents_mean", "latents_std"):
        value = values.get(name)
        numbers = isinstance(value, list) and all(map(is_number, value)) and len(value) == values.get("z_dim", 16)
        if value is not None and not (numbers and (name == "latents_mean" or 0 not in value)):
            raise broken(path, f"has the impossible {name}: {short(value)}")


def expected_tensors(
    checkpoint: Checkpoint, part: str, joint: Mapping[str, tuple[int, ...]], values: Mapping[str, Any]
) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes that a part must have by its config.json's values; `joint` are those of the joint model."""
    if part in LIBRARY_PARTS:
        return LIBRARY_PARTS[part].expected_tensors(checkpoint.root / part / "config.json", values)
    if part == "audio_vae":
        return expected_shapes(AudioVAE(checkpoint.audio_vae, device="meta"))
    if part in EXPERT_FOLDERS:
        return {name: shape for name, shape in joint.items() if not name.startswith(JOINT)}
    prefix = part + "."
    return {name.removeprefix(prefix): shape for name, shape in joint.items() if name.startswith(prefix)}


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
    shift, sigma_min = values.get("shift", DEFAULT.shift), values.get("sigma_min", 0.0)
    extra_one_step = values.get("extra_one_step", True)
    if not (is_number(shift) and 0 < shift <= MAX_SHIFT and is_number(sigma_min) and 0 <= sigma_min < 1):
        given = f"shift {short(shift)} and sigma_min {short(sigma_min)}"
        raise MovaError(f"{path}: {given} make no schedule; download it again.")
    if values.get("num_train_timesteps", 1000) != 1000 or not isinstance(extra_one_step, bool):
        raise MovaError(f"{path} is not the schedule of a MOVA release (1000 training timesteps); download it again.")
    return ScheduleConfig(float(shift), float(sigma_min), extra_one_step)


def read_boundary(path: Path) -> float:
    """The sigma below which the low-noise expert works, from model_index.json."""
    boundary = read_json(path).get("boundary_ratio", DEFAULT.boundary)
    if not (is_number(boundary) and is_boundary(boundary)):
        raise MovaError(f"{path}: boundary_ratio {short(boundary)} must be from 0 to 1; download it again.")
    return float(boundary)


def is_number(value: Any) -> bool:
    """Whether this is a finite number that a float can hold."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )  # False for NaN
