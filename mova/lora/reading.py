"""LoRA files, of whatever trainer: what they change in which module, and how strongly. No model is needed for this."""

import collections
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.header import broken
from ..checkpoint.release import EXPERT_FOLDERS
from ..shorten import first_names, short
from .file import alpha_of, read_tensors, weights_file
from .fused import taken_apart
from .names import ALPHA, DORA, DOWN, OTHERS, READ, UNNAMED, is_complete, names_first_expert, split_key


@dataclass(frozen=True)
class Lora:
    """What a file has for one layer: a pair down [rank, in] and up [out, rank], or the parts of another change."""

    key: str  # one of the file's own keys, for messages
    parts: dict[str, Tensor]  # by ComfyUI's spelling of the part
    alpha: float | None  # the update is alpha / rank * up @ down; None: up @ down

    @property
    def rank(self) -> int | None:
        """The inner dimension of up @ down, or of LoHa's or LoKr's product; None if there is no product."""
        inner = (part for part in (DOWN, "hada_w1_b", "lokr_w2_b", "lokr_w1_b") if part in self.parts)
        return next((self.parts[part].shape[0] for part in inner), None)

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file's contents by module (UNNAMED: those that name none) and layer, and what of it cannot be used."""

    path: Path
    modules: dict[str, dict[str, Lora]]
    unknown: list[str]  # keys in no known spelling
    incomplete: list[str]  # keys of layers of which a part is missing, such as lora_A without lora_B
    others: dict[str, list[str]]  # keys of adapters that are not read, by the adapter's name
    alpha_source: str  # for messages
    metadata: Mapping[str, str]  # of a safetensors file

    def only(self, modules: dict[str, dict[str, Lora]]) -> "LoraFile":
        """The same file with these modules."""
        return replace(self, modules=modules)

    def scales(self) -> str:
        """How strong the file is by itself, for the user."""
        scales = sorted({round(lora.scale, 6) for layers in self.modules.values() for lora in layers.values()})
        listed = ", ".join(f"{scale:g}" for scale in scales[:4]) + (", ..." if len(scales) > 4 else "")
        return f"alpha / rank: {listed} ({self.alpha_source})"


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors with these names are a LoRA's."""
    keys = (split_key(name) for name in names)
    return any(key is not None and key[2] != ALPHA for key in keys)  # the audio VAE has weights named alpha, too


def read_lora(path: Path) -> LoraFile:
    """Read a LoRA: a safetensors file, a pickle of plain tensors, or the folder that a trainer wrote.

    Raises MovaError if there is none, if it is damaged, or if a pickle holds more than tensors: that is not loaded.
    """
    path = weights_file(Path(path))
    tensors, settings, source, metadata = read_tensors(path)
    found: dict[tuple[str, str], dict[str, str]] = collections.defaultdict(dict)
    both = any(place is not None and place[0] == EXPERT_FOLDERS[1] for place in map(split_key, tensors))
    unknown = []
    for key in tensors:
        place = split_key(key)
        if place is None:
            unknown.append(key)
            continue
        *where, part = place
        if both and where[0] == UNNAMED and names_first_expert(key):
            where[0] = EXPERT_FOLDERS[0]
        keys = found[where[0], where[1]]
        if part in keys:
            twice = f"{short(keys[part])} and {short(key)}"
            raise broken(path, f"has one part of a layer twice, as {twice}", "save a single adapter in a file")
        keys[part] = key

    modules: dict[str, dict[str, Lora]] = {}
    incomplete: list[str] = []
    others: dict[str, list[str]] = {}
    for (module, layer), keys in found.items():
        if other := next((OTHERS[part] for part in keys if part in OTHERS), None):
            others.setdefault(other, []).extend(keys.values())
            continue
        if not is_complete(keys):
            incomplete += keys.values()
            continue
        parts = {part: tensors[key] for part, key in keys.items() if part != ALPHA}
        if odd := [key for part, key in keys.items() if part != ALPHA and not is_matrix(tensors[key])]:
            raise broken(path, f"has something else than plain numbers in rows and columns in {first_names(odd)}")
        if odd := [key for key in keys.values() if not tensors[key].float().isfinite().all()]:
            raise broken(path, f"holds NaN or infinite values, as in {first_names(odd)}", "take an earlier step of it")
        if DORA in parts and parts[DORA].ndim == 1:  # PEFT's: one number for each output
            parts[DORA] = parts[DORA][:, None]
        lora = Lora(next(iter(keys.values())), parts, None)
        alpha = alpha_of(settings, layer, lora.rank)
        if ALPHA in keys:
            alpha, source = one_number(path, keys[ALPHA], tensors[keys[ALPHA]]), f"in {path.name}"
        for name, mine in taken_apart(layer, parts).items():
            if name in modules.get(module, {}) or (name != layer and (module, name) in found):
                raise broken(path, f"has {short(lora.key)} and the same layer once more", "save one of both in a file")
            modules.setdefault(module, {})[name] = Lora(lora.key, mine, alpha)
    if not modules and others:
        kinds = " and ".join(f"{kind} ({first_names(keys)})" for kind, keys in others.items())
        raise broken(path, f"holds {kinds}, and what can be read is {READ}", "choose such a file")
    if not modules:
        what = f"such as {first_names(list(tensors))}" if tensors else "it is empty"
        raise broken(path, f"holds no whole change to any layer ({what})", "choose a LoRA file")
    given = any(lora.alpha is not None for layers in modules.values() for lora in layers.values())
    said = source if given else "no alpha is given"
    return LoraFile(path, modules, unknown, incomplete, others, said, metadata)


def is_matrix(tensor: Tensor) -> bool:
    """Whether a tensor can be part of a change; pickles may hold any kind."""
    return tensor.ndim > 0 and tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta


def one_number(path: Path, key: str, tensor: Tensor) -> float:
    if tensor.numel() != 1 or tensor.is_complex() or tensor.is_meta or not math.isfinite(float(tensor)):
        raise broken(path, f"has {short(key)}, which is not a number")
    return float(tensor)
