import json
import math
import struct
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from golden import FIXTURES
from safetensors.torch import load_file, save_file
from sentences import refusal
from test_command_line import ROOT

from mova import JointModel, MovaConfig, MovaError
from mova.__main__ import main
from mova.checkpoint import gguf_file
from mova.checkpoint.formats import GGUF
from mova.checkpoint.header import TensorInfo
from mova.checkpoint.weights import Weights, open_weights
from mova.model.config import RELEASED
from mova.tools import tiny

TYPES = ("gguf_bf16", "gguf_q8_0", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0")
# Largest error in a block of 32, in parts of its largest value (x_0: the scale is that value over 2^(bits - 1), and the
# far end of the range has one step less) or of its range (x_1: half a step).
BOUNDS = {"Q8_0": 0.5 / 127, "Q5_0": 1 / 16, "Q4_0": 1 / 8, "Q5_1": 0.5 / 31, "Q4_1": 0.5 / 15, "BF16": 2**-9}
FLOAT16 = 2**-10  # scales and minima are stored in float16
METADATA = {"config": json.dumps({"transformer": {**tiny.CONFIG.to_dict(), "expert": "low_noise"}}), "source": "tiny é"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small expert in bf16, and one matrix whose rows do not split into blocks of 32."""
    path = tmp_path_factory.mktemp("gguf") / "expert.safetensors"
    state = tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))
    state["blocks.0.odd.weight"] = torch.randn(8, 40).bfloat16()
    save_file(state, path)
    return open_weights(path)


def written(path, source, type_name):
    write_gguf(path, source, METADATA, type_name)
    return path


@pytest.fixture(scope="module")
def example(source, tmp_path_factory):
    return written(tmp_path_factory.mktemp("gguf") / "expert_Q8_0.gguf", source, "gguf_q8_0")


@pytest.mark.parametrize("type_name", TYPES)
def test_a_file_holds_the_weights_within_its_type_s_error(source, tmp_path, type_name):
    reader = gguf.GGUFReader(written(tmp_path / "x.gguf", source, type_name))
    wanted, quantised = load_file(source.where), 0
    assert [tensor.name for tensor in reader.tensors] == list(source.tensors)
    for tensor in reader.tensors:
        kind, original = tensor.tensor_type.name, wanted[tensor.name].float()
        assert tuple(reversed(tensor.shape.tolist())) == original.shape
        found = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        if kind == "F32" or tensor.name == "blocks.0.odd.weight" or type_name == "gguf_bf16":
            assert torch.equal(found.flatten(), original.flatten())
        elif kind != "BF16":
            quantised += 1
            blocks, error = original.reshape(-1, 32), (found - original).abs().reshape(-1, 32).amax(dim=1)
            largest = blocks.abs().amax(dim=1)
            span = blocks.amax(dim=1) - blocks.amin(dim=1) if kind.endswith("_1") else largest
            assert (error <= span * BOUNDS[kind] + largest * FLOAT16).all(), tensor.name
    assert quantised == (0 if type_name == "gguf_bf16" else 66)  # the matrices in blocks and bridge


def test_only_matrices_of_blocks_and_bridge_are_quantised(example):
    tensors, _ = gguf_file.read_gguf_header(example)
    kinds = {name: info.dtype for name, info in tensors.items()}
    for name in ("blocks.2.ffn.0", "audio_dit.blocks.0.cross_attn.k"):
        assert kinds[f"{name}.weight"] == "Q8_0" and kinds[f"{name}.bias"] == "F32"
    assert kinds["dual_tower_bridge.video_to_audio_conditioners.1.inner.o.weight"] == "Q8_0"
    for name in ("time_projection.1", "audio_dit.text_embedding.0", "head.head"):
        assert kinds[f"{name}.weight"] == "BF16"  # as they are
    # The loader has no layers for these in any type that NumPy and torch do not share.
    for name in (
        "patch_embedding.weight",
        "audio_dit.patch_embedding.weight",
        "blocks.0.modulation",
        "head.modulation",
    ):
        assert kinds[name] == "F32"
    assert kinds["blocks.0.odd.weight"] == "BF16"


@pytest.mark.parametrize("type_name", TYPES)
def test_header_and_size_are_as_announced(source, tmp_path, type_name):
    path = written(tmp_path / "x.gguf", source, type_name)
    assert path.stat().st_size == gguf_file.file_size(source.tensors, METADATA, type_name)
    tensors, metadata = gguf_file.read_gguf_header(path)
    assert {name: info.shape for name, info in tensors.items()} == source.shapes()
    assert metadata.items() >= METADATA.items()
    assert metadata["general.architecture"] == "wan"  # or the community's loader refuses the file
    assert int(metadata["general.quantization_version"]) == gguf.GGML_QUANT_VERSION
    kind = gguf.LlamaFileType(int(metadata["general.file_type"])).name
    assert kind == f"MOSTLY_{GGUF[type_name].type_name}"


def released() -> Weights:
    """The header of a released expert, with audio tower and bridge."""
    tensors = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())["tensors"]
    infos = {name: TensorInfo("BF16", tuple(shape)) for name, shape in tensors["video_dit"].items()}
    for part in ("audio_dit", "dual_tower_bridge"):
        infos |= {f"{part}.{name}": TensorInfo("BF16", tuple(shape)) for name, shape in tensors[part].items()}
    return Weights("released", infos, {}, {})


def test_every_matrix_of_the_release_splits_into_blocks():
    infos = released().tensors
    kinds = {name: gguf_file.type_of(name, info, "gguf_q4_0") for name, info in infos.items()}
    left = {name for name, info in infos.items() if len(info.shape) == 2 and kinds[name] != "Q4_0"}
    # Two towers, each with two layers for the text and for the timestep, its projection, and a head.
    assert len(left) == 2 * 6 and not any("blocks" in name or "bridge" in name for name in left)


def test_the_release_s_configuration_follows_from_the_shapes_alone():
    # The community's loader passes no metadata on: only shapes tell what the model is.
    assert MovaConfig.from_shapes(released().shapes()) == RELEASED


def test_fewer_bits_make_a_smaller_file():
    sizes = [gguf_file.file_size(released().tensors, {}, kind) for kind in TYPES]
    assert sizes == sorted(sizes, reverse=True)
    # 18.4 billion weights in 34 and 18 bytes for 32, the few that are left out aside.
    assert 19.5e9 < sizes[1] < 20.5e9 and 10.3e9 < sizes[-1] < 11.3e9


def test_other_floats_are_taken_and_quantised_weights_are_not(tmp_path):
    state = {f"blocks.0.{name}.weight": torch.randn(4, 64) for name in ("q", "k", "v")}
    save_file({**state, "head.head.weight": torch.randn(4, 64).double()}, tmp_path / "f.safetensors")
    write_gguf(tmp_path / "f.gguf", open_weights(tmp_path / "f.safetensors"), {}, "gguf_bf16")
    tensors, _ = gguf_file.read_gguf_header(tmp_path / "f.gguf")
    assert {name: info.dtype for name, info in tensors.items()} == {
        **dict.fromkeys(state, "BF16"),
        "head.head.weight": "F32",
    }
    state["blocks.0.q.weight"] = state["blocks.0.q.weight"].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "q.safetensors")
    with pytest.raises(MovaError, match=r"q\.weight' is stored as F8_E4M3, .* convert from the bf16 file"):
        write_gguf(tmp_path / "q.gguf", open_weights(tmp_path / "q.safetensors"), {}, "gguf_q8_0")
    with pytest.raises(MovaError, match="no GGUF type called 'gguf_q2_k'; choose one of gguf_bf16, gguf_q8_0"):
        write_gguf(tmp_path / "q.gguf", open_weights(tmp_path / "f.safetensors"), {}, "gguf_q2_k")
    assert not (tmp_path / "q.gguf").exists()


def test_a_missing_package_is_told_with_the_way_to_install_it(source, example, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    for action in (
        lambda: written(tmp_path / "x.gguf", source, "gguf_q8_0"),
        lambda: gguf_file.read_gguf_header(example),
    ):
        with pytest.raises(MovaError, match=r"; run .+ -m pip install gguf$"):
            action()
    assert not list(tmp_path.iterdir())


def test_importing_the_pack_s_model_does_not_import_the_package():
    code = "import mova, mova.checkpoint.gguf_file, sys; sys.exit('gguf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
def test_a_full_disk_leaves_nothing_half_written(source, tmp_path):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from pathlib import Path
sys.path.insert(0, "tests")
from gguf_files import write_gguf
from mova import MovaError
from mova.checkpoint.weights import open_weights
try:
    write_gguf(Path({str(tmp_path)!r}) / "x.gguf", open_weights(Path({source.where!r})), {{}}, "gguf_q8_0")
except MovaError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "x.gguf could not be written (" in done.stdout and not done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def told(path) -> str:
    message = refusal(gguf_file.read_gguf_header, path)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("part", [0.0001, 0.001, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_told(example, tmp_path, part):
    data = example.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: math.ceil(len(data) * part)])
    assert "is a GGUF file that is damaged or cut off (it ends after" in told(tmp_path / "cut.gguf")


def test_damage_in_the_header_is_told(example, tmp_path):
    data = bytearray(example.read_bytes()[:40_000])
    random = np.random.default_rng(0)
    for i in range(60):
        path = tmp_path / f"{i}.gguf"
        damaged = data.copy()
        for at in random.integers(4, 12_000, 8):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        assert "damaged or cut off (" in told(path)


def test_an_endless_list_in_the_header_is_told_at_once(tmp_path):
    key = b"tokens"
    field = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 6, 2**62)  # a list of 2^62 float32
    (tmp_path / "list.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field + bytes(64))
    assert "damaged or cut off" in told(tmp_path / "list.gguf")


def test_what_is_no_gguf_file_is_told(tmp_path):
    path = tmp_path / "x.gguf"
    assert "does not exist" in told(path)
    for data, fault in (
        (b"", "is empty"),
        (b"PK\x03\x04 and more", "is not a GGUF file"),
        (b"<html>", "is a web page"),
    ):
        path.write_bytes(data)
        assert fault in told(path)


def test_convert_writes_both_experts_under_the_names_people_look_for(tiny_checkpoint, tmp_path):
    parts = ["--parts", "high_noise,low_noise", "--name", "MOVA"]
    assert main(["convert", str(tiny_checkpoint), str(tmp_path), "--dtype", "gguf_q8_0", *parts]) == 0
    for expert in ("high_noise", "low_noise"):
        tensors, metadata = gguf_file.read_gguf_header(tmp_path / f"diffusion_models/MOVA_{expert}_Q8_0.gguf")
        shapes = {name: info.shape for name, info in tensors.items()}
        assert MovaConfig.from_file(shapes, metadata) == MovaConfig.from_shapes(shapes) == tiny.CONFIG
        assert json.loads(metadata["config"])["transformer"]["expert"] == expert
