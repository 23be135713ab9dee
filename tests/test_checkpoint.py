"""Reading safetensors: what is whole is read without a copy, what is not is named in one sentence."""

import os
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import write
from safetensors.torch import save_file
from safetensors_files import VALID, entry, framed
from sentences import refusal

from mova.checkpoint.header import TensorInfo
from mova.checkpoint.weights import assign, check_tensors, open_weights, read_json
from mova.model.shapes import expected_shapes

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
STEM = "diffusion_pytorch_model"


def sharded(folder, weight_map=None, **shards):
    """A folder of two shards with an index; `shards` (name -> tensors) and `weight_map` override what is in them."""
    one, two = f"{STEM}-00001-of-00002.safetensors", f"{STEM}-00002-of-00002.safetensors"
    content = {one: {"x": torch.ones(2, 3)}, two: {"y": torch.arange(4), "z": torch.zeros(())}}
    content.update(zip((one, two), shards.values(), strict=False))
    for name, tensors in content.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    weight_map = {"x": one, "y": two, "z": two} if weight_map is None else weight_map
    write(folder / f"{STEM}.safetensors.index.json", {"metadata": {"total_size": 60}, "weight_map": weight_map})
    return one, two


# --- open_weights and Weights.read ---


def test_a_single_file_and_its_folder_read_back_what_was_saved(tmp_path):
    saved = {"a": torch.randn(3, 2).bfloat16(), "n": torch.arange(3)}
    for stem in ("model", STEM):
        (tmp_path / stem).mkdir()
        path = tmp_path / stem / f"{stem}.safetensors"
        save_file(saved, path, metadata={"config": "{}"})
        for given_path in (path, path.parent):
            weights = open_weights(given_path)
            assert weights.shapes() == {"a": (3, 2), "n": (3,)} and weights.metadata == {"config": "{}"}
            assert weights.files == dict.fromkeys(saved, path)
            for name, tensor in weights.read(saved):
                assert torch.equal(tensor, saved[name]) and tensor.dtype == saved[name].dtype


def test_shards_read_back_and_only_floating_tensors_are_cast(tmp_path):
    one, _ = sharded(tmp_path)
    weights = open_weights(tmp_path)
    assert weights.where == str(tmp_path) and weights.files["x"] == tmp_path / one
    read = dict(weights.read(["z", "x", "y"], dtype=torch.float16))
    assert {name: tensor.dtype for name, tensor in read.items()} == {
        "x": torch.float16,
        "y": torch.int64,
        "z": torch.float16,
    }
    assert torch.equal(read["x"], torch.ones(2, 3).half()) and read["y"].tolist() == [0, 1, 2, 3]
    assert dict(weights.read(["x"], device="meta"))["x"].is_meta
    assert "no tensor 'q'" in refusal(list, weights.read(["x", "q"]))


def test_f4_is_not_cast(tmp_path):
    path = write(tmp_path / "w.safetensors", framed({"t": entry("F4", (2,), (0, 1))}, bytes(1)))
    assert "'t' as F4" in refusal(list, open_weights(path).read(["t"], dtype=torch.bfloat16))


@pytest.mark.parametrize("content", [VALID[:20], framed({"c": entry()}, bytes(8)), None])
def test_a_file_changed_after_opening_is_told(tmp_path, content):
    path = write(tmp_path / "w.safetensors", VALID)
    weights = open_weights(path)
    path.unlink()
    if content is not None:
        write(path, content)
    assert str(path) in refusal(list, weights.read(["a"]))


@LINUX
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_reading_without_a_cast_maps_the_file_and_never_writes_to_it(tmp_path, dtype):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1000), "b": torch.zeros(1000)}, path)
    before = path.read_bytes()
    tensor = dict(open_weights(path).read(["b"], dtype=dtype))["b"]
    maps = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    assert any(int(begin, 16) <= tensor.data_ptr() < int(end, 16) for begin, end in (m.split("-") for m in maps))
    tensor += 7
    assert path.read_bytes() == before


