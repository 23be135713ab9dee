"""From the model hub to the single files that ComfyUI loads, shard by shard.

The disk holds the files written so far, the shard at work, and while the experts are made the two parts they share.
What an interrupted run needs to go on is in .mova-download/NAME under the destination, and in hidden files
(.*.download) where the finished ones will be.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..checkpoint.formats import check_format
from ..convert.parts import PARTS, chosen_parts
from ..convert.run import Converted, check_destination, writer
from ..convert.sources import FileProgress
from ..errors import MovaError
from ..files import rename, whole_file
from ..shorten import short
from . import append, singles
from .hub import Repository, fetch, library, open_repository
from .places import Places
from .plan import Job, prepare
from .room import check_room, to_fetch
from .singles import SINGLES, Wanted
from .state import PIN, errors_of, locked, pinned_commit

RELEASES = {name: f"OpenMOSS-Team/{name}" for name in ("MOVA-360p", "MOVA-720p")}
# Prism's, by the folder of the repository that each lies in.
PRISM_REPOSITORY = "FrancisRing/Prism"
PRISM_BASE = "MOVA-360p"  # whose other parts it uses
PRISM = {f"Prism-{folder}": folder for folder in ("preview_alpha", "preview_beta")}
ALL_PARTS = (*PARTS, *SINGLES)


def download(
    name: str,
    destination: Path | Places,
    dtype: str = "bf16",
    parts: Sequence[str] | None = None,
    verified: bool = False,
    progress: FileProgress = lambda name, done, total: None,
    note: Callable[[str], None] = lambda text: None,
    planned: Callable[[int, int], None] = lambda files, size: None,
) -> Iterator[Converted]:
    """Write what `convert` would of a repository on the hub (a release's name, or OWNER/NAME); yields each file.

    Of ALL_PARTS, those for Wan (SINGLES) are fetched as they are; without `parts` they are not. The same call goes on
    after an interruption, at the commit that the first one found; a finished file is kept if the weights that it is
    made of are those of that commit, and not verified again. `note` is told what is left out, `planned` once how many
    files are to be made and how many bytes are to arrive for them; whatever `progress` raises stops the run as a kill
    would. Raises MovaError as `convert` does, and if the hub does not give what is needed, if the disk is too small, or
    if an unfinished download was begun otherwise.
    """
    places = destination if isinstance(destination, Places) else Places(Path(destination))
    repository_name, prism = PRISM_REPOSITORY if name in PRISM else full_name(name), PRISM.get(name)
    check_format(dtype)
    chosen = chosen_parts(parts, ALL_PARTS)
    check_destination(places.root)
    library()
    state = places.state(repository_name if prism is None else f"{PRISM_REPOSITORY.split('/')[0]}/{name}")
    with errors_of(places.root), locked(state):
        extra, there = singles.ask_for([part for part in chosen or () if part in SINGLES], places)
        for folder in {wanted.path.parent for wanted in extra}:
            folder.mkdir(parents=True, exist_ok=True)
        own = chosen and tuple(part for part in chosen if part in PARTS)
        wanted: dict[str, object] = {"repository": repository_name, "dtype": dtype, "verify": verified}
        wanted |= {} if prism is None else {"folder": prism}
        repository, jobs = None, list[Job]()
        if own != ():
            repository, jobs, kept = begin(state, places, wanted, own, extra, note)
            there = [*kept, *there]
        else:
            check_room(places.root, None, state, [], extra)
        missing = to_fetch(repository, state, jobs) if repository else 0
        planned(len(jobs) + len(extra), missing + sum(single.left for single in extra))
        yield from (Converted(path, kept=True, verified=False) for path in there)
        for single in extra:
            get(single, progress)
            yield Converted(single.path, kept=False, verified=False)
        for number, job in enumerate(jobs):
            later = {piece.file for other in jobs[number + 1 :] for piece in other.pieces}
            assert repository is not None
            make(repository, state, job, later, verified, progress)
            yield Converted(job.path, kept=False, verified=verified)
        # Of other parts, something may be unfinished; what makes it go on stays.
        if own != () and not any(places.unfinished(state)):
            shutil.rmtree(state, ignore_errors=True)


def begin(
    state: Path,
    places: Places,
    wanted: dict[str, object],
    parts: tuple[str, ...] | None,
    extra: list[Wanted],
    note: Callable[[str], None],
) -> tuple[Repository, list[Job], list[Path]]:
    """Plan the files of a repository, check that there is room, and pin its commit.

    What was pinned is taken up; where nothing was, nothing stays if this fails.
    """
    commit = pinned_commit(state, wanted)
    if commit is None:
        shutil.rmtree(state, ignore_errors=True)
    try:
        repository = open_repository(str(wanted["repository"]), commit)
        folder = str(wanted["folder"]) if "folder" in wanted else None
        jobs, kept = prepare(repository, state, places, str(wanted["dtype"]), parts, note, folder)
        if commit is None:
            for job in jobs:
                job.partial.unlink(missing_ok=True)
        check_room(places.root, repository, state, jobs, extra)
    except BaseException:
        if commit is None:
            shutil.rmtree(state, ignore_errors=True)
        raise
    with whole_file(state / PIN) as temporary:
        temporary.write_text(json.dumps({**wanted, "commit": repository.commit}), encoding="utf-8")
    return repository, jobs, kept


def full_name(name: str) -> str:
    """OWNER/NAME of a repository. Raises MovaError if it is neither a release's name nor like that."""
    found = RELEASES.get(name, name)
    if not re.fullmatch(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+", found, re.ASCII):
        raise MovaError(
            f"There is no release called {short(name)}; choose {', '.join([*RELEASES, *PRISM])}, or give OWNER/NAME."
        )
    return found


def get(single: Wanted, progress: FileProgress) -> None:
    """Fetch a file as it is."""
    single.path.unlink(missing_ok=True)  # not whole, if it is there
    fetch(single.repository, single.name, single.path, counted(progress, f"fetching {single.path.name}", single.size))


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
