"""A checkpoint folder laid out like the release: what is in it, checked before any weight is loaded."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MovaError
from ..model import text, video_vae
from ..model.audio_vae import WEIGHT_NORM, AudioVAE
from ..model.config import AudioVAEConfig, MovaConfig
from ..model.joint import JointModel
from ..model.presets import DEFAULT
from ..model.shapes import expected_shapes
from ..shorten import short
from .guards import check_library_config, refuse_foreign
from .header import FLOATS, TensorInfo, broken, unreadable
from .hub_record import check_one_release, release_name
from .run_config import ScheduleConfig, read_boundary, read_schedule
from .tokenizer_guard import check_tokenizer_files
from .unfinished import DOWNLOADS, unfinished
from .weights import Weights, check_tensors, open_weights, read_json

EXPERTS = {"high_noise": "video_dit", "low_noise": "video_dit_2"}  # the folder of each
EXPERT_FOLDERS = tuple(EXPERTS.values())
JOINT = ("audio_dit", "dual_tower_bridge")  # what both experts share
FOLDERS = (*EXPERT_FOLDERS, *JOINT, "audio_vae", "video_vae", "text_encoder")
LIBRARY_PARTS = {"text_encoder": text, "video_vae": video_vae}  # built by another library
EMBEDDING = "encoder.embed_tokens.weight"  # the same tensor as shared.weight; a text encoder's files hold one or both
F8 = {"F8_E4M3", "F8_E5M2"}  # the Linear layers' weights are cast up from them as they are read


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder, or the parts of it that were asked for. The weights are still on disk."""

    root: Path
    configs: dict[str, dict[str, Any]]  # the config.json of each part that was read
    joint_config: MovaConfig | None  # None if it was opened without experts, audio tower and bridge
    audio_config: AudioVAEConfig | None  # None if it was opened without the audio VAE
    schedule: ScheduleConfig  # the released values if it was opened without experts, or not to run
    boundary: float
    weights: dict[str, Weights]
    called: str = ""  # the release's name, if it is not the folder's

    @property
    def name(self) -> str:
        """The release's name."""
        return self.called or release_name(self.root)

    @property
    def config(self) -> MovaConfig:
        """Sizes of the joint model. Raises MovaError if none of its parts was opened."""
        if self.joint_config is None:
            raise MovaError(f"{self.root} was opened without its experts; open video_dit, audio_dit and the bridge.")
        return self.joint_config

    @property
    def audio_vae(self) -> AudioVAEConfig:
        """Sizes of the audio VAE. Raises MovaError if it was not opened."""
        if self.audio_config is None:
            raise MovaError(f"{self.root} was opened without its audio VAE; open audio_vae too.")
        return self.audio_config


def open_checkpoint(
    root: Path,
    parts: Collection[str] = FOLDERS,
    opened: Callable[[Path], Weights] = open_weights,
    to_run: bool = True,
) -> Checkpoint:
    """Read the configurations and the headers of the weights of `parts`, and check that they belong together.

    The one door to a release: whoever generates, converts, downloads, describes or loads comes in here. Any of the
    experts, the audio tower and the bridge needs the config.json of one expert and of both others; `to_run` an expert
    needs the schedule too, the text encoder the tokenizer. `opened` reads the headers in a part's folder, wherever its
    weights are. Raises MovaError, naming the part, if one is missing or damaged, or if a tensor is missing, extra or
    misshapen.
    """
    root = Path(root)
    try:
        return open_parts(root, parts, opened, to_run)
    except MovaError as error:
        arriving = unfinished(root)
        if not arriving:
            raise
        hint = f"its download is not finished ({len(arriving)} files in {DOWNLOADS} are incomplete), start it again"
        raise MovaError(f"{str(error).removesuffix('.')}; {hint}.") from error


def open_parts(root: Path, parts: Collection[str], opened: Callable[[Path], Weights], to_run: bool) -> Checkpoint:
    check_is_folder(root)
    experts = [part for part in EXPERT_FOLDERS if part in parts]
    needed = set(parts)
    if needed.intersection((*EXPERT_FOLDERS, *JOINT)):
        experts = experts or [EXPERT_FOLDERS[0]]
        needed |= {*JOINT, *experts}
    scheduled = to_run and any(part in EXPERT_FOLDERS for part in parts)
    tokenizer = ["tokenizer"] * (to_run and "text_encoder" in needed)
    folders = [*(part for part in FOLDERS if part in needed), *tokenizer, *["scheduler"] * scheduled]
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
        configs,
        models[0] if models else None,
        AudioVAEConfig.from_dict(configs["audio_vae"]) if "audio_vae" in needed else None,
        read_schedule(root / "scheduler" / "scheduler_config.json") if scheduled else ScheduleConfig(),
        read_boundary(root / "model_index.json") if scheduled else DEFAULT.boundary,
        {part: opened(root / part) for part in FOLDERS if part in parts},
    )
    check_weights(checkpoint)
    check_fit(checkpoint)
    if tokenizer:
        check_tokenizer(checkpoint)
    return checkpoint