@LINUX
def test_reading_one_tensor_of_a_large_file_takes_the_memory_of_that_tensor(tmp_path):
    path = tmp_path / "w.safetensors"
    size = 2**30
    header = {"big": entry("U8", (size,), (0, size)), "small": entry("F32", (1000,), (size, size + 4000))}
    os.truncate(write(path, framed(header)), len(framed(header)) + size + 4000)  # sparse: takes no disk space

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    weights = open_weights(path)
    tensors = dict(weights.read(["small", "big"]))
    assert tensors["small"].sum() == 0 and tensors["big"].shape == (size,)
    assert resident() - before < 50e6


def test_a_folder_without_weights_tells_what_is_looked_for(tmp_path):
    message = refusal(open_weights, tmp_path)
    assert f"{STEM}.safetensors or model.safetensors" in message and ".index.json" in message
    write(tmp_path / "pytorch_model.bin", b"PK")
    message = refusal(open_weights, tmp_path)
    assert "pytorch_model.bin" in message and "can run any code" in message
    assert "does not exist" in refusal(open_weights, tmp_path / "none")


def test_absent_shards_are_named_and_counted(tmp_path):
    _, two = sharded(tmp_path)
    (tmp_path / two).unlink()
    message = refusal(open_weights, tmp_path)
    assert "only 1 of 2 shards" in message and two in message


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/x.safetensors", "..", "a\\x.safetensors", "C:x.safetensors", "x.bin"]
)
def test_a_shard_outside_the_folder_or_of_another_kind_is_refused(tmp_path, shard):
    sharded(tmp_path, {"x": shard})
    assert "not a .safetensors file in the same folder" in refusal(open_weights, tmp_path)


def test_index_and_shards_must_hold_the_same_tensors(tmp_path):
    one, two = sharded(tmp_path, {"x": "A", "y": "B"})
    sharded(tmp_path, {"x": one, "y": two, "z": two, "w": one})
    assert f"{one} lacks tensor 'w'" in refusal(open_weights, tmp_path)
    sharded(tmp_path, {"x": two, "y": one, "z": two})
    assert f"{two} lacks tensor 'x'" in refusal(open_weights, tmp_path)
    sharded(tmp_path, {"x": one, "y": two})
    assert f"does not list 'z', found in {two}" in refusal(open_weights, tmp_path)
    sharded(tmp_path, None, one={"x": torch.ones(1), "y": torch.ones(1)})
    assert f"'y' twice, in {one} and in {two}" in refusal(open_weights, tmp_path)


def test_shards_of_two_splits_are_no_model_and_a_gap_in_the_count_is_none(tmp_path):
    one, two = sharded(tmp_path)
    other = two.replace("-of-00002", "-of-00003")
    (tmp_path / two).rename(tmp_path / other)
    write(tmp_path / f"{STEM}.safetensors.index.json", {"weight_map": {"x": one, "y": other, "z": other}})
    assert "shards of different splits (in 00002 and in 00003 files)" in refusal(open_weights, tmp_path)
    of_three = one.replace("-of-00002", "-of-00003")  # of a model of which some tensors are not needed
    (tmp_path / one).rename(tmp_path / of_three)
    write(tmp_path / f"{STEM}.safetensors.index.json", {"weight_map": {"x": of_three, "y": other, "z": other}})
    assert set(open_weights(tmp_path).tensors) == {"x", "y", "z"}


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"x": 3}}])
def test_an_index_without_a_weight_map_is_refused(tmp_path, index):
    write(tmp_path / "model.safetensors.index.json", index)
    assert "weight_map" in refusal(open_weights, tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    _, two = sharded(tmp_path)
    write(tmp_path / two, (tmp_path / two).read_bytes()[:-1])
    message = refusal(open_weights, tmp_path)
    assert two in message and "the last 1 of its 36 bytes" in message


# --- read_json ---


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        *[(b"", "is empty"), (b"{,}", "not valid JSON"), (b"[" * 200_000, "not valid JSON")],
        *[(b'{"a": "\xff"}', "not UTF-8"), (b"[1]", "not a JSON object")],
    ],
    ids=range(5),  # the long one makes a test's name that Windows has no room for
)
def test_a_file_that_holds_no_json_object_is_refused(tmp_path, content, wanted):
    path = write(tmp_path / "config.json", content)
    assert wanted in refusal(read_json, path) and str(path) in refusal(read_json, path)


