"""Files as they go bad on users' disks: each is told in one sentence that names it, and nothing in it is executed."""

import json
import os
import pickle
import shutil
import struct
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentences import refusal

from mova import AudioVAE, AudioVAEConfig, JointModel, MovaConfig
from mova.checkpoint import (
    TensorInfo,
    check_finite,
    check_tensors,
    expected_shapes,
    open_weights,
    read_header,
    read_json,
)
from mova.config import MAX_SIZE
from mova.folder import PARTS, is_number, open_checkpoint
from mova.pipeline import Request, Runtime, encode_images, encode_prompts, generate
from mova.schedule import sigmas
from mova.shorten import short
from mova.tiny import CONFIG

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
POSIX = pytest.mark.skipif(os.name != "posix", reason="links and permissions of POSIX")
SMALL = Request("A rocket lifts off", width=16, height=16, frames=1, steps=2)
FLOAT = Runtime(torch.device("cpu"), torch.float32)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def edit(file, **values):
    write(file, {**json.loads(file.read_text()), **values})


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A checkpoint folder whose files may be replaced (not written into: the large ones are links)."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy", copy_function=os.link)


def replace(path, content):
    """Another file in place of a linked one."""
    path.unlink()
    return write(path, content)


def rewrite(file, change):
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.unlink()
    change(state)
    save_file(state, file)


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
    for part in PARTS:
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


# --- tensors that are no weights of this model ---


@pytest.mark.parametrize(
    ("part", "dtype"), [("video_dit", torch.int64), ("audio_vae", torch.uint8), ("text_encoder", torch.bool)]
)
def test_weights_of_whole_numbers_are_refused(copy, part, dtype):
    file = sorted((copy / part).glob("*.safetensors"))[0]
    name = sorted(load_file(file))[0]
    rewrite(file, lambda state: state.update({name: torch.ones(state[name].shape, dtype=dtype)}))
    message = refusal(open_checkpoint, copy)
    assert f"stores {name!r} as" in message and part in message


def test_f8_weights_are_taken_in_the_joint_model_only(copy):
    def to_f8(state):
        for name, tensor in state.items():
            if tensor.ndim == 2:
                state[name] = tensor.to(torch.float8_e4m3fn)

    rewrite(copy / "audio_dit" / WEIGHTS, to_f8)
    weights = open_checkpoint(copy).weights["audio_dit"]
    assert {str(tensor.dtype) for _, tensor in weights.read(weights.tensors, torch.bfloat16)} == {"torch.bfloat16"}
    rewrite(copy / "text_encoder" / "model.safetensors", to_f8)
    assert "as F8_E4M3" in refusal(open_checkpoint, copy)


@pytest.mark.parametrize(
    ("part", "tensor", "bad"),
    [
        ("text_encoder", "encoder.final_layer_norm.weight", "nan"),
        ("video_vae", "encoder.conv_in.bias", "nan"),
        ("video_vae", "decoder.conv_in.bias", "inf"),
        ("video_dit", "blocks.0.self_attn.q.bias", "nan"),
        ("video_dit_2", "head.head.bias", "inf"),
        ("audio_dit", "head.head.bias", "nan"),
        ("dual_tower_bridge", "audio_to_video_conditioners.0.inner.q.bias", "nan"),
        ("audio_vae", "decoder.model.0.bias", "nan"),
    ],
)
def test_nan_and_infinite_weights_make_no_clip_and_are_named(copy, part, tensor, bad):
    file = next(file for file in (copy / part).glob("*.safetensors") if tensor in load_file(file))
    rewrite(file, lambda state: state[tensor].view(-1)[:3].fill_(float(bad)))
    message = refusal(generate, open_checkpoint(copy), SMALL, FLOAT)
    assert message.startswith(str(copy / part)) and f"(3 of {load_file(file)[tensor].numel()} values in" in message
    assert tensor in message


def test_a_computation_that_overflows_is_told_as_such(copy):
    def scale(state):
        for name, tensor in state.items():
            if name.startswith(("head.head", "head.modulation")):
                state[name] = (tensor.float() * 1e30).to(torch.float32)

    rewrite(copy / "audio_dit" / WEIGHTS, scale)
    message = refusal(generate, open_checkpoint(copy), SMALL, FLOAT)
    assert "high-noise expert made NaN or infinite values (audio" in message and "fp32" in message


def test_check_finite_passes_finite_weights_of_all_kinds(tmp_path):
    save_file({"a": torch.ones(3), "i": torch.ones(2).long(), "e": torch.ones(0)}, tmp_path / "w.safetensors")
    check_finite(open_weights(tmp_path / "w.safetensors"))


