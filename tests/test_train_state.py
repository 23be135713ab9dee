"""What is kept of a run, if it was changed: told, and never half of it taken."""

import dataclasses

import pytest
import torch

from mova import MovaError
from mova.checkpoint.release import JOINT, open_checkpoint
from mova.train.base import released
from mova.train.cache import Cache
from mova.train.optimizer import state_of
from mova.train.output import State, read_state, write_state
from mova.train.run import begin_run, restore
from mova.train.settings import settings_from


@pytest.fixture(scope="module")
def run(place):
    """One that has had a step of the optimizer."""
    settings = settings_from("ours", {"base": "bf16", "dtype": "fp32", "rank": 2, "steps": 4, "experts": "high"})
    checkpoint = open_checkpoint(place / "release", (*settings.trained, *JOINT))
    out = place / "state.safetensors"
    run = begin_run(released(checkpoint, settings), Cache(place / "cache"), settings, out, torch.device("cpu"))
    for parameter in run.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.step()
    return run


@pytest.fixture
def state(run):
    parameters = {name: parameter.detach().clone() for name, parameter in run.parameters.items()}
    kept = {name: state_of(run.optimizer, parameter) for name, parameter in run.parameters.items()}
    return State(1, run.said, parameters, kept)


def moment(change):
    return lambda state, name: change(state.optimizer[name])


CHANGES = {
    "a value for all": lambda state, name: state.parameters.update({name: torch.zeros(1, 1)}),
    "no number": lambda state, name: state.parameters[name].fill_(torch.nan),
    "whole numbers": lambda state, name: state.parameters.update({name: state.parameters[name].int()}),
    "one is missing": lambda state, name: state.parameters.pop(name),
    "one more": lambda state, name: state.parameters.update({"more": torch.zeros(1)}),
    "no moment": moment(lambda kept: kept.pop("exp_avg")),
    "a moment of another shape": moment(lambda kept: kept.update(exp_avg_sq=torch.zeros(3))),
    "no count of steps": moment(lambda kept: kept.pop("step")),
    "many counts": moment(lambda kept: kept.update(step=torch.zeros(4))),
    "another optimizer's": moment(lambda kept: kept.update(qmap1=torch.zeros(256))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_was_changed_is_told_and_nothing_of_it_is_taken(run, state, change):
    name = list(run.parameters)[-1]
    before = [parameter.detach().clone() for parameter in run.parameters.values()]
    for parameter in state.parameters.values():
        parameter += 1
    CHANGES[change](state, name)
    with pytest.raises(MovaError, match=r"state\.safetensors\.unfinished does not fit these settings; leave out"):
        restore(run, state)
    assert all(map(torch.equal, before, run.parameters.values())) and run.done == 0


@pytest.mark.parametrize("step", [-1, 5])
def test_a_count_of_steps_that_no_run_has_is_told(run, state, step):
    with pytest.raises(MovaError, match="does not fit these settings"):
        restore(run, dataclasses.replace(state, step=step))


def test_a_damaged_state_is_told_with_what_can_be_done(tmp_path, state):
    path = tmp_path / "l.safetensors.unfinished"
    write_state(path, state)
    whole = path.read_bytes()
    for content in (b"", whole[:-9], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(MovaError, match="is damaged, so that no run can go on with it; leave out --resume"):
            read_state(path)
