"""The header of a safetensors file, checked against the file itself, so that a bad download is told in one sentence.

The format: 8 bytes with the header's length (little-endian), the header (a JSON object of name -> dtype, shape,
data_offsets, and `__metadata__`), then the tensors' bytes without gaps.
"""

import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from .. import strict_json
from ..errors import MovaError
from ..files import reason
from ..shorten import short

FLOATS = frozenset({"BF16", "F16", "F32", "F64"})  # the plain ones, as weights are before they are quantised
# Bits per element of every dtype that the safetensors library hands to torch (it knows F6_* but does not load them).
DTYPE_BITS = {
    **{"F4": 4, "BOOL": 8, "I8": 8, "U8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8},
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16},
    **{"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64},
}
MAX_HEADER_BYTES = 20_000_000  # 60,000 tensors take 6 MB; the library allows 100 MB, which Python reads for seconds
AGAIN = "download it again"
MORE_MEMORY = "memory is full: close other programs (on Windows also: give it a larger page file)"
CONVERT = "use the model's .safetensors file"
REFUSED = "refused because loading a pickle can run any code"


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor: safetensors' name of the dtype ("BF16"), and the shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Names, dtypes and shapes of the tensors in a safetensors file, and its `__metadata__` (empty if it has none).

    Reads the header only. Raises MovaError if the file is not there, is of another kind, or is not whole.
    """
    tensors, metadata, _ = read_layout(path)
    return tensors, metadata


def read_layout(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str], dict[str, tuple[int, int]]]:
    """As read_header, and of each tensor its first byte in the file, and how many it has."""
    check_is_file(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(64)
            length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
            # The length is only a claim until here: nothing longer than the file is ever allocated.
            if length > min(size - 8, MAX_HEADER_BYTES) or head[8:9] != b"{":
                raise unlike_safetensors(path, head, size, length)
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error

    header = parsed(path, text)
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise broken(path, "has a header whose __metadata__ is not an object of strings")
    tensors = {}
    spans = []
    for name, entry in header.items():
        tensors[name], begin, end = tensor_entry(path, name, entry)
        spans.append((begin, end, name))
    check_layout(path, sorted(spans), size - 8 - length)
    return tensors, metadata, {name: (8 + length + begin, end - begin) for begin, end, name in spans}


def check_is_file(path: Path) -> None:
    """Raise MovaError unless there is a regular file at `path` (or a link to one)."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):  # the model hub's cache is made of links, which copying and moving breaks
            what = f"is a link to {short(os.readlink(path))}, which does not exist"
            raise broken(path, what, "copy or download the file itself") from error
        raise broken(path, "does not exist", "check the path, or download the file") from error
    except (OSError, ValueError) as error:  # no permission, links in a circle, a name that no disk takes
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise broken(path, "is a folder, not a file", "name the file in it")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise broken(path, "is not a regular file", "check the path")


def broken(path: Path | str, what: str, remedy: str = AGAIN) -> MovaError:
    """The error for the file or folder at `path`, as one sentence."""
    return MovaError(f"{path} {what}; {remedy}.")


def unreadable(path: Path, error: Exception) -> MovaError:
    """The error for what the system does not let us read."""
    return broken(path, f"cannot be read ({reason(error)})", "check the path and its permissions")


def impostor(head: bytes) -> str:
    """What a file is that begins with `head` and was saved in place of the wanted one; empty if nothing is known."""
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself (`git lfs pull` fetches it)"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the file (the hub may want you to log in)"
    if len(head) >= 8 and not any(head):
        return "begins with zeros, as an unfinished download does"
    return ""


def unlike_safetensors(path: Path, head: bytes, size: int, length: int) -> MovaError:
    """The error for a file whose first bytes (`head`) are not those of a whole safetensors header."""
    if known := impostor(head):
        return broken(path, known)
    if head.startswith(b"GGUF"):
        return broken(path, "is a GGUF file, not a safetensors file", CONVERT)
    # 0x80 can also be the length of a safetensors header: the byte behind the length tells them apart.
    if head.startswith((b"PK\x03\x04", b"\x80")) and len(head) > 8 and head[8:9] != b"{":
        kind = "a pickle (.pt, .bin) or another zip archive" if head.startswith(b"PK") else "a pickle (.pt, .bin)"
        return broken(path, f"is not a safetensors file but {kind}, {REFUSED}", CONVERT)
    if size < 8:
        return broken(path, f"is only {size} bytes long, too short for a safetensors file")
    if length > MAX_HEADER_BYTES:
        what = f"is not a safetensors file (its header would have {length} bytes, more than 20 MB)"
        return broken(path, what)
    if length > size - 8:
        return broken(path, f"is cut off inside its header, of which {length - (size - 8)} bytes are missing")
    return broken(path, "is not a safetensors file (its header is not a JSON object)")


def parsed(path: Path, text: bytes) -> dict[str, Any]:
    """The header as a dict; it begins with "{"."""

    try:
        header: dict[str, Any] = strict_json.parse(text.decode())
    except UnicodeDecodeError as error:
        raise broken(path, "has a header that is not UTF-8 text") from error
    except ValueError as error:
        raise broken(path, f"has a header that is not valid JSON ({error})") from error
    return header


def tensor_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int, int]:
    """One entry of the header, with the first byte of the tensor's data and the byte after its last."""
    if not isinstance(entry, dict):
        raise broken(path, f"has a header entry {short(name)} that does not describe a tensor")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        known = ", ".join(DTYPE_BITS)
        raise broken(
            path, f"has tensor {short(name)} of unknown dtype {short(dtype)}", f"use a file with one of {known}"
        )
    if not are_counts(shape):
        raise broken(path, f"gives tensor {short(name)} the impossible shape {short(shape)}")
    if not are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise broken(path, f"gives tensor {short(name)} the impossible data_offsets {short(offsets)}")
    begin, end = offsets
    if math.prod(shape) * DTYPE_BITS[dtype] != (end - begin) * 8:
        raise broken(path, f"gives tensor {short(name)} {end - begin} bytes, which do not fit {dtype} {short(shape)}")
    return TensorInfo(dtype, tuple(shape)), begin, end


def are_counts(values: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of at most 64 (torch's limit of dimensions) whole numbers that torch can count to."""
    return (
        isinstance(values, list)
        and len(values) <= 64
        and all(type(value) is int and 0 <= value < 2**63 for value in values)  # type(): True is an int too
    )


def check_layout(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    """Raise MovaError unless the sorted (begin, end, name) fill the file's `data_bytes` without gap or overlap."""
    at = 0
    for begin, end, name in spans:
        if begin != at:
            fault = "overlaps the one before it" if begin < at else f"leaves a gap of {begin - at} bytes before it"
            raise broken(path, f"has a damaged header (tensor {short(name)} {fault})")
        at = end
    if at > data_bytes:
        raise broken(path, f"is cut off: the last {at - data_bytes} of its {at} bytes of tensors are missing")
    if at < data_bytes:
        raise broken(path, f"has {data_bytes - at} bytes more than its header tells of")