# --- parts that do not belong together ---


@pytest.mark.parametrize(
    ("part", "file", "values", "wanted"),
    [
        ("video_dit", "config.json", {"in_dim": 16}, "input channels of video_dit|differ"),
        ("text_encoder", "config.json", {"d_model": 512}, "text_encoder"),
        ("video_vae", "config.json", {"z_dim": 48}, "latents_mean"),
    ],
)
def test_a_part_of_another_model_is_told(copy, part, file, values, wanted):
    config = json.loads((copy / part / file).read_text())
    replace(copy / part / file, {**config, **values})
    assert any(text in refusal(open_checkpoint, copy) for text in wanted.split("|"))


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused(copy):
    config = json.loads((copy / "text_encoder" / "config.json").read_text())
    words = config["vocab_size"] - 5
    replace(copy / "text_encoder" / "config.json", {**config, "vocab_size": words})
    rewrite(
        copy / "text_encoder" / "model.safetensors",
        lambda state: state.update({"shared.weight": state["shared.weight"][:words].clone()}),
    )
    assert f"text_encoder only {words}" in refusal(open_checkpoint, copy)


# --- settings ---

BAD_JSON = {
    "NaN": b'{"dim": NaN}',
    "Infinity": b'{"dim": -Infinity}',
    "1e400": b'{"dim": 1e400}',
    "a name twice": b'{"dim": 1, "dim": 2}',
    "a name twice inside": b'{"a": [{"dim": 1, "dim": 2}]}',
    "many digits": b'{"dim": ' + b"9" * 100_000 + b"}",
    "deep": b'{"a":' * 100_000,
    "UTF-16": '{"dim": 1}'.encode("utf-16"),
    "Latin-1": '{"dim": "é"}'.encode("latin-1"),
    "long": b" " * 20_000_001,
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_readers_would_differ_about_is_refused(tmp_path, content):
    assert str(tmp_path / "config.json") in refusal(read_json, write(tmp_path / "config.json", content))


def test_unicode_and_a_byte_order_mark_are_read(tmp_path):
    content = b'\xef\xbb\xbf{"\xc3\xa9\\ud800": "\xe5\x87\xba"}'
    assert read_json(write(tmp_path / "config.json", content)) == {"é\ud800": "出"}


WRONG = [None, True, "5", -1, 0, 1.5, 10**9, 10**400, [], {}, [1] * 10_000, "\n\x1b[2J" * 1000]


@pytest.mark.parametrize("where", [("video_dit", "num_layers"), ("video_dit", "dim"), ("audio_dit", "patch_size")])
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_a_size_of_another_type_or_out_of_range_is_named(where, value):
    part, name = where
    values = CONFIG.to_dict()
    values[part][name] = value
    assert f"{part}/config.json: {name} is" in refusal(MovaConfig.from_dict, values)
    assert f"{part}/config.json: {name} is" in refusal(
        MovaConfig.from_file, {}, {"config": json.dumps({"transformer": values})}
    )


NO_CONFIG = ["", "null", "[1]", '"x"', '{"transformer": [1]}', '{"transformer": {"video_dit": 3}}', "[" * 100_000]


@pytest.mark.parametrize("text", NO_CONFIG, ids=range(len(NO_CONFIG)))  # Windows has no room for such a test's name
def test_metadata_that_holds_no_configuration_is_refused(text):
    assert "onfiguration" in refusal(MovaConfig.from_file, {}, {"config": text})


def test_the_largest_sizes_taken_make_modules_soon():
    most = {"encoder_dim": MAX_SIZE, "decoder_dim": MAX_SIZE, "latent_dim": MAX_SIZE}
    AudioVAE(AudioVAEConfig.from_dict({**most, "encoder_rates": [100] * 8, "decoder_rates": [100] * 8}), device="meta")
    values = CONFIG.to_dict()
    values["video_dit"].update(
        {"dim": MAX_SIZE, "in_dim": MAX_SIZE, "out_dim": MAX_SIZE, "ffn_dim": MAX_SIZE, "patch_size": [100] * 3}
    )
    values["dual_tower_bridge"]["visual_hidden_dim"] = MAX_SIZE
    began = time.process_time()
    JointModel(MovaConfig.from_dict(values), device="meta")
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("part", "values", "wanted"),
    [
        ("text_encoder", {"num_layers": 10**9}, "impossible 'num_layers'"),
        ("text_encoder", {"d_model": -1}, "text_encoder"),
        ("text_encoder", {"vocab_size": 10**30}, "impossible 'vocab_size'"),
        ("text_encoder", {"d_ff": {"a": 1}}, "does not describe a UMT5 encoder"),
        ("video_vae", {"num_res_blocks": 10**9}, "impossible 'num_res_blocks'"),
        ("video_vae", {"dim_mult": [1] * 10**5}, "impossible 'dim_mult'"),
        ("video_vae", {"latents_mean": ["a"] * 16}, "impossible latents_mean"),
        ("video_vae", {"latents_std": [0.0] * 16}, "impossible latents_std"),
        ("video_vae", {"latents_std": [1.0]}, "impossible latents_std"),
        ("audio_vae", {"encoder_rates": [1] * 10**5}, "encoder_rates is"),
        ("audio_vae", {"decoder_dim": 40}, "cannot be halved"),
        ("video_dit", {"num_layers": 10**9}, "num_layers is 1000000000"),
        ("video_dit", {"freq_dim": 3}, "freq_dim 3 must be even"),
        ("dual_tower_bridge", {"audio_fps": -1e-300}, "audio_fps is"),
        ("dual_tower_bridge", {"interaction_strategy": ["full"]}, "interaction_strategy is"),
    ],
)
def test_sizes_that_would_hang_or_make_no_module_are_refused_soon(copy, part, values, wanted):
    file = copy / part / "config.json"
    replace(file, {**json.loads(file.read_text()), **values})
    assert wanted in refusal(open_checkpoint, copy)


