import dataclasses
import gc
import json

import pytest
import torch
from golden import CASES, FIXTURES, KINDS, error, expected, joint_inputs, joint_model

from mova import JointModel, MovaConfig, MovaError
from mova.model.presets import PRESETS
from mova.model.rope import TurnHalves, time_table

SINGLE = [(kind, i) for kind in KINDS for i in range(len(CASES[f"joint_{kind}"]["cases"]))]


def run(model, case, video, audio, text, **options):
    batch = len(video)
    with torch.no_grad():
        return model(
            video,
            audio,
            torch.full((batch,), case["video_timestep"]),
            torch.full((batch,), case["audio_timestep"]),
            text,
            fps=case["video_fps"],
            a2v_scale=case.get("a2v_condition_scale", 1.0),
            v2a_scale=case.get("v2a_condition_scale", 1.0),
            **options,
        )


@pytest.mark.parametrize(("kind", "index"), SINGLE)
def test_a_forward_equals_the_published_code_in_float32(kind, index):
    case, inputs, wanted = CASES[f"joint_{kind}"]["cases"][index], joint_inputs(kind), expected(f"joint_{kind}")
    video, audio = run(joint_model(kind, case["expert"]), case, inputs["video"], inputs["audio"], inputs["text"])
    assert error(video, wanted[f"case{index}.video_velocity"]) < 1e-5
    assert error(audio, wanted[f"case{index}.audio_velocity"]) < 1e-5


def test_the_first_frame_bias_equals_the_published_code():
    case, inputs, wanted = CASES["joint_small"]["cases"][0], joint_inputs("small"), expected("joint_small")
    model = joint_model("small", case["expert"], apply_first_frame_bias_in_rope=True)
    video, audio = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    assert error(video, wanted["first_frame_bias.video_velocity"]) < 1e-5
    assert error(audio, wanted["first_frame_bias.audio_velocity"]) < 1e-5


@pytest.mark.parametrize(("kind", "index"), SINGLE)
def test_bfloat16_stays_close_to_the_published_float32(kind, index):
    case, inputs, wanted = CASES[f"joint_{kind}"]["cases"][index], joint_inputs(kind), expected(f"joint_{kind}")
    model = joint_model(kind, case["expert"]).bfloat16()
    video, audio = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    assert video.dtype == audio.dtype == torch.bfloat16
    assert error(video, wanted[f"case{index}.video_velocity"]) < 3e-2
    assert error(audio, wanted[f"case{index}.audio_velocity"]) < 3e-2


def test_a_forward_keeps_nothing_but_the_rotary_tables():
    """On a host it would stay on the device beside the weights, where the host cannot know of it."""

    def tensors():
        gc.collect()
        return {id(thing) for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)}

    case, inputs, model = CASES["joint_small"]["cases"][0], joint_inputs("small"), joint_model("small")
    before = tensors()
    run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    assert tensors() - before
    model.last_rotations = None
    assert not tensors() - before


@pytest.mark.parametrize("rows", [slice(0, 12), slice(5, 9), slice(8, 16)])
def test_the_tokens_of_a_frame_share_a_row_of_the_bridge_s_table(rows):
    torch.manual_seed(0)
    table, x = time_table(torch.arange(4) / 3, 8, torch.device("cpu")), torch.randn(1, 12, 2, 8)[:, rows]
    found, wanted = TurnHalves(table, 3)(x, rows), TurnHalves(table.repeat_interleave(3, dim=0))(x, rows)
    assert torch.equal(found, wanted)


def test_a_batch_of_two_equals_two_single_runs():
    case, inputs = CASES["joint_small"]["cases"][2], joint_inputs("small")
    model = joint_model("small")
    pair = {key: torch.cat([inputs[key], inputs[key].flip(1)]) for key in ("video", "audio")}
    text = torch.cat([inputs["text"], inputs["negative_text"]])
    times = torch.tensor([950.0, 412.5]), torch.tensor([870.0, 300.0])
    with torch.no_grad():
        together = model(pair["video"], pair["audio"], *times, text, fps=case["video_fps"])
        for i in range(2):
            alone = model(
                pair["video"][i : i + 1], pair["audio"][i : i + 1], *(t[i : i + 1] for t in times), text[i : i + 1]
            )
            for both, one in zip(together, alone, strict=True):
                assert error(both[i : i + 1], one) < 1e-5


