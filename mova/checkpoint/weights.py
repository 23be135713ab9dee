"""Weights on disk: one safetensors file, or a folder of shards; read tensor by tensor, and put into a module."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import strict_json
from ..errors import MovaError, first_line, memory_is_full
from ..shorten import first_names, short
from .header import REFUSED, TensorInfo, broken, check_is_file, impostor, read_header, unreadable
from .hub_record import check_one_release
from .pickled import Pickle, infos
from .unmapped import Unmapped

STEMS = ("diffusion_pytorch_model", "model")
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
MAX_SHARDS = 1000
MAX_JSON_BYTES = 20_000_000  # configurations have some hundred bytes, the index of a large model some hundred kB


@dataclass(frozen=True)
class Weights:
    """The tensors of one model part, of which only the headers have been read."""

    where: str  # folder or file, for messages
    tensors: dict[str, TensorInfo]
    files: dict[str, Path]  # which file holds each tensor
    metadata: dict[str, str]  # of all shards together
    stored: dict[str, str] = field(default_factory=dict)  # what a tensor is called in its file, if not by its name
    # Of its files those that are not mapped as safetensors are.
    readers: dict[Path, Pickle | Unmapped] = field(default_factory=dict, compare=False, repr=False)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: info.shape for name, info in self.tensors.items()}

    def paths(self) -> list[Path]:
        """Its files, each once."""
        return list(dict.fromkeys(self.files.values()))

    def read(
        self, names: Iterable[str], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, tensor) on `device`, shard by shard and else in the given order.

        Floating tensors are cast to `dtype` (None: as stored), others never. What needs neither a cast nor another
        device is not copied but mapped: its pages are read from disk when first used, and writing to it leaves the file
        as it is. Raises MovaError for a name that is not there, or a file that has changed since its header was read.
        """
        held: dict[Path, list[str]] = {}
        for name in names:
            if name not in self.files:
                raise MovaError(f"{self.where} has no tensor {short(name)}; use the weights of the released model.")
            if self.tensors[name].dtype == "F4" and dtype is not None:
                raise MovaError(f"{self.where} stores {short(name)} as F4, which torch cannot cast; use a bf16 file.")
            held.setdefault(self.files[name], []).append(name)
        for path, here in held.items():
            with self.opened(path) as shard:
                for name in here:
                    # No name is bound to the tensor here: from now on only the caller holds it.
                    yield name, take(shard, path, self.stored.get(name, name), dtype, device)

    def opened(self, path: Path) -> Any:
        """A file: to be used with `with`, and for get_tensor(name)."""
        if path in self.readers:
            return self.readers[path]
        try:
            return safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: torch could not map the file
            if not memory_is_full(error):
                raise broken(path, f"cannot be opened ({first_line(error)})") from error
        # A mapped file counts as memory on Windows; Linux maps none at once that is larger than all memory.
        return self.readers.setdefault(path, Unmapped(path))


def take(shard: Any, path: Path, name: str, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    # No copy: safe_open maps the file privately (MAP_PRIVATE), get_tensor returns a view of that map, which lives as
    # long as a view does, and Tensor.to returns the same tensor if nothing changes. A test looks in /proc/self/maps.
    try:
        tensor: Tensor = shard.get_tensor(name)
    except SafetensorError as error:
        raise broken(
            path, f"cannot be read ({first_line(error)})", "do not change files while they are in use"
        ) from error
    return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)


def open_weights(path: Path) -> Weights:
    """Read the headers of a safetensors file, or of a folder with a single file or an index and its shards.

    Raises MovaError if there are no weights, or if they are damaged, incomplete, or not those that the index lists.
    """
    if not os.path.isdir(path):
        return open_file(path)
    for stem in STEMS:
        single, index = path / f"{stem}.safetensors", path / f"{stem}.safetensors.index.json"
        if os.path.lexists(single):  # lexists: of a dangling link we say that its file is missing
            return open_file(single)
        if os.path.lexists(index):
            return open_shards(index)
    looked_for = " or ".join(f"{stem}.safetensors" for stem in STEMS)
    looked_for += " (or the same with .index.json, and its shards)"
    try:
        pickles = sorted(name for name in os.listdir(path) if name.endswith(PICKLES))
    except OSError as error:
        raise unreadable(path, error) from error
    if pickles:
        raise broken(path, f"has only pickles ({first_names(pickles)}), {REFUSED}", f"put {looked_for} there")
    raise broken(path, f"has no weights: looked for {looked_for}", "download them, or choose another folder")


def open_file(path: Path) -> Weights:
    tensors, metadata = read_header(path)
    return Weights(str(path), tensors, dict.fromkeys(tensors, path), metadata)


def open_pickle(path: Path) -> Weights:
    """As open_weights, of a file of PyTorch's (pickled.py)."""
    tensors = infos(path)
    return Weights(str(path), tensors, dict.fromkeys(tensors, path), {}, readers={path: Pickle(path)})


