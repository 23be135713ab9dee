"""Sound at another sample rate: near to the exact sinc at any two rates, and in little memory."""

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import mova
from mova.clip.resample import needed, resample

RATES = [(44100, 48000), (44101, 48000), (47999, 48000), (40000, 44100), (176400, 96000), (384000, 96000), (6000, 7350)]


def sine(share, half_rate, rate, samples):
    """Of a frequency that is a share of `half_rate`, in float64."""
    return torch.sin(share * half_rate * 2 * math.pi * torch.arange(samples, dtype=torch.float64) / rate + 1)


@pytest.mark.parametrize(("old", "new"), RATES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.89])
def test_a_sine_comes_out_as_the_exact_sinc_gives_it_but_for_3e_5(old, new, share):
    half = min(old, new) / 2
    made = resample(sine(share, half, old, old // 4).float(), old, new)
    inner = slice(len(made) // 4, -len(made) // 4)  # a sine begins and ends at once, which no resampler can
    assert (made - sine(share, half, new, len(made)))[inner].abs().max() < 3e-5


@pytest.mark.parametrize("share", [1.0, 1.02, 1.2, 1.9])
def test_what_the_new_rate_cannot_hold_is_left_out(share):
    made = resample(sine(share, 24000, 96000, 48000).float(), 96000, 48000)
    assert made[6000:-6000].abs().max() < 3e-5


@pytest.mark.parametrize(("old", "new"), [*RATES, (11, 48000), (100_000_000, 48000)])
@pytest.mark.parametrize("samples", [1, 2, 500])
def test_any_length_at_any_rate_gives_as_many_samples_as_its_time_takes(old, new, samples):
    made = resample(torch.rand(2, 3, samples, dtype=torch.float64), old, float(new))
    assert made.shape == (2, 3, math.ceil(samples * new / old)) and made.dtype == torch.float32
    assert made.isfinite().all()


def test_a_sound_shorter_than_the_filter_is_not_lost():
    made = resample(torch.ones(60), 48000, 44100)
    assert made.shape == (56,) and (made[5:-5] - 1).abs().max() < 0.13  # Gibbs: it ends at once


def test_rows_are_resampled_apart_and_alike():
    rows = torch.randn(2, 2, 3000)
    made = resample(rows, 44101, 48000)
    for clip in range(2):
        for channel in range(2):
            torch.testing.assert_close(made[clip, channel], resample(rows[clip, channel], 44101, 48000))


@pytest.mark.parametrize(("old", "new"), [*RATES, (11, 48000)])
def test_a_sound_that_is_cut_to_what_is_needed_gives_the_same(old, new):
    whole = torch.randn(old)
    seconds = 0.25
    cut = resample(whole[: needed(seconds, old, new)], old, new)
    wanted = round(seconds * new)
    torch.testing.assert_close(cut[:wanted], resample(whole, old, new)[:wanted], atol=1e-6, rtol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: resource counts in KiB there")
def test_a_minute_of_stereo_takes_no_more_memory_than_it_is_itself():
    """44101 to 48000: a filter for each of the 48000 phases would be 8.5 GB."""
    script = """
        import resource, torch
        from mova.clip.resample import resample
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        resample(torch.zeros(2, 44101), 44101, 48000)
        before = peak()
        sound = torch.ones(2, 60 * 44101)
        made = resample(sound, 44101, 48000)
        print(peak() - before - (sound.nbytes + made.nbytes) / 2**20)
    """
    environment = os.environ | {"PYTHONPATH": str(Path(mova.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert float(done.stdout) < 20  # MiB
