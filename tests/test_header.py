"""The header of a safetensors file, read before anything of the file is."""

import json
import os
import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch
from damage import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from safetensors_files import HEADER_END, VALID, entry, framed
from sentences import refusal

from mova.checkpoint.header import TensorInfo, read_header
from mova.checkpoint.weights import open_weights, read_json
from mova.errors import MovaError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
STEM = "diffusion_pytorch_model"


# --- read_header ---


def test_a_valid_header_gives_names_dtypes_shapes_and_metadata(tmp_path):
    tensors, metadata = read_header(write(tmp_path / "w.safetensors", VALID))
    assert tensors == {"a": TensorInfo("F32", (2,)), "b": TensorInfo("BF16", (2, 1))}
    assert metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *[("BOOL", 1), ("I8", 1), ("U8", 1), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("F4", 0.5), ("I16", 2)],
        *[("U16", 2), ("F16", 2), ("BF16", 2), ("I32", 4), ("U32", 4), ("F32", 4), ("I64", 8), ("U64", 8), ("F64", 8)],
    ],
)
def test_every_dtype_is_known_with_its_size(tmp_path, dtype, size):
    nbytes = int(6 * size)
    path = write(tmp_path / "w.safetensors", framed({"t": entry(dtype, (3, 2), (0, nbytes))}, bytes(nbytes)))
    assert read_header(path)[0]["t"] == TensorInfo(dtype, (3, 2))
    ((name, tensor),) = open_weights(path).read(["t"])
    assert name == "t" and tensor.numel() * tensor.element_size() == nbytes


def test_scalars_empty_tensors_and_an_empty_file_of_tensors_are_valid(tmp_path):
    save_file({"s": torch.tensor(3.0), "e": torch.zeros(0, 5)}, tmp_path / "w.safetensors")
    assert read_header(tmp_path / "w.safetensors")[0] == {"s": TensorInfo("F32", ()), "e": TensorInfo("F32", (0, 5))}
    assert read_header(write(tmp_path / "none.safetensors", framed({}))) == ({}, {})


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
BAD_FILES = {
    "empty": (b"", "is empty"),
    "shorter than the length": (VALID[:5], "only 5 bytes"),
    "header longer than the file": (VALID[:20], f"cut off inside its header, of which {HEADER_END - 20} bytes"),
    "header over 20 MB": (struct.pack("<Q", 20_000_001) + b"{" * 99, "more than 20 MB"),
    "absurd length": (b"\xff" * 8 + b"{}", "more than 20 MB"),
    "git-lfs pointer": (LFS, "git-lfs pointer"),
    "GGUF": (b"GGUF\3\0\0\0" + b"{" + bytes(99), "GGUF"),
    "zipped pickle": (b"PK\3\4\0\0\x08\x08" + bytes(99), "not a safetensors file but a pickle"),
    "bare pickle": (pickle.dumps({"a": list(range(99))}, 2), "not a safetensors file but a pickle"),
    "header not an object": (framed(b"[1, 2]"), "not a JSON object"),
    "header not JSON": (framed(b'{"a": '), "not valid JSON"),
    "header with NaN": (framed(b'{"a": NaN}'), "not valid JSON"),
    "header nested deep": (framed(b'{"a": ' + b"[" * 200_000), "not valid JSON"),
    "header not UTF-8": (framed(b'{"\xff": 1}'), "not UTF-8"),
    "name twice": (framed(b'{"t": {}, "t": {}}'), "'t' twice"),
    "metadata not an object": (framed({"__metadata__": 3}), "__metadata__"),
    "metadata not strings": (framed({"__metadata__": {"a": 1}}), "__metadata__"),
    "entry not an object": (framed({"t": [1]}), "'t' that does not describe a tensor"),
    "no dtype": (framed({"t": {"shape": [1], "data_offsets": [0, 4]}}), "unknown dtype None"),
    "unknown dtype": (framed({"t": entry("F7")}, bytes(8)), "'t' of unknown dtype 'F7'"),
    "dtype not a string": (framed({"t": entry(["F32"])}), "unknown dtype"),
    "negative shape": (framed({"t": entry(shape=(-2, -1))}, bytes(8)), "impossible shape [-2, -1]"),
    "fractional shape": (framed({"t": entry(shape=(2.0,))}, bytes(8)), "impossible shape"),
    "boolean shape": (framed({"t": entry(shape=(True,), offsets=(0, 4))}, bytes(4)), "impossible shape"),
    "huge shape": (framed({"t": entry(shape=(0, 10**30), offsets=(0, 0))}), "impossible shape"),
    "endless shape": (framed({"t": entry(shape=[2**62] * 10_000)}, bytes(8)), "impossible shape"),
    "shape not a list": (framed({"t": entry() | {"shape": 2}}, bytes(8)), "impossible shape 2"),
    "three offsets": (framed({"t": entry(offsets=(0, 4, 8))}, bytes(8)), "impossible data_offsets"),
    "offsets reversed": (framed({"t": entry(offsets=(8, 0))}, bytes(8)), "impossible data_offsets"),
    "offsets not matching": (framed({"t": entry(shape=(3,))}, bytes(8)), "8 bytes, which do not fit F32 [3]"),
    "half a byte": (framed({"t": entry("F4", (3,), (0, 1))}, bytes(1)), "do not fit F4"),
    "overlap": (framed({"t": entry(), "u": entry(offsets=(4, 12))}, bytes(12)), "'u' overlaps"),
    "gap": (framed({"t": entry(), "u": entry(offsets=(12, 20))}, bytes(20)), "gap of 4 bytes"),
    "cut off in the data": (VALID[:-5], "the last 5 of its 12 bytes"),
    "claims a terabyte": (framed({"t": entry("U8", (2**40,), (0, 2**40))}, bytes(8)), "is cut off"),
    "bytes behind the end": (VALID + b"!", "1 bytes more"),
    "endless name": (framed({"n" * 10_000: 1}), "nnn...nnn"),
}


