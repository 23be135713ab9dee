"""Settings as they go bad: JSON that is none, sizes and schedules that are impossible."""

import json
import time

import pytest
from damage import INDEX, replace, write
from sentences import refusal

from mova import AudioVAE, AudioVAEConfig, JointModel, MovaConfig
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.weights import (
    open_weights,
    read_json,
)
from mova.model.config_values import MAX_SIZE, is_number
from mova.sampling.schedule import sigmas
from mova.tools.tiny import CONFIG

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
