"""A small safetensors file, whole or not there.

The library's save_file writes into a file of a name of its own beside the one asked for: of a process that is killed it
stays, and nobody knows whose it was.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ..files import whole_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors on the CPU that share no memory. Raises MovaError if the disk refuses."""
    content = save(dict(tensors), dict(metadata))
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