def test_a_json_object_is_read_even_behind_a_byte_order_mark(tmp_path):
    assert read_json(write(tmp_path / "config.json", b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}
    assert "does not exist" in refusal(read_json, tmp_path / "none.json")
    assert "is a folder" in refusal(read_json, tmp_path)


# --- check_tensors, expected_shapes, assign ---


def test_missing_unknown_and_misshapen_tensors_are_named_at_most_three_of_each(tmp_path):
    infos = {"a": TensorInfo("F32", (2, 3)), "u": TensorInfo("F32", ())}
    expected = {"a": (3, 2), **{f"m{i}": (1,) for i in range(5)}}
    message = refusal(check_tensors, infos, expected, "video_dit")
    assert message.startswith("video_dit lacks 'm0', 'm1', 'm2' and 2 more")
    assert "unknown 'u'" in message and "'a' is [2, 3] instead of [3, 2]" in message


def test_matching_tensors_pass_and_optional_ones_may_be_absent_or_unexpected(tmp_path):
    sharded(tmp_path)
    weights = open_weights(tmp_path)
    check_tensors(weights.tensors, {"x": [2, 3], "y": (4,), "z": ()}, "here")
    check_tensors(weights.tensors, {"x": (2, 3), "y": (4,), "w": (1,)}, "here", optional={"w", "z"})
    assert "'x' is" in refusal(check_tensors, weights.tensors, {"x": (2,)}, "here", {"x", "y", "z"})


def small_module(device=None):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3, device=device), torch.nn.BatchNorm1d(3, device=device))
    return torch.nn.ModuleDict({"part": module})


def test_expected_shapes_are_those_of_parameters_and_buffers():
    shapes = expected_shapes(small_module("meta"))
    assert shapes["part.0.weight"] == (3, 2) and shapes["part.0.bias"] == (3,)
    assert "part.1.running_mean" in shapes


def test_a_meta_module_filled_from_a_file_computes_as_the_saved_one(tmp_path):
    saved = small_module().eval()
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    module = small_module("meta").eval()
    weights = open_weights(tmp_path / "w.safetensors")
    check_tensors(weights.tensors, expected_shapes(module), "w")
    assign(module, weights.read(weights.tensors))
    x = torch.randn(4, 2)
    assert torch.equal(module["part"](x), saved["part"](x))
    assert module.state_dict().keys() == saved.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", ["q", "part.0.q", "part.9.weight", "part.0", "part.0.weight.data", ""])
def test_an_unknown_name_or_another_shape_is_not_assigned(name):
    module = small_module()
    assert f"no tensor {name!r}" in refusal(assign, module, [(name, torch.ones(1))])
    assert "[2, 3] instead of [3, 2]" in refusal(assign, module, [("part.0.weight", torch.ones(2, 3))])


def test_the_memory_of_the_old_tensor_is_freed_before_the_next_is_read():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    memory = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        array = np.zeros(tensor.shape, dtype="int64" if name.endswith("tracked") else "float32")
        tensor.data = torch.from_numpy(array)  # the tensor's memory is the array, which dies with its last view
        memory[name] = weakref.ref(array)
    del tensor, array
    assert all(reference() is not None for reference in memory.values())

    def source():
        for i, name in enumerate(names := list(memory)):
            assert [memory[done]() for done in names[:i]] == [None] * i
            assert memory[name]() is not None
            yield name, torch.ones(memory[name]().shape)

    assign(module, source())
    assert [reference() for reference in memory.values()] == [None] * len(memory)
