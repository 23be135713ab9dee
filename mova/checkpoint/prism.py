"""Prism: MOVA-360p trained on at 720p to 2K. One file holds both experts and what they share, by layers of both towers.

Names: Tencent-Hunyuan/Prism, hymm/models/modules/mova.py, whose own loader puts such a file over MOVA-360p and takes
from there what it lacks.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import MovaError
from ..model.config import MovaConfig
from ..model.joint import JointModel
from ..model.shapes import expected_shapes
from ..shorten import short
from . import pickled
from .header import FLOATS, broken
from .release import EXPERT_FOLDERS, EXPERTS, JOINT, Checkpoint, check_dtypes, open_checkpoint
from .run_config import ScheduleConfig
from .weights import PICKLES, STEMS, Weights, check_tensors, open_pickle, open_weights

TOGETHER = (*EXPERT_FOLDERS, *JOINT)
LAYER = re.compile(r"fusion_blocks\.(\d{1,4})\.([a-z0-9_]+)\.(.+)")
LATER_LAYER = re.compile(r"remaining_video_blocks\.(\d{1,4})\.(.+)")  # those of the first expert without sound
BOUNDARY = 0.9
GIVE = "give Prism's file"
BASE = "name the folder of MOVA-360p, for what is not in it, with --base"
HOMES = {
    "video_block": "video_dit.blocks",
    "audio_block": "audio_dit.blocks",
    "a2v_conditioner": "dual_tower_bridge.audio_to_video_conditioners",
    "v2a_conditioner": "dual_tower_bridge.video_to_audio_conditioners",
}


@dataclass(frozen=True)
class Prism:
    """A file in Prism's layout, of which only the header has been read."""

    path: Path
    parts: dict[str, Weights]  # by the release's folders; what the file lacks is not in them

    @property
    def name(self) -> str:
        """As the files made of it are called: all of Prism's are named alike, in folders of their own."""
        path = self.path.absolute()
        stem = path.parent.name if path.stem in STEMS else path.stem
        return stem if "prism" in stem.lower() else f"Prism-{stem}"


def is_prism(names: Iterable[str]) -> bool:
    """Whether tensors are named as Prism names them."""
    return any(LAYER.fullmatch(name) for name in names)


def release_names(names: Iterable[str]) -> dict[str, str]:
    """The release's name (`video_dit.blocks.30.…`) of each of Prism's; a name of neither stays as it is."""
    names = list(names)
    both = 1 + max((int(found[1]) for name in names if (found := LAYER.fullmatch(name))), default=-1)
    new = {}
    for name in names:
        layer, later = LAYER.fullmatch(name), LATER_LAYER.fullmatch(name)
        if layer and layer[2] in HOMES:
            new[name] = f"{HOMES[layer[2]]}.{int(layer[1])}.{layer[3]}"
        elif later:
            new[name] = f"video_dit.blocks.{both + int(later[1])}.{later[2]}"
        else:
            new[name] = name
    return new


def joint_names(names: Iterable[str], expert: str) -> dict[str, str]:
    """Of Prism's names those of one expert's joint model, each with its name there."""
    own = EXPERTS[expert] + "."
    found = release_names(names)
    shared = tuple(part + "." for part in JOINT)
    return {old: new.removeprefix(own) for old, new in found.items() if new.startswith((own, *shared))}


def find_prism(path: Path) -> Path | None:
    """The file, if a path is one in Prism's layout, or a folder with one. Raises MovaError if it is damaged."""
    if path.is_dir():
        path = next((file for stem in STEMS if (file := path / f"{stem}.safetensors").is_file()), path)
    if path.is_file() and path.suffix.lower() == ".safetensors":
        return path if is_prism(opened(path).tensors) else None
    if path.is_file() and path.suffix.lower() in PICKLES:
        with contextlib.suppress(MovaError):  # another's pickle, which is not ours to read
            return path if is_prism(pickled.found(path)) else None
    return None


def opened(path: Path) -> Weights:
    """Of a safetensors file, of one in a folder, or of PyTorch's, as Prism's own training writes them (.pt)."""
    return open_pickle(path) if path.is_file() and path.suffix.lower() in PICKLES else open_weights(path)