@pytest.mark.parametrize(("content", "wanted"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_naming_file_and_fault(tmp_path, content, wanted):
    path = write(tmp_path / "w.safetensors", content)
    message = refusal(read_header, path)
    assert wanted in message and message.startswith(str(path))


def test_a_header_over_20_mb_is_not_read_even_if_the_file_has_it(tmp_path):
    path = write(tmp_path / "w.safetensors", struct.pack("<Q", 20_000_001) + b"{")
    os.truncate(path, 20_000_009)
    assert "more than 20 MB" in refusal(read_header, path)


def test_what_is_not_a_file_is_refused(tmp_path):
    assert "does not exist" in refusal(read_header, tmp_path / "none.safetensors")
    assert "is a folder" in refusal(read_header, tmp_path)


@LINUX
def test_a_pipe_and_an_unreadable_file_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(read_header, tmp_path / "pipe")
    for reader in (read_header, read_json):
        assert "cannot be read" in refusal(reader, Path("/proc/self/mem"))  # even root gets an I/O error


def test_a_file_cut_off_anywhere_is_refused_as_too_short(tmp_path):
    for end in range(len(VALID)):
        message = refusal(read_header, write(tmp_path / "w.safetensors", VALID[:end]))
        assert "is empty" in message or "bytes long" in message or "is cut off" in message
        if end >= HEADER_END:
            assert f"the last {len(VALID) - end} of its 12 bytes" in message


def test_a_header_length_beginning_like_a_pickle_is_no_pickle(tmp_path):
    text = json.dumps({"t": entry()}).encode().ljust(0x480)
    content = framed(text, bytes(8))
    assert content[:2] == b"\x80\x04"
    assert list(read_header(write(tmp_path / "w.safetensors", content))[0]) == ["t"]
    assert "is cut off" in refusal(read_header, write(tmp_path / "w.safetensors", content[:8]))


edits = st.lists(
    st.tuples(st.integers(0, len(VALID) - 1), st.sampled_from(b'"[]{}:,-0123456789e\xff\0 AF')), max_size=4
)
mutants = st.tuples(edits, st.binary(max_size=3), st.integers(0, 20)).map(
    lambda m: bytes(dict(m[0]).get(i, byte) for i, byte in enumerate(VALID))[: len(VALID) - m[2]] + m[1]
)
shapes = st.sampled_from([(), (4,), (1, 1), (0,), (-1,), (2**62, 8)])
spans = st.sampled_from([(0, 4), (4, 8), (0, 0), (4, 4), (8, 4)])
entries = st.builds(entry, st.sampled_from(["U8", "F4", "F32", "X"]), shapes, spans)
headers = st.builds(framed, st.dictionaries(st.text(max_size=2), entries, max_size=2), st.sampled_from([b"", bytes(4)]))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=99) | st.binary(max_size=99).map(framed) | mutants | headers)
def test_any_bytes_give_a_header_that_the_library_opens_or_a_mova_error(tmp_path, content):
    path = write(tmp_path / "w.safetensors", content)
    try:
        tensors, _ = read_header(path)
    except MovaError:
        return
    with safe_open(path, framework="pt") as file:
        assert {name: list(info.shape) for name, info in tensors.items()} == {
            name: file.get_slice(name).get_shape()
            for name in file.keys()  # noqa: SIM118
        }
