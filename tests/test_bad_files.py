"""Files as they go bad on users' disks: each is told in one sentence that names it, and nothing in it is executed."""

import json
import os
import pickle
import shutil
import struct
import tempfile
from pathlib import Path

import pytest
import torch
from damage import WEIGHTS, replace, write
from sentences import refusal

from mova.checkpoint.header import read_header
from mova.checkpoint.release import FOLDERS, open_checkpoint
from mova.checkpoint.weights import open_weights, read_json
from mova.clip.pipeline import encode_images, encode_prompts
from mova.clip.request import Request
from mova.clip.runtime import Runtime

POSIX = pytest.mark.skipif(os.name != "posix", reason="links and permissions of POSIX")
SMALL = Request("A rocket lifts off", width=16, height=16, frames=1, steps=2)
FLOAT = Runtime(torch.device("cpu"), torch.float32)


# --- what stands where a file should be ---

HTML = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
IMPOSTORS = {
    "web page": (HTML, "is a web page"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a git-lfs pointer"),
    "zeros": (bytes(4096), "begins with zeros"),
    "empty": (b"", "is empty"),
    "zip": (b"PK\3\4" + bytes(60), "zip archive"),
    "text": (b"Not Found", "is not a safetensors file"),
}


@pytest.mark.parametrize("part", ["audio_dit", "video_dit"])
@pytest.mark.parametrize(("content", "wanted"), IMPOSTORS.values(), ids=IMPOSTORS)
def test_another_kind_of_file_in_place_of_weights_is_told(copy, part, content, wanted):
    file = sorted((copy / part).glob("*.safetensors"))[0]
    replace(file, content)
    message = refusal(open_checkpoint, copy)
    assert wanted in message and message.startswith(str(file))


@pytest.mark.parametrize("kind", ["web page", "git-lfs pointer", "zeros", "empty"])
def test_another_kind_of_file_in_place_of_settings_is_told(copy, kind):
    content, wanted = IMPOSTORS[kind]
    message = refusal(open_checkpoint, (replace(copy / "audio_dit" / "config.json", content), copy)[1])
    assert wanted in message and "config.json" in message


def test_a_folder_in_place_of_a_file_is_told(copy):
    for file in (copy / "audio_dit" / WEIGHTS, copy / "model_index.json"):
        file.unlink()
        file.mkdir()
        assert f"{file} is a folder, not a file" in refusal(open_checkpoint, copy)


class Executed:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (Path.touch, (Path(self.mark),))


@pytest.mark.parametrize("name", [WEIGHTS, "diffusion_pytorch_model.bin", "model.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("part", ["audio_dit", "text_encoder"])
def test_code_in_a_pickle_is_not_executed_whatever_the_file_is_called(copy, tmp_path, part, name):
    for file in (copy / part).glob("*.safetensors"):
        file.unlink()
    pickle.loads(pickle.dumps(Executed(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    mark = tmp_path / "executed"
    for protocol in (0, 2, 5):
        (copy / part / name).write_bytes(pickle.dumps({"weight": Executed(mark)}, protocol))
        message = refusal(open_checkpoint, copy)
        assert part in message and "safetensors" in message
        assert not mark.exists()


def test_a_pickle_beside_the_weights_is_not_read(copy, tmp_path):
    mark = tmp_path / "executed"
    for part in FOLDERS:
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin"):
            (copy / part / name).write_bytes(pickle.dumps(Executed(mark)))
    checkpoint = open_checkpoint(copy)
    encode_prompts(checkpoint, SMALL, FLOAT)  # by transformers, and the next by diffusers: the rest we read ourselves
    encode_images(checkpoint, SMALL, FLOAT)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "auto_map", "quantization_config"])
def test_settings_by_which_a_library_would_load_foreign_code_are_refused(copy, name):
    config = copy / "text_encoder" / "config.json"
    replace(config, {**json.loads(config.read_text()), name: "someone/kernel"})
    assert f"config.json sets {name}" in refusal(open_checkpoint, copy)


def test_a_tokenizer_with_code_of_its_own_is_refused_and_nobody_is_asked_whether_to_run_it(copy, tmp_path):
    mark = tmp_path / "executed"
    (copy / "tokenizer" / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    config = copy / "tokenizer" / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "tokenizer_class": "Own"}
    replace(config, {**json.loads(config.read_text()), **own})
    assert "tokenizer_config.json sets auto_map" in refusal(open_checkpoint, copy)
    assert not mark.exists()


# --- links and permissions ---


@POSIX
def test_dangling_and_circular_links_are_told_as_such(copy):
    file = copy / "audio_dit" / WEIGHTS
    file.unlink()
    file.symlink_to("../blobs/0123")
    assert "is a link to '../blobs/0123', which does not exist" in refusal(open_checkpoint, copy)
    file.unlink()
    file.symlink_to(file)
    assert "symbolic links" in refusal(open_checkpoint, copy)
    config = copy / "audio_dit" / "config.json"
    config.unlink()
    config.symlink_to(config)
    assert "symbolic links" in refusal(open_checkpoint, copy)
    loop = copy.parent / "loop"
    loop.symlink_to(loop)
    assert "is not a folder" in refusal(open_checkpoint, loop)


@pytest.fixture
def unprivileged():
    """A folder that others may enter, and this process as one of the others."""
    if os.name != "posix":
        pytest.skip("permissions of POSIX")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # root may read everything
        try:
            yield folder
        finally:
            os.seteuid(was)


def test_what_may_not_be_read_is_told(unprivileged):
    for name, reader in (("w.safetensors", read_header), ("config.json", read_json)):
        path = write(unprivileged / name, b"{}")
        path.chmod(0)
        message = refusal(reader, path)
        assert "cannot be read (Permission denied)" in message and str(path) in message
    closed = unprivileged / "closed"
    closed.mkdir(mode=0)
    for opener in (open_weights, open_checkpoint):
        assert "cannot be read (Permission denied)" in refusal(opener, closed)
    assert "cannot be read (Permission denied)" in refusal(read_header, closed / "w.safetensors")
    closed.chmod(0o700)


# --- downloads ---


def test_a_truncated_shard_is_refused_wherever_it_is_cut(copy):
    shard = sorted((copy / "video_dit").glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    for end in (0, 1, 7, 8, 9, 8 + length // 2, 7 + length, 8 + length, 9 + length, len(whole) // 2, len(whole) - 1):
        replace(shard, whole[:end])
        message = refusal(open_checkpoint, copy)
        assert str(shard) in message and "download it again" in message


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1])
def test_a_header_of_an_impossible_length_is_refused(tmp_path, length):
    file = write(tmp_path / "w.safetensors", struct.pack("<Q", length) + b"{}" + bytes(99))
    assert "is not" in refusal(read_header, file)


@pytest.mark.parametrize("offsets", [[-4, 4], [0.0, 8], [True, 9], [0, 2**64], [0, "8"], [8, 0], None, [0], [[0], [8]]])
def test_offsets_of_another_kind_are_refused(tmp_path, offsets):
    text = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": offsets}}).encode()
    file = write(tmp_path / "w.safetensors", struct.pack("<Q", len(text)) + text + bytes(8))
    assert "impossible data_offsets" in refusal(read_header, file)


def test_a_folder_whose_download_is_not_finished_is_told_so(copy):
    downloads = copy / ".cache" / "huggingface" / "download" / "video_dit"
    downloads.mkdir(parents=True)
    (downloads / "abc.incomplete").write_bytes(b"{")
    open_checkpoint(copy)  # a leftover in a whole folder is no fault
    shard = sorted((copy / "video_dit").glob("*.safetensors"))[1]
    shard.unlink()
    message = refusal(open_checkpoint, copy)
    assert shard.name in message and "not finished (1 files in .cache/huggingface/download" in message
    shutil.rmtree(copy / "audio_vae")
    assert "lacks the part audio_vae" in refusal(open_checkpoint, copy) and "start it again" in message
    shutil.rmtree(copy / ".cache")
    assert "not finished" not in refusal(open_checkpoint, copy)