def check_is_folder(root: Path, holding: str = "model_index.json and the model's parts") -> None:
    """Raise MovaError unless there is a folder that can be looked into. holding: what the right one holds."""
    if not os.path.isdir(root):
        name = root.as_posix()
        on_hub = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not os.path.lexists(root)
        hint = f" (`hf download {name} --local-dir {root.name}` gets one)" if on_hub else ""
        raise MovaError(f"{root} is not a folder; give the folder that holds {holding}{hint}.")
    try:
        os.listdir(root)
    except OSError as error:
        raise unreadable(root, error) from error


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


def check_weights(checkpoint: Checkpoint) -> None:
    """Raise MovaError unless each part's tensors have the names, shapes and kinds that its config.json says."""
    model = checkpoint.joint_config
    joint = expected_shapes(JointModel(model, device="meta")) if model else {}
    for part, weights in checkpoint.weights.items():
        found, optional = weights.tensors, set[str]()
        if part == "audio_vae":
            found = plain_infos(found)
        if part == "text_encoder":
            optional = {EMBEDDING}
        check_tensors(found, expected_tensors(checkpoint, part, joint), weights.where, optional)
        check_dtypes(weights, FLOATS | F8 if part in (*EXPERT_FOLDERS, *JOINT) else FLOATS)


def check_fit(checkpoint: Checkpoint) -> None:
    """Raise MovaError if a part is whole but of another model: the sizes at which the parts meet must agree, and what
    was trained together must not be proven to be of two releases.
    """
    root, weights, joint, audio_vae = (
        checkpoint.root, checkpoint.weights, checkpoint.joint_config, checkpoint.audio_config,
    )  # fmt: skip
    trained_together = [path for part in (*EXPERT_FOLDERS, *JOINT) if part in weights for path in weights[part].paths()]
    check_one_release(trained_together, only_if_proven=True)
    sizes = {}
    if joint:
        video = joint.video_dit
        sizes["input channels of video_dit"] = (video.in_dim, 2 * video.out_dim + 4)  # noise, mask and condition
    if joint and audio_vae:
        sizes["latent channels of audio_vae"] = (audio_vae.latent_dim, joint.audio_dit.out_dim)
    if joint and "video_vae" in weights:
        channels = weights["video_vae"].tensors["post_quant_conv.weight"].shape[0]
        sizes["latent channels of video_vae"] = (channels, joint.video_dit.out_dim)
    if joint and "text_encoder" in weights:
        width = weights["text_encoder"].tensors["shared.weight"].shape[1]
        sizes["width of text_encoder"] = (width, joint.video_dit.text_dim)
    for what, (found, wanted) in sizes.items():
        if found != wanted:
            raise MovaError(f"{root}: the {what} should be {wanted}, not {found}; take all parts from one release.")


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Raise MovaError for a damaged tokenizer, or one that knows more words than the text encoder."""
    check_tokenizer_files(checkpoint.root / "tokenizer")
    words = checkpoint.weights["text_encoder"].tensors["shared.weight"].shape[0]
    known = len(text.load_tokenizer(checkpoint.root / "tokenizer"))  # small, and its faults show only so
    if known > words:
        raise MovaError(
            f"{checkpoint.root}: tokenizer knows {known} words and text_encoder only {words}; take both from one "
            "release."
        )


def check_dtypes(weights: Weights, allowed: Collection[str]) -> None:
    """Raise MovaError for a tensor of whole numbers, or of floats that this part cannot compute with."""
    for name, info in weights.tensors.items():
        if info.dtype not in allowed:
            what = f"stores {short(name)} as {info.dtype}, but a model's weights are {', '.join(sorted(allowed))}"
            raise broken(weights.where, what, "use the release's files")


def expected_tensors(
    checkpoint: Checkpoint, part: str, joint: Mapping[str, tuple[int, ...]]
) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes that a part must have by its config.json; `joint` are those of the joint model."""
    if part in LIBRARY_PARTS:
        path = checkpoint.root / part / "config.json"
        return LIBRARY_PARTS[part].expected_tensors(path, checkpoint.configs[part])
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
