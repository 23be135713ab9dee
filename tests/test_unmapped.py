"""Weights in a file that the system does not map: Linux refuses what is larger than all memory."""

import json
import struct
import sys

import pytest
import torch
from prism_files import write_prism
from safetensors.torch import load_file, save_file

from mova import MovaError
from mova.checkpoint.unmapped import TYPES, Unmapped
from mova.checkpoint.weights import open_weights
from mova.convert.run import convert


@pytest.fixture
def refusing(monkeypatch):
    """As on a machine with less memory than the file has bytes; how often it was tried."""
    tried = []

    def refuse(path, **_):
        tried.append(path)
        raise RuntimeError(f"unable to mmap 65313949926 bytes from file <{path}>: Cannot allocate memory (12)")

    monkeypatch.setattr("mova.checkpoint.weights.safe_open", refuse)
    return tried


@pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3_scaled"])
def test_a_file_that_cannot_be_mapped_becomes_the_same_files(tiny_checkpoint, tmp_path, monkeypatch, dtype):
    prism = write_prism(tiny_checkpoint, tmp_path / "preview_beta")
    wanted = [file.path for file in convert(prism, tmp_path / "mapped", dtype)]
    from safetensors import safe_open

    refused = []

    def refuse(path, **named):
        if path != prism:
            return safe_open(path, **named)
        refused.append(path)
        raise RuntimeError("unable to mmap: Cannot allocate memory (12)")

    monkeypatch.setattr("mova.checkpoint.weights.safe_open", refuse)
    found = [file.path for file in convert(prism, tmp_path / "read", dtype, verified=True)]
    assert len(refused) == 1, "once is enough to know"
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_every_type_is_read_as_the_library_reads_it(tmp_path, refusing):
    state = {name: torch.arange(6).reshape(2, 3).to(dtype) for name, dtype in TYPES.items()}
    save_file({**state, "empty": torch.empty(0, 3)}, tmp_path / "all.safetensors")
    weights = open_weights(tmp_path / "all.safetensors")
    found, wanted = dict(weights.read(weights.tensors)), load_file(tmp_path / "all.safetensors")
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))
    assert len(refusing) == 1


def test_what_is_gone_or_shorter_is_told(tmp_path, refusing):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100), "b": torch.ones(100)}, path)
    weights = open_weights(path)
    dict(weights.read(["a"]))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(MovaError, match="do not change files while they are in use"):
        dict(weights.read(["b"]))


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is up to the system")
def test_a_tensor_of_a_file_larger_than_all_memory_is_read(tmp_path):
    """1 TiB that takes no room on disk. Whether this system maps it or not, it is read."""
    path, rest = tmp_path / "large.safetensors", 2**40
    header = {
        "a": {"dtype": "BF16", "shape": [5, 7], "data_offsets": [0, 70]},
        "rest": {"dtype": "U8", "shape": [rest], "data_offsets": [70, 70 + rest]},
    }
    text = json.dumps(header).encode()
    wanted = torch.arange(35).bfloat16().view(5, 7)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + wanted.view(torch.uint8).numpy().tobytes())
        try:
            file.truncate(8 + len(text) + 70 + rest)
        except OSError:
            pytest.skip("NOT TESTED: no disk here takes a sparse file of 1 TiB")
    assert torch.equal(dict(open_weights(path).read(["a"]))["a"], wanted)
    assert torch.equal(Unmapped(path).get_tensor("a"), wanted)
