"""What is to be written of a repository: planned by its small files, and the headers of weights that stay there."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ..checkpoint.header import broken
from ..checkpoint.prism import prism_of
from ..checkpoint.release import EXPERTS
from ..checkpoint.weights import STEMS, Weights, read_json
from ..convert.parts import PARTS, Target, folders_of, plan_prism
from ..convert.run import default_parts, plan, writer
from ..convert.sources import sha256_of, with_sums
from ..errors import MovaError
from ..files import remove_leftovers
from ..shorten import short
from . import append
from .append import Piece
from .hub import Repository, fetch, read_remote_header
from .places import Places, growing


@dataclass(frozen=True)
class Job:
    """A file to write: `partial` is where it grows."""

    path: Path
    target: Target
    pieces: list[Piece]

    @property
    def partial(self) -> Path:
        return growing(self.path)


def prepare(
    repository: Repository,
    state: Path,
    places: Places,
    dtype: str,
    parts: tuple[str, ...] | None,
    note: Callable[[str], None],
    prism: str | None = None,
) -> tuple[list[Job], list[Path]]:
    """Fetch what is small, and plan by it: the files to write, and those that are there already.

    The experts come last: at the end, when the disk is fullest, only a shard of 10 GB lies beside the files. prism: the
    folder of the repository in which a file in Prism's layout lies.
    """
    if prism is not None:
        return jobs_of(prism_targets(repository, state, prism, dtype, parts), repository, state, places)
    folders = sorted({folder for part in parts or PARTS for folder in folders_of(part)})
    if absent := [folder for folder in folders if not any(name.startswith(folder + "/") for name in repository.files)]:
        raise MovaError(
            f"{repository.name} lacks {', '.join(absent)}; choose a repository laid out like the release, or fewer "
            "--parts."
        )
    for folder in folders:
        (state / folder).mkdir(parents=True, exist_ok=True)
        small = f"{folder}/spiece.model" if folder == "tokenizer" else f"{folder}/config.json"
        if folder != "tokenizer" or small in repository.files:
            fetch(repository, small, state / small)
    if parts is None:
        parts, left_out = default_parts(state)
        if left_out:
            note(left_out)
    # Both experts ask for the parts they share.
    opened = functools.cache(lambda folder: open_remote(repository, state, folder))
    return jobs_of(plan(state, dtype, None, parts, opened), repository, state, places)


def prism_targets(
    repository: Repository, state: Path, folder: str, dtype: str, parts: tuple[str, ...] | None
) -> Iterator[Target]:
    """The experts of the file in Prism's layout in a folder of the repository."""
    (state / folder).mkdir(parents=True, exist_ok=True)
    weights = open_remote(repository, state, state / folder)
    remedy = f"fetch {folder} of {repository.name} by hand, and put it over MOVA-360p with convert --base"
    return plan_prism(prism_of(weights, weights.paths()[0]), None, None, dtype, parts, remedy)


def jobs_of(
    planned: Iterable[Target], repository: Repository, state: Path, places: Places
) -> tuple[list[Job], list[Path]]:
    targets = [with_sums(target, state, lambda path: sum_of(repository, state, path)) for target in planned]
    targets.sort(key=lambda target: target.part in EXPERTS)
    jobs, kept = [], []
    for target in targets:
        path = places.path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        if writer(target).is_whole(path, target):
            kept.append(path)
        else:
            jobs.append(Job(path, target, append.pieces(target)))
    return jobs, kept


def sum_of(repository: Repository, state: Path, path: Path) -> str:
    """What tells a file's contents: its SHA-256, or of weights of which the hub lists none, the commit."""
    listed = repository.files[path.relative_to(state).as_posix()].sha256
    if listed is None:
        return f"at commit {repository.commit}" if path.suffix == ".safetensors" else sha256_of(path)
    return listed


def open_remote(repository: Repository, state: Path, folder: Path) -> Weights:
    """As checkpoint.open_weights, of weights that are still on the hub: `files` says where they will be."""
    where = f"{repository.name}/{folder.name}"
    tensors, files = {}, {}
    for shard in shards_of(repository, state, folder.name):
        for name, info in read_remote_header(repository, shard).items():
            if name in files:
                raise broken(where, f"has tensor {short(name)} twice", "choose another repository")
            tensors[name], files[name] = info, state / shard
    return Weights(where, tensors, files, {})


def shards_of(repository: Repository, state: Path, folder: str) -> list[str]:
    """The files with a part's weights, by their path in the repository."""
    for stem in STEMS:
        single = f"{folder}/{stem}.safetensors"
        index = f"{single}.index.json"
        if single in repository.files:
            return [single]
        if index in repository.files:
            fetch(repository, index, state / index)
            listed = read_json(state / index).get("weight_map")
            names = set(map(str, listed.values())) if isinstance(listed, dict) else set()
            shards = sorted(f"{folder}/{name}" for name in names)
            for shard in shards:
                # As Windows sees it, everywhere: it takes both slashes and a drive letter as the way elsewhere.
                plain = PureWindowsPath(shard).parent.name == folder and PureWindowsPath(shard).parts[1:-1] == ()
                if not plain or not shard.endswith(".safetensors") or shard not in repository.files:
                    raise broken(state / index, f"lists {short(shard)}, which the repository does not have")
            if shards:
                return shards
    raise MovaError(f"{repository.name}/{folder} has no safetensors weights; choose another repository.")
