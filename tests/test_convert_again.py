"""Conversion that is checked, goes on where it stopped, or is stopped itself."""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from slow import few
from test_command_line import ROOT

from mova import MovaError
from mova.__main__ import main
from mova.checkpoint.release import EXPERTS, JOINT
from mova.checkpoint.weights import open_weights
from mova.convert.parts import Entry, Target
from mova.convert.run import convert
from mova.convert.safetensors_writer import PIECE, is_whole, not_finite, verify, write
from mova.model.joint import JointModel
from mova.model.shapes import expected_shapes
from mova.tools.tiny import CONFIG, WEIGHTS, write_json

VAE = ["audio_vae"]


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "tiny")


def change(file, name, value, where=(0,)):
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}  # Windows keeps mapped files
    state[name].view(-1)[list(where)] = value
    save_file(state, file, {"format": "pt"})


def test_a_finished_file_is_kept_and_said_to_be(tiny_checkpoint, tmp_path, capsys):
    first = list(convert(tiny_checkpoint, tmp_path))
    times = [file.path.stat().st_mtime_ns for file in first]
    assert main(["convert", str(tiny_checkpoint), str(tmp_path)]) == 0
    assert [file.path.stat().st_mtime_ns for file in first] == times
    assert capsys.readouterr().out.count("(kept: it was there already)") == 4


@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0"])
@pytest.mark.parametrize("fault", ["cut", "longer", "other", "empty"])
def test_a_file_that_is_not_the_finished_one_is_written_again(tiny_checkpoint, tmp_path, dtype, fault):
    (done,) = convert(tiny_checkpoint, tmp_path, dtype, parts=["high_noise"])
    good = done.path.read_bytes()
    low = next(convert(tiny_checkpoint, tmp_path, dtype, parts=["low_noise"])).path.read_bytes()
    done.path.write_bytes({"cut": good[:-1], "longer": good + b"0", "other": low, "empty": b""}[fault])
    (again,) = convert(tiny_checkpoint, tmp_path, dtype, parts=["high_noise"])
    assert not again.kept and done.path.read_bytes() == good


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp8_e4m3_scaled", "mxfp8", "nvfp4", "int8", "gguf_q8_0"])
def test_what_is_written_can_be_verified_at_once_and_later(tiny_checkpoint, tmp_path, dtype):
    request = (tiny_checkpoint, tmp_path, dtype, None, ["high_noise"], True)
    assert [(file.kept, file.verified) for file in convert(*request)] == [(False, True)]
    assert [(file.kept, file.verified) for file in convert(*request)] == [(True, True)]


@pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3_scaled", "gguf_q8_0"])
def test_a_changed_byte_is_found(tiny_checkpoint, tmp_path, dtype, capsys):
    arguments = ["convert", str(tiny_checkpoint), str(tmp_path), "--parts", "high_noise", "--dtype", dtype]
    assert main(arguments) == 0
    (file,) = files_in(tmp_path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(arguments) == 0  # the header is the same
    assert main([*arguments, "--verify"]) == 1
    told = capsys.readouterr().err
    assert f"{file}: the tensor '" in told and "is not what the source gives; delete the file" in told


def test_what_a_format_loses_must_be_within_its_bound(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("mova.checkpoint.quantize.error_bound", lambda name: 0.01)  # nvfp4 is ten times as coarse
    with pytest.raises(MovaError, match="decoded, is not what the source gives"):
        list(convert(tiny_checkpoint, tmp_path, "nvfp4", parts=["high_noise"], verified=True))
    assert not files_in(tmp_path)


@pytest.mark.parametrize("dtype", ["bf16", "nvfp4", "gguf_q8_0"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_by_name_and_count(copy, tmp_path, capsys, dtype, value):
    file = copy / "dual_tower_bridge" / WEIGHTS
    name = "audio_to_video_conditioners.0.inner.q.weight"
    change(file, name, value, where=(5, 77, -1))
    assert main(["convert", str(copy), str(tmp_path / "models"), "--parts", "high_noise", "--dtype", dtype]) == 1
    told = capsys.readouterr().err
    assert "dual_tower_bridge" in told and f": the tensor '{name}' holds 3 values that are NaN or infinite" in told
    assert not files_in(tmp_path / "models")


def test_what_fp16_cannot_hold_is_refused(copy, tmp_path):
    change(copy / "audio_dit" / WEIGHTS, "blocks.0.ffn.0.weight", 1e6, where=(3, 4))
    with pytest.raises(
        MovaError, match=r"blocks.0.ffn.0.weight' holds 2 values too large for fp16; choose --dtype bf16"
    ):
        list(convert(copy, tmp_path / "models", "fp16", parts=["high_noise"]))
    assert not files_in(tmp_path / "models")
    list(convert(copy, tmp_path / "models", "bf16", parts=["high_noise"]))


def test_values_that_are_not_finite_are_counted_across_pieces():
    values = torch.zeros(PIECE + 7, dtype=torch.bfloat16)
    assert not_finite(values) == 0
    values[[0, PIECE - 1, PIECE, -1]] = torch.tensor([math.nan, math.inf, -math.inf, math.nan]).bfloat16()
    assert not_finite(values) == 4
    assert not_finite(torch.zeros(0)) == not_finite(torch.zeros(3, dtype=torch.uint8)) == 0


def test_progress_counts_the_source_s_bytes(tiny_checkpoint, tmp_path):
    told = []
    list(convert(tiny_checkpoint, tmp_path, parts=VAE, verified=True, progress=lambda *now: told.append(now)))
    source = tiny_checkpoint / "audio_vae" / WEIGHTS  # read once before: its SHA-256 goes into the file
    assert told.pop(0) == (f"reading audio_vae/{WEIGHTS}", source.stat().st_size, source.stat().st_size)
    names, done, totals = zip(*told, strict=True)
    held = sum(tensor.nbytes for tensor in load_file(source).values())
    assert set(names) == {"tiny_audio_vae.safetensors"} and set(totals) == {2 * held}
    assert list(done) == sorted(done) and done[-1] == 2 * held


def test_a_destination_that_cannot_be_written_is_told(tiny_checkpoint, tmp_path):
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(MovaError, match="cannot be made"):
        list(convert(tiny_checkpoint, tmp_path / "models"))


def test_a_disk_without_room_is_told_before_anything_is_written(tiny_checkpoint, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(MovaError, match=r"has 0.00 GB free, and the files need 0.0\d GB; make room"):
        list(convert(tiny_checkpoint, tmp_path))
    assert not files_in(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
@pytest.mark.parametrize("dtype", few(["bf16", "gguf_q8_0"], "bf16"))
def test_a_full_disk_leaves_nothing_half_written(tiny_checkpoint, tmp_path, dtype):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from mova.__main__ import main
sys.exit(main(["convert", {str(tiny_checkpoint)!r}, {str(tmp_path)!r}, "--dtype", {dtype!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "could not be written (" in done.stderr  # what follows are the words of the system, or of NumPy
    assert not files_in(tmp_path)


def write_sparse(root):
    """An expert of 1.6 GB that takes no room on disk: it reads as zeros."""
    config = CONFIG.to_dict()
    config["video_dit"] |= {"dim": 2048, "num_heads": 16, "ffn_dim": 8192, "num_layers": 12}
    config["dual_tower_bridge"] |= {"visual_hidden_dim": 2048, "visual_layers": 12}
    shapes = expected_shapes(JointModel(type(CONFIG).from_dict(config), device="meta"))
    for part in (EXPERTS["high_noise"], *JOINT):
        prefix = f"{part}." if part in JOINT else ""
        held = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        if not prefix:
            held = {name: shape for name, shape in held.items() if not name.startswith(JOINT)}
        write_json(root / part / "config.json", config[part])
        header, at = {}, 0
        for name, shape in held.items():
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (at, at + 2 * math.prod(shape))}
            at += 2 * math.prod(shape)
        text = json.dumps(header).encode()
        with open(root / part / WEIGHTS, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_half_written(tmp_path, how):
    write_sparse(tmp_path / "sparse")
    command = [sys.executable, "-m", "mova", "convert", str(tmp_path / "sparse"), str(tmp_path / "models")]
    with subprocess.Popen([*command, "--parts", "high_noise"], cwd=ROOT, stderr=subprocess.PIPE) as process:
        seen = b""
        while b"%|" not in seen:  # tensors are being written
            byte = process.stderr.read(1)
            assert byte, seen.decode()
            seen += byte
        process.send_signal(how)
        rest = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert "stopped; finished files stay, the one at work is gone" in rest and "Traceback" not in rest
    assert not files_in(tmp_path / "models")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of this process's memory from /proc")
def test_memory_is_that_of_a_few_tensors_not_of_the_file(tmp_path):
    code = """
import re, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from mova.checkpoint.weights import open_weights
from mova.convert.parts import Entry, Target
from mova.convert.safetensors_writer import verify, write

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

weights = open_weights(Path(sys.argv[1]))
target = Target("x", "x", [Entry(name, weights, name) for name in weights.tensors], {}, "high_noise", "fp32")
torch.zeros(2**24).bfloat16().float()  # what torch takes once
before = peak()
write(Path(sys.argv[2]), target, verified=True)
print(peak() - before)
"""
    each = 16  # MiB, in bf16
    save_file({f"{i}": torch.zeros(each * 2**19, dtype=torch.bfloat16) for i in range(12)}, tmp_path / "in.safetensors")
    command = [sys.executable, "-c", code, str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 6 * each + 64, done.stdout  # of 192 MiB read and 384 MiB written


def test_a_file_is_read_back_before_it_gets_its_name(tiny_checkpoint, tmp_path, monkeypatch):
    def fail(path, target, progress):
        assert path.exists() and path.name != "tiny_audio_vae.safetensors"
        raise MovaError("not the same")

    monkeypatch.setattr("mova.convert.safetensors_writer.verify", fail)
    with pytest.raises(MovaError, match="not the same"):
        list(convert(tiny_checkpoint, tmp_path, parts=VAE, verified=True))
    assert not files_in(tmp_path)


def test_scalars_and_empty_tensors_are_written(tmp_path):
    state = {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "count": torch.arange(3)}
    save_file(state, tmp_path / "in.safetensors")
    weights = open_weights(tmp_path / "in.safetensors")
    target = Target(
        "x", "x", [Entry(name, weights, name) for name in weights.tensors], {"a": "b"}, "high_noise", "fp16"
    )
    write(tmp_path / "out.safetensors", target, verified=True)
    verify(tmp_path / "out.safetensors", target)
    assert is_whole(tmp_path / "out.safetensors", target)
    written = load_file(tmp_path / "out.safetensors")
    assert written["scalar"].dtype == torch.float16 and written["scalar"].item() == 1.5
    assert written["empty"].shape == (0, 3) and torch.equal(written["count"], state["count"])