def open_shards(index: Path) -> Weights:
    folder = index.parent
    weight_map = read_json(index).get("weight_map")
    if (
        not weight_map
        or not isinstance(weight_map, dict)
        or not all(isinstance(shard, str) for shard in weight_map.values())
    ):
        raise broken(index, "has no weight_map from tensor names to files")
    shards = sorted(set(weight_map.values()))
    if len(shards) > MAX_SHARDS:
        raise broken(index, f"lists {len(shards)} shards, which no model has")
    for shard in shards:
        # As Windows sees it, everywhere: it takes both slashes and a drive letter as the way to another folder.
        plain = PureWindowsPath(shard).name == shard and shard.isprintable()
        if not plain or not shard.endswith(".safetensors"):
            raise broken(index, f"lists the shard {short(shard)}, which is not a .safetensors file in the same folder")
    splits = {found[1] for shard in shards if (found := re.search(r"-of-(\d+)\.safetensors$", shard))}
    if len(splits) > 1:
        raise broken(index, f"lists shards of different splits (in {' and in '.join(sorted(splits))} files)")
    absent = [shard for shard in shards if not os.path.exists(folder / shard)]
    if absent:
        have = f"has only {len(shards) - len(absent)} of {len(shards)} shards"
        raise broken(folder, f"{have} (missing: {first_names(absent)})", "download the missing files")
    check_one_release((folder / shard for shard in shards), only_if_proven=False)

    tensors: dict[str, TensorInfo] = {}
    files: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        infos, shard_metadata = read_header(folder / shard)
        for name in infos:
            if name in files:
                raise broken(folder, f"has tensor {short(name)} twice, in {files[name].name} and in {shard}")
            files[name] = folder / shard
        tensors.update(infos)
        metadata.update(shard_metadata)
    for name, shard in weight_map.items():
        if name not in files or files[name].name != shard:
            raise broken(folder / shard, f"lacks tensor {short(name)}, which {index.name} promises")
    unlisted = [name for name in tensors if name not in weight_map]
    if unlisted:
        raise broken(index, f"does not list {first_names(unlisted)}, found in {files[unlisted[0]].name}")
    return Weights(str(folder), tensors, files, metadata)


def check_tensors(
    infos: Mapping[str, TensorInfo],
    expected: Mapping[str, Sequence[int]],
    where: str,
    optional: Collection[str] = (),
    remedy: str = "take weights and config.json from the same release",
    if_lacking: str | None = None,
) -> None:
    """Raise MovaError unless the tensors are those of `expected`, name by name and shape by shape.

    The `optional` ones may be missing, and may be there without being expected. `where` begins the message; if_lacking:
    another remedy, where some are missing.
    """
    missing = [name for name in expected if name not in infos and name not in optional]
    extra = [name for name in infos if name not in expected and name not in optional]
    misshapen = [
        f"{short(name)} is {short(list(infos[name].shape))} instead of {short(list(shape))}"
        for name, shape in expected.items()
        if name in infos and infos[name].shape != tuple(shape)
    ]
    faults = []
    if missing:
        faults.append(f"lacks {first_names(missing)}")
    if extra:
        faults.append(f"has the unknown {first_names(extra)}")
    if misshapen:
        faults.append(f"has other shapes: {first_names(misshapen, str)}")
    if faults:
        raise broken(where, ", and ".join(faults), if_lacking if missing and if_lacking else remedy)


def assign(module: torch.nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Put each tensor in place of the module's parameter or buffer of that name, without copying it.

    The old tensor, which may be on the meta device, is freed before the next one is asked for. Parameters do not
    require gradients. Raises MovaError for a name that the module does not have, or another shape; what came before
    stays assigned.
    """
    for name, tensor in tensors:
        put_in_place(module, name, tensor)


def put_in_place(module: torch.nn.Module, name: str, tensor: Tensor) -> None:
    # A function of its own: its locals, which hold the old tensor, end before the next tensor is read.
    owner_name, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(owner_name)
    except AttributeError:
        raise MovaError(f"The model has no tensor {short(name)}; use weights that belong to it.") from None
    parameters = dict(owner.named_parameters(recurse=False, remove_duplicate=False))
    old = parameters.get(leaf, dict(owner.named_buffers(recurse=False)).get(leaf))
    if old is None:
        raise MovaError(f"The model has no tensor {short(name)}; use weights that belong to it.")
    if old.shape != tensor.shape:
        shapes = f"{list(tensor.shape)} instead of {list(old.shape)}"
        raise MovaError(f"The tensor {short(name)} has the shape {shapes}; use weights that belong to the model.")
    setattr(owner, leaf, torch.nn.Parameter(tensor, requires_grad=False) if leaf in parameters else tensor)


def check_finite(weights: Weights) -> None:
    """Raise MovaError, naming tensors and how many values, if there are NaN or infinite ones. Reads all weights."""
    found = []
    for name, tensor in weights.read(weights.tensors):
        count = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
        if count:
            found.append(f"{count} of {tensor.numel()} values in {short(name)}")
    if found:
        raise broken(weights.where, f"has NaN or infinite weights ({first_names(found, str)})")


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file of at most so many bytes. Raises MovaError if there is none, or anything else."""
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if known := impostor(content[:64]):
        raise broken(path, known)
    if len(content) > most:
        raise broken(path, f"is not a JSON file of a model (it is larger than {most // 10**6} MB)")
    try:
        value = strict_json.parse(content.decode("utf-8-sig"))  # -sig: some editors put a byte order mark in front
    except UnicodeDecodeError as error:
        raise broken(path, "is not UTF-8 text") from error
    except ValueError as error:
        raise broken(path, f"is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise broken(path, "is not a JSON object ({...})")
    return value
