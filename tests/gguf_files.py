"""GGUF files of whatever weights there are."""

from pathlib import Path

from mova.checkpoint import gguf_file
from mova.checkpoint.weights import Weights


def write_gguf(path: Path, weights: Weights, metadata: dict[str, str], type_name: str) -> None:
    tensors = (tensor for _, tensor in weights.read(weights.tensors))
    gguf_file.write(path, weights.tensors, tensors, metadata, type_name)
