"""What a single file says of itself is read in one way, by whoever asks."""

import json

import pytest
from safetensors.torch import load_file, save_file
from sentences import refusal

from mova.__main__ import main
from mova.convert.run import convert, plan
from mova.model.config import MovaConfig
from mova.tools import tiny


@pytest.fixture(scope="module")
def state(tiny_checkpoint, tmp_path_factory):
    (file,) = convert(tiny_checkpoint, tmp_path_factory.mktemp("models"), parts=["low_noise"])
    return load_file(file.path)


def places(**values):
    """Where other tools and we put the configuration and the expert."""
    return {
        "all under transformer": {"transformer": {**tiny.CONFIG.to_dict(), **values}},
        "all at the top": {**tiny.CONFIG.to_dict(), **values},
        "the expert at the top": {"transformer": tiny.CONFIG.to_dict(), **values},
        "the parts at the top": {**tiny.CONFIG.to_dict(), "transformer": values},
    }


@pytest.mark.parametrize("place", places())
def test_configuration_and_expert_may_stand_under_transformer_or_at_the_top(state, tmp_path, capsys, place):
    path, config = tmp_path / "x.safetensors", places(expert="low_noise")[place]
    save_file(state, path, {"config": json.dumps(config)})
    assert MovaConfig.from_file({}, {"config": json.dumps(config)}) == tiny.CONFIG
    (target,) = plan(path, "fp16")
    assert target.part == "low_noise"
    assert main(["info", str(path)]) == 0
    assert "low-noise expert" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("config", ["{", "[1]", '{"transformer": 1}', '{"a": 1, "a": 2}', '{"expert": "middle"}'])
def test_a_damaged_configuration_is_refused_by_whoever_reads_it(state, tmp_path, capsys, config):
    path = tmp_path / "x.safetensors"
    save_file(state, path, {"config": config})
    for said in (refusal(plan, path, "fp16"), (main(["info", str(path)]), capsys.readouterr().err)[1]):
        assert "metadata" in said and "convert it again" in said