@pytest.mark.parametrize("values", [{"shift": 10**400}, {"shift": 1e300}, {"shift": True}, {"sigma_min": "0"}])
def test_a_schedule_of_impossible_numbers_is_refused(copy, values):
    replace(copy / "scheduler" / "scheduler_config.json", values)
    assert "make no schedule" in refusal(open_checkpoint, copy)
    replace(copy / "model_index.json", {"boundary_ratio": 10**400})
    assert "scheduler_config" in refusal(open_checkpoint, copy)


def test_a_schedule_beyond_memory_or_float32_is_refused():
    assert "at most 1000000" in refusal(sigmas, 10**9)
    assert "at most 1e+06" in refusal(sigmas, 4, 1e39)
    assert sigmas(1_000_000, 1e6).isfinite().all()


def test_a_number_is_one_that_a_float_can_hold():
    assert is_number(10**300) and is_number(-0.5)
    assert not any(map(is_number, [10**400, float("nan"), float("inf"), True, "1", None]))


@pytest.mark.parametrize(
    "weight_map",
    [
        {"x": "a\0.safetensors"},
        {"x": "a\n.safetensors"},
        {"x": "\ud800.safetensors"},
        {"x": "n" * 5000 + ".safetensors"},
        {f"x{i}": f"{i}.safetensors" for i in range(2000)},
        {"x" * 5000: "absent.safetensors"},
    ],
    ids=range(6),
)
def test_an_index_of_impossible_files_is_refused(tmp_path, weight_map):
    write(tmp_path / INDEX, {"weight_map": weight_map})
    assert str(tmp_path) in refusal(open_weights, tmp_path)


# --- tensor shapes of a joint file ---


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("patch_embedding.weight", [5]),
        ("patch_embedding.weight", [256, 36, 0, 2, 2]),
        ("patch_embedding.weight", [2**40, 36, 1, 2, 2]),
        ("text_embedding.0.weight", [5]),
        ("blocks.0.ffn.0.weight", []),
        ("dual_tower_bridge.audio_to_video_conditioners.abc.q", [1]),
        ("dual_tower_bridge.audio_to_video_conditioners.²", [1]),
        ("dual_tower_bridge.audio_to_video_conditioners.", [1]),
    ],
)
def test_shapes_that_no_joint_model_has_are_refused(name, shape):
    shapes = {**expected_shapes(JointModel(CONFIG, device="meta")), name: shape}
    refusal(MovaConfig.from_shapes, shapes)


def test_messages_stay_short_whatever_the_names_are():
    names = {f"{i}" + "n" * 500: (1,) for i in range(9)}
    infos = {"u" * 900 + str(i): TensorInfo("F32", (2**62,) * 60) for i in range(9)}
    message = refusal(check_tensors, infos, {**names, **dict.fromkeys(infos, (1,) * 60)}, "here", longest=600)
    assert "and 8 more" in message
    nested = [[[[[1] * 9] * 9] * 9] * 9] * 9
    for value in (nested, "x" * 10**6, {"a" * 500: nested}, 10**400, "\n\x1b\ud800"):
        assert len(short(value)) <= 120 and short(value).isprintable()
