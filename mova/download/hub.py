"""The model hub: what a repository holds, the headers of its weights, and files fetched so that a stop loses nothing.

The hub's library names, lists and authorises (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE work as it has them). The bytes of
a file are asked for here, by plain HTTP ranges: the library throws a partly fetched file away when its process ends,
and a shard is 10 GB.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..checkpoint.header import DTYPE_BITS, TensorInfo
from ..convert.safetensors_writer import BytesDone, no_progress
from ..convert.sources import sha256_of
from ..errors import MovaError, first_line, install_command
from ..files import reason, rename
from ..shorten import short

TRIES = 6  # in a row without a byte
LONGEST_PAUSE = 30.0  # seconds between two of them
PASSING = (408, 429, 500, 502, 503, 504)  # what a server answers that may be well again in a moment
AGAIN = "then run the same command again, it goes on from there"


@dataclass(frozen=True)
class HubFile:
    """A file of the repository. `sha256`: None for small ones, of which the hub has none."""

    size: int
    sha256: str | None


@dataclass(frozen=True)
class Repository:
    """What a model repository holds at one commit."""

    name: str  # OWNER/NAME
    commit: str
    files: dict[str, HubFile]  # by their path in it


def library() -> Any:
    """The hub's library. Raises MovaError, saying how to install it, if it is not there or too old."""
    try:
        import huggingface_hub

        hub: Any = huggingface_hub
        _ = (hub.get_session, hub.HfApi, hub.utils.build_hf_headers, hub.errors.HfHubHTTPError)
    except (ImportError, AttributeError) as error:
        raise MovaError(
            f"Downloading needs the package huggingface_hub, 1.0 or newer ({first_line(error)}); run "
            + install_command('"huggingface_hub>=1"')
        ) from error
    return hub