def test_text_embedded_once_gives_the_same_as_text_given_each_time():
    case, inputs, model = CASES["joint_small"]["cases"][0], joint_inputs("small"), joint_model("small")
    raw = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    with torch.no_grad():
        text = model.embed_text(inputs["text"])
    for _ in range(2):  # the second run finds the text as the first left it
        kept = run(model, case, inputs["video"], inputs["audio"], text)
        assert all(torch.equal(a, b) for a, b in zip(raw, kept, strict=True))


def test_inputs_are_left_as_they_were():
    case, inputs, model = CASES["joint_small"]["cases"][0], joint_inputs("small"), joint_model("small")
    before = {key: value.clone() for key, value in inputs.items()}
    run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    assert all(torch.equal(before[key], inputs[key]) for key in before)


def test_a_change_of_size_or_rate_is_not_answered_with_old_positions():
    case, inputs, model = CASES["joint_small"]["cases"][0], joint_inputs("small"), joint_model("small")
    first = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    other_rate = run(model, {**case, "video_fps": 12.0}, inputs["video"], inputs["audio"], inputs["text"])
    shorter = run(model, case, inputs["video"][:, :, :2], inputs["audio"][:, :, :7], inputs["text"])
    again = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    assert not torch.equal(first[0], other_rate[0])
    assert shorter[0].shape[2] == 2 and shorter[1].shape[2] == 7
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_host_can_wrap_every_layer():
    case, inputs, model = CASES["joint_small"]["cases"][0], joint_inputs("small"), joint_model("small")
    seen = []

    def run_layer(index, layer, video, audio):
        seen.append(index)
        return layer(video, audio)

    plain = run(model, case, inputs["video"], inputs["audio"], inputs["text"])
    wrapped = run(model, case, inputs["video"], inputs["audio"], inputs["text"], run_layer=run_layer)
    assert seen == [0, 1, 2]
    assert torch.equal(plain[0], wrapped[0])


@pytest.mark.parametrize("name", PRESETS)
def test_the_released_preset_has_the_released_names_and_shapes(name):
    manifest = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())
    wanted = dict(manifest["tensors"]["video_dit"])
    for part in ("audio_dit", "dual_tower_bridge"):
        wanted |= {f"{part}.{tensor}": shape for tensor, shape in manifest["tensors"][part].items()}
    model = JointModel(PRESETS[name].model, device="meta")
    assert {tensor: list(value.shape) for tensor, value in model.state_dict().items()} == wanted


def test_the_preset_the_configs_and_the_shapes_say_the_same():
    manifest = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())
    config = MovaConfig.from_dict(manifest["config"])
    assert config == PRESETS["MOVA-360p"].model
    shapes = {name: tuple(t.shape) for name, t in JointModel(config, device="meta").state_dict().items()}
    assert MovaConfig.from_shapes(shapes) == config
    assert MovaConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("part", "change", "names"),
    [
        ("video_dit", {"dim": None}, "video_dit/config.json lacks dim"),
        ("video_dit", {"num_heads": 7}, "7 heads"),
        ("video_dit", {"dim": "5120"}, "dim is '5120'"),
        ("audio_dit", {"vae_type": "oobleck"}, "vae_type"),
        ("audio_dit", {"num_layers": 29}, "audio_layers is 30"),
        ("dual_tower_bridge", {"interaction_strategy": "all"}, "interaction_strategy"),
        ("dual_tower_bridge", {"pooled_adaln": True}, "pooled_adaln"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_value_named(part, change, names):
    config = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())["config"]
    config[part] = {key: value for key, value in {**config[part], **change}.items() if value is not None}
    with pytest.raises(MovaError, match=names):
        MovaConfig.from_dict(config)


def test_the_config_in_a_file_s_metadata_goes_before_its_shapes():
    model = joint_model("head128")
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    config = MovaConfig.from_dict(CASES["joint_head128"]["config"])
    assert MovaConfig.from_file(shapes, {}) == MovaConfig.from_shapes(shapes) == config
    bridge = dataclasses.replace(config.dual_tower_bridge, apply_first_frame_bias_in_rope=True)  # no shape tells that
    biased = dataclasses.replace(config, dual_tower_bridge=bridge)
    assert MovaConfig.from_file(shapes, {"config": json.dumps(biased.to_dict())}) == biased
    for broken in ("{", "[]", "{}"):
        with pytest.raises(MovaError, match=r"configuration"):
            MovaConfig.from_file(shapes, {"config": broken})


def test_a_state_dict_without_audio_tower_is_no_joint_model():
    shapes = {name: tuple(t.shape) for name, t in joint_model("small").state_dict().items() if "audio" not in name}
    with pytest.raises(MovaError, match="audio_dit"):
        MovaConfig.from_shapes(shapes)