def open_prism(path: Path) -> Prism:
    """Read the header of a file, or of the one in a folder. Raises MovaError if it is damaged, or no such file."""
    weights = opened(path)
    return prism_of(weights, weights.paths()[0] if weights.files else path)


def prism_of(weights: Weights, path: Path) -> Prism:
    """What open_prism gives, of a header that has been read."""
    if not is_prism(weights.tensors):
        raise broken(path, "is not in Prism's layout (fusion_blocks.0.video_block…)", GIVE)
    names = release_names(weights.tensors)
    unknown = [old for old, new in names.items() if new.split(".")[0] not in TOGETHER]
    if unknown:
        raise broken(path, f"has {short(unknown[0])}, which is neither Prism's nor MOVA's", GIVE)
    counts = Counter(names.values())
    if twice := [old for old, new in names.items() if counts[new] > 1]:
        raise broken(path, f"has the same tensor as {short(twice[0])} and {short(twice[1])}", GIVE)
    check_dtypes(weights, FLOATS)
    return Prism(path, {part: part_of(weights, names, part) for part in TOGETHER})


def part_of(weights: Weights, names: Mapping[str, str], part: str) -> Weights:
    """The tensors of one of the release's folders, under its names."""
    stored = {new.removeprefix(part + "."): old for old, new in names.items() if new.startswith(part + ".")}
    return Weights(
        weights.where,
        {name: weights.tensors[old] for name, old in stored.items()},
        {name: weights.files[old] for name, old in stored.items()},
        weights.metadata,
        stored,
        weights.readers,
    )


def alone(prism: Prism, remedy: str = BASE) -> Checkpoint:
    """A release's parts out of the file alone. Raises MovaError, with the remedy, if it lacks any tensor."""
    parts = prism.parts
    shapes = parts[EXPERT_FOLDERS[0]].shapes()
    for part in JOINT:
        shapes |= {f"{part}.{name}": shape for name, shape in parts[part].shapes().items()}
    try:
        config = MovaConfig.from_shapes(shapes)
    except MovaError as error:
        count = sum(len(part.tensors) for part in parts.values())
        raise broken(prism.path, f"holds {count} tensors, which are no whole model", remedy) from error
    check_parts(prism, parts, config, remedy)
    return Checkpoint(prism.path.parent, {}, config, None, ScheduleConfig(), BOUNDARY, parts, prism.name)


def over(prism: Prism, base: Checkpoint) -> Checkpoint:
    """The file's tensors over those of the release that it was trained from; of the base's parts only these change.

    Raises MovaError if they do not fit.
    """
    changed = {part: laid_over(prism.parts[part], under) for part, under in base.weights.items() if part in TOGETHER}
    check_parts(prism, changed, base.config, "use the folder of MOVA-360p, from which Prism was trained")
    return replace(base, weights={**base.weights, **changed}, called=prism.name)


def laid_over(above: Weights, under: Weights) -> Weights:
    return Weights(
        f"{above.where} over {under.where}",
        {**under.tensors, **above.tensors},
        {**under.files, **above.files},
        above.metadata,
        {**under.stored, **above.stored},
        {**under.readers, **above.readers},
    )


def check_parts(prism: Prism, parts: Mapping[str, Weights], config: MovaConfig, remedy: str) -> None:
    """Raise MovaError unless the parts have the tensors that this configuration asks for."""
    joint = expected_shapes(JointModel(config, device="meta"))
    for part, weights in parts.items():
        shared = part in JOINT
        prefix = part + "." if shared else ""
        expected = {
            name.removeprefix(prefix): shape
            for name, shape in joint.items()
            if (name.startswith(prefix) if shared else not name.startswith(JOINT))
        }
        check_tensors(weights.tensors, expected, f"{prism.path} ({part})", remedy=GIVE, if_lacking=remedy)


def open_together(prism: Prism, base: Path | None, remedy: str = BASE) -> Checkpoint:
    """Both experts and what they share: of the file alone, or over a release's folder."""
    return alone(prism, remedy) if base is None else over(prism, open_checkpoint(base, TOGETHER, to_run=False))
