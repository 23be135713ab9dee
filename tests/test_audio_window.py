"""Which audio latents sound during some of a clip's latent frames."""

from fractions import Fraction
from itertools import pairwise

import pytest

from mova.sampling.conditioning import audio_latents, audio_rate, audio_window

RATES = [24.0, 25.0, 16.0, 12.0, 30.0, 60.0, 23.976, 29.97, 1.0, 120.0, 7.5]


def by_hand(first, last, fps, length):
    """Each audio latent lasts 1/50 s, each latent frame 4 frames, the clip's first one frame."""
    rate = Fraction(str(fps))
    start = Fraction(4 * first - 3 if first else 0) / rate
    end = Fraction(4 * last + 1) / rate
    return [a for a in range(length) if Fraction(a + 1, 50) > start and Fraction(a, 50) < end]


def test_the_bounds_at_24_frames_a_second():
    length = audio_latents(193, 24.0)
    assert length == 403
    assert audio_window(0, 0, 24.0, length) == range(0, 3)  # 1/24 s are 2.08 latents
    assert audio_window(1, 1, 24.0, length) == range(2, 11)  # 2.08 to 10.42
    assert audio_window(0, 6, 24.0, length) == range(0, 53)  # 25 frames, 52.08
    assert audio_window(42, 48, 24.0, length) == range(343, 403)  # from frame 165, 343.75, to the end
    assert audio_window(0, 48, 24.0, length) == range(0, 403)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("frames", [1, 2, 9, 49])
def test_the_latents_are_those_that_sound_in_the_window(fps, frames):
    length = audio_latents(4 * frames - 3, fps)
    for first in range(0, frames, 3):
        for last in range(first, frames, 5):
            assert list(audio_window(first, last, fps, length)) == by_hand(first, last, fps, length)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_windows_side_by_side_leave_no_latent_out_and_have_no_gap(fps, size):
    frames = 21
    length = audio_latents(4 * frames - 3, fps)
    windows = [audio_window(i, min(i + size, frames) - 1, fps, length) for i in range(0, frames, size)]
    assert windows[0].start == 0 and windows[-1].stop == length
    assert all(len(window) for window in windows)
    for before, after in pairwise(windows):
        assert before.start <= after.start and before.stop - 1 <= after.start <= before.stop  # one latent may be shared


@pytest.mark.parametrize("fps", RATES)
def test_a_window_from_the_start_has_what_a_clip_of_its_length_has(fps):
    length = audio_latents(4 * 20 - 3, fps)
    for frames in range(1, 21):
        assert len(audio_window(0, frames - 1, fps, length)) == audio_latents(4 * frames - 3, fps)


@pytest.mark.parametrize("length", [1, 11, 19, 20, 403])
def test_sound_of_another_length_is_spread_over_the_clip(length):
    """Conditioning of Wan's own nodes does not tell the frame rate."""
    rate = audio_rate(9, length, 24.0)
    assert (rate == 24.0) == (length == 19)
    assert audio_window(0, 2, rate, length) == range(length)
    windows = [audio_window(i, i, rate, length) for i in range(3)]
    assert sorted(set().union(*windows)) == [*range(length)] and all(windows)