def open_repository(name: str, commit: str | None = None) -> Repository:
    """The files of a repository, at a commit or (None) as it is now. Raises MovaError if the hub does not give them."""
    hub = library()
    with hub_errors(name):
        info = hub.HfApi().model_info(name, revision=commit, files_metadata=True)
        files = {
            file.rfilename: HubFile(file.size, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or []
            if file.size is not None
        }
    if not info.sha or (commit and info.sha != commit):
        raise MovaError(f"The model hub does not say at which commit {name} is; check HF_ENDPOINT, {AGAIN}.")
    return Repository(name, info.sha, files)


def read_remote_header(repository: Repository, name: str) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file on the hub, of which only the header is fetched."""
    hub = library()
    with hub_errors(f"{repository.name}/{name}"):
        found = hub.HfApi().parse_safetensors_file_metadata(repository.name, name, revision=repository.commit)
    for tensor, info in found.tensors.items():
        if info.dtype not in DTYPE_BITS:
            raise MovaError(
                f"{repository.name}/{name} stores {short(tensor)} as {short(info.dtype)}, which is no dtype of a "
                "model's weights; choose another repository."
            )
    return {tensor: TensorInfo(info.dtype, tuple(info.shape)) for tensor, info in found.tensors.items()}


def fetch(repository: Repository, name: str, path: Path, progress: BytesDone = no_progress) -> None:
    """Bring a file to `path`. What arrives is kept in `path`.part, from which the next call goes on.

    The file gets its name when its size and (for weights) its SHA-256 are those that the hub lists; if it is there, it
    is left as it is. Raises MovaError if the hub or the disk refuses.
    """
    if name not in repository.files:
        raise MovaError(f"{repository.name} lacks {name}; choose a repository laid out like the release.")
    file = repository.files[name]
    if size_of(path) == file.size:
        return
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if size_of(part) > file.size:
            part.unlink()
        progress(size_of(part))
        with open(part, "ab") as opened:
            transfer(repository, name, opened, file.size, progress)
            os.fsync(opened.fileno())
        if file.sha256 and sha256_of(part, lambda done: progress(0)) != file.sha256:
            part.unlink()
            raise MovaError(
                f"{repository.name}/{name} did not arrive as the hub lists it (its SHA-256 differs), and was deleted; "
                "run the same command again, which fetches it once more."
            )
        rename(part, path)
    except OSError as error:
        raise MovaError(f"{path} could not be written ({reason(error)}); make room, {AGAIN}.") from error


def transfer(repository: Repository, name: str, opened: BinaryIO, size: int, progress: BytesDone) -> None:
    """Append what is missing to a file; a connection that breaks is taken up again where it broke."""
    failed = 0
    while (done := opened.tell()) < size:
        try:
            stream(repository, name, opened, size, progress)
            error = None
        except Exception as raised:  # of httpx or httpx2, by the version of the hub's library
            if not passes(raised):
                raise translated(raised, f"{repository.name}/{name}") from raised
            error = raised
        failed = failed + 1 if opened.tell() <= done else 0
        if failed == TRIES:
            raise translated(error or ConnectionError("no data"), f"{repository.name}/{name}") from error
        if opened.tell() < size:
            pause(min(2.0**failed / 2, LONGEST_PAUSE), progress)


def pause(seconds: float, progress: BytesDone) -> None:
    """Wait; `progress` is told often that nothing is done, so that it can stop the run meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        progress(0)
        time.sleep(min(left, 0.5))


def stream(repository: Repository, name: str, opened: BinaryIO, size: int, progress: BytesDone) -> None:
    """One request for the rest of a file."""
    hub, done = library(), opened.tell()
    url = hub.hf_hub_url(repository.name, name, revision=repository.commit)
    headers = {**hub.utils.build_hf_headers(), "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with hub.get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        if response.is_error:
            response.read()  # the library looks in it for the hub's reason
        hub.utils.hf_raise_for_status(response)
        if done and response.status_code != 206:  # the whole file, from its beginning
            progress(-done)
            opened.truncate(0)
            opened.seek(0)
        for chunk in response.iter_bytes():  # as they come: of a broken connection, nothing is lost
            if opened.tell() + len(chunk) > size:
                raise MovaError(
                    f"{repository.name}/{name} is longer than the hub lists it; check HF_ENDPOINT, {AGAIN}."
                )
            opened.write(chunk)
            progress(len(chunk))


def passes(error: Exception) -> bool:
    """Whether it may help to try again: a lost connection, or a server that is busy."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    lost = not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError)
    return lost and not isinstance(error, OfflineModeIsEnabled | MovaError)


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """What the hub's library raises as one sentence. `what`: the repository, or the file in it."""
    try:
        yield
    except Exception as error:
        raise translated(error, what) from error


def translated(error: Exception, what: str) -> MovaError:
    from huggingface_hub import errors

    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, MovaError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return MovaError(
            f"{what} is given only to those who accept its terms; do so on its page on the hub, and {log_in}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return MovaError(
            f"{what} no longer has the commit that this download began with; delete the folder .mova-download in the "
            "destination, and run the command again."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return MovaError(f"The model hub has no repository {what}, or hides it; check the name, or {log_in}.")
    if isinstance(error, errors.EntryNotFoundError):
        return MovaError(f"The model hub lists {what}, but does not have it; choose another repository.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return MovaError(f"{what} cannot be downloaded while HF_HUB_OFFLINE is set; unset it.")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        remedy = f"{log_in}, {AGAIN}" if status in (401, 403) else f"wait a while, {AGAIN}"
        return MovaError(f"The model hub refuses {what} (HTTP status {status}); {remedy}.")
    if isinstance(error, errors.SafetensorsParsingError | errors.NotASafetensorsRepoError):
        return MovaError(
            f"{what} on the hub is not a safetensors file ({first_line(error)}); choose another repository."
        )
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):  # the disk's
        return MovaError(f"{what} could not be written ({reason(error)}); make room, {AGAIN}.")
    if isinstance(error, json.JSONDecodeError):
        return MovaError(f"What answers for {what} is not the model hub; check HF_ENDPOINT and the proxy, {AGAIN}.")
    why = first_line(error) or type(error).__name__
    return MovaError(f"The model hub could not be reached for {what} ({why}); check the connection, {AGAIN}.")


def part_of(path: Path) -> Path:
    """Where a file is while it arrives."""
    return path.with_name(path.name + ".part")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0
