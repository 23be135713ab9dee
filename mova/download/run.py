"""From the model hub to the single files that ComfyUI loads, shard by shard.

The disk holds the files written so far, the shard at work, and while the experts are made the two parts they share.
What an interrupted run needs to go on is in .mova-download/NAME under the destination, and in hidden files
(.*.download) where the finished ones will be.
"""

import functools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ..checkpoint.formats import check_format
from ..checkpoint.header import broken
from ..checkpoint.release import EXPERTS
from ..checkpoint.weights import STEMS, Weights, read_json
from ..convert.parts import PARTS, Target, chosen_parts, folders_of
from ..convert.run import Converted, check_destination, default_parts, path_of, plan, writer
from ..convert.sources import FileProgress, sha256_of, with_sums
from ..errors import MovaError
from ..files import remove_leftovers, rename, whole_file
from ..shorten import short
from . import append
from .append import Piece
from .hub import Repository, fetch, library, open_repository, part_of, read_remote_header, size_of
from .state import PIN, errors_of, locked, pinned_commit

RELEASES = {name: f"OpenMOSS-Team/{name}" for name in ("MOVA-360p", "MOVA-720p")}
STATE = ".mova-download"


@dataclass(frozen=True)
class Job:
    """A file to write: `partial` is where it grows."""

    path: Path
    target: Target
    pieces: list[Piece]

    @property
    def partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.download")


def download(
    name: str,
    destination: Path,
    dtype: str = "bf16",
    parts: Sequence[str] | None = None,
    verified: bool = False,
    progress: FileProgress = lambda name, done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Converted]:
    """Write what `convert` would of a repository on the hub (a release's name, or OWNER/NAME); yields each file.

    The same call goes on after an interruption, at the commit that the first one found; a finished file is kept if the
    weights that it is made of are those of that commit, and not verified again. `note` is told what is left out.
    Raises MovaError as `convert` does, and if the hub does not give what is needed, if the disk is too small, or if an
    unfinished download was begun otherwise.
    """
    repository_name, destination = full_name(name), Path(destination)
    check_format(dtype)
    chosen = chosen_parts(parts)
    check_destination(destination)
    library()
    state = destination / STATE / repository_name.split("/")[1]
    wanted = {"repository": repository_name, "dtype": dtype, "verify": verified}
    with errors_of(destination), locked(state):
        commit = pinned_commit(state, wanted)
        if commit is None:
            shutil.rmtree(state, ignore_errors=True)
        try:
            repository = open_repository(repository_name, commit)
            jobs, kept = prepare(repository, state, destination, dtype, chosen, note)
            if commit is None:
                for job in jobs:
                    job.partial.unlink(missing_ok=True)
            check_room(repository, state, jobs)
        except BaseException:
            if commit is None:
                shutil.rmtree(state, ignore_errors=True)
            raise
        with whole_file(state / PIN) as temporary:
            temporary.write_text(json.dumps({**wanted, "commit": repository.commit}), encoding="utf-8")
        yield from (Converted(path, kept=True, verified=False) for path in kept)
        for number, job in enumerate(jobs):
            later = {piece.file for other in jobs[number + 1 :] for piece in other.pieces}
            make(repository, state, job, later, verified, progress)
            yield Converted(job.path, kept=False, verified=verified)
        # Of other parts, something may be unfinished; what makes it go on stays.
        if not any(destination.glob(f"*/.{state.name}_*.download")):
            shutil.rmtree(state, ignore_errors=True)


def full_name(name: str) -> str:
    """OWNER/NAME of a repository. Raises MovaError if it is neither a release's name nor like that."""
    found = RELEASES.get(name, name)
    if not re.fullmatch(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+", found, re.ASCII):
        raise MovaError(f"There is no release called {short(name)}; choose {', '.join(RELEASES)}, or give OWNER/NAME.")
    return found


def prepare(
    repository: Repository,
    state: Path,
    destination: Path,
    dtype: str,
    parts: tuple[str, ...] | None,
    note: Callable[[str], None],
) -> tuple[list[Job], list[Path]]:
    """Fetch what is small, and plan by it: the files to write, and those that are there already.

    The experts come last: at the end, when the disk is fullest, only a shard of 10 GB lies beside the files.
    """
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
    targets = [
        with_sums(target, state, lambda path: sum_of(repository, state, path))
        for target in plan(state, dtype, None, parts, opened)
    ]
    targets.sort(key=lambda target: target.part in EXPERTS)
    jobs, kept = [], []
    for target in targets:
        path = path_of(target, destination)
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


def check_room(repository: Repository, state: Path, jobs: list[Job]) -> None:
    """Raise MovaError unless every disk has room for the fullest moment to come."""
    used: Counter[int] = Counter()  # bytes by disk, beside those used now
    peak: Counter[int] = Counter()
    here: set[Path] = set()
    shards = device(state)
    for number, job in enumerate(jobs):
        at = device(job.path.parent)
        left = append.remaining(job.partial, job.target, job.pieces)
        used[at] += (left[0].begin if left else job.pieces[-1].end) - size_of(job.partial)
        later = {piece.file for other in jobs[number + 1 :] for piece in other.pieces}
        for piece in left:
            size = repository.files[piece.file.relative_to(state).as_posix()].size
            if piece.file not in here:
                here.add(piece.file)
                used[shards] += size - size_of(piece.file) - size_of(part_of(piece.file))
            used[at] += piece.end - piece.begin
            peak |= used  # the larger of both, disk by disk
            if piece.file not in later:
                used[shards] -= size
    folders = {shards: state.parent.parent, **{device(job.path.parent): job.path.parent for job in jobs}}
    for disk, needed in peak.items():
        free = shutil.disk_usage(folders[disk]).free
        if needed > free:
            raise MovaError(
                f"{folders[disk]} has {free / 1e9:.2f} GB free, and the download needs {needed / 1e9:.2f} GB there at "
                "its fullest (the files, and the shards at work); make room, or choose another folder, fewer --parts "
                "or a smaller --dtype."
            )


def device(folder: Path) -> int:
    return os.stat(folder).st_dev


def make(
    repository: Repository, state: Path, job: Job, later: set[Path], verified: bool, progress: FileProgress
) -> None:
    """Write a file, fetching shard by shard; each is deleted when it is written, unless it is needed `later`."""
    left = append.remaining(job.partial, job.target, job.pieces)
    if len(left) == len(job.pieces):
        append.write_header(job.partial, job.target)
    for piece in left:
        name = piece.file.relative_to(state).as_posix()
        fetch(repository, name, piece.file, counted(progress, f"fetching {label(name)}", repository.files[name].size))
        work = piece.source_bytes * (1 + verified)
        tell = counted(progress, f"writing {label(name)}", work)
        append.write_piece(job.partial, job.target, piece, verified, tell)
        if piece.file.suffix == ".safetensors" and piece.file not in later:
            piece.file.unlink()
    if not writer(job.target).is_whole(job.partial, job.target):
        job.partial.unlink()
        raise MovaError(f"{job.path} did not get the planned size; run the same command again.")
    rename(job.partial, job.path)


def label(name: str) -> str:
    """A short name of a file of the repository, which leaves room for the bar: "video_dit 00001-of-00003"."""
    return name.removesuffix(".safetensors").replace("/diffusion_pytorch_model", " ").replace(" -", " ").strip()


def counted(progress: FileProgress, name: str, total: int) -> Callable[[int], None]:
    """A function that is told how many bytes more are done."""
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(name, done, total)

    return tell
