import pytest
import torch
from golden import expected

from mova import MovaError
from mova.sampling.schedule import low_noise_start, sigmas

WANTED = expected("schedule")
STEPS = [4, 8, 25, 50]


def close(found, wanted):
    return torch.allclose(found.view(len(found), -1).expand_as(wanted), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("steps", STEPS)
def test_the_released_timesteps_are_the_published_ones(steps):
    found = sigmas(steps)
    assert found.dtype == torch.float32 and found.shape == (steps + 1,) and found[-1] == 0
    assert close(found[:-1] * 1000, WANTED[f"default.{steps}.timesteps"])


@pytest.mark.parametrize("steps", STEPS)
def test_each_modality_can_have_its_own_shift(steps):
    wanted = WANTED[f"dual_5_3.{steps}.timesteps"]
    assert close(torch.stack([sigmas(steps, 5.0)[:-1], sigmas(steps, 3.0)[:-1]], dim=1) * 1000, wanted)


@pytest.mark.parametrize("steps", STEPS)
def test_a_schedule_with_a_least_sigma_and_no_extra_step_is_the_published_one(steps):
    found = sigmas(steps, sigma_min=0.003 / 1.002, extra_one_step=False)
    assert close(found[:-1] * 1000, WANTED[f"sigma_min_0.003.{steps}.timesteps"])


def test_partial_denoising_takes_the_tail_of_the_longer_schedule():
    assert torch.allclose(sigmas(5, denoise=0.5), sigmas(10)[5:], rtol=1e-6)


def test_the_low_noise_expert_begins_below_the_boundary():
    schedule = sigmas(50)
    start = low_noise_start(schedule, 0.9)
    assert schedule[start - 1] * 1000 >= 900 > schedule[start] * 1000
    assert low_noise_start(schedule, 0.0) == 50
    assert low_noise_start(sigmas(50, denoise=0.3), 0.9) == 0
    assert low_noise_start(schedule, 1.0) == 1  # the first timestep is 1000, and that is not below


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 4, "shift": 0}, "shift is 0"),
        ({"steps": 4, "shift": float("nan")}, "shift is nan"),
        ({"steps": 4, "denoise": 0}, "Denoise is 0"),
        ({"steps": 4, "denoise": 1.5}, "Denoise is 1.5"),
    ],
)
def test_values_out_of_range_are_refused(values, named):
    with pytest.raises(MovaError, match=named):
        sigmas(**values)
