"""The step cache's decisions, on velocities whose change is known."""

import pytest
import torch

from mova.sampling.step_cache import Choice, StepCache

ONE = torch.ones(4)


def run(cache, steps=12, video_rate=0.01, audio_rate=0.01, who=("both",)):
    """Latents that move by 1 in each step, and velocities that change by their rate for it; the choices made."""
    made = []
    for step in range(steps):
        latent = ONE * step
        for one in who:
            choice = cache.choose(one, 1000.0 - step, latent, latent)
            video, audio = cache.parts[one]
            if choice is not Choice.REUSE:
                audio.computed(latent, ONE * (1 + audio_rate * step))
            if choice is Choice.COMPUTE:
                video.computed(latent, ONE * (1 + video_rate * step))
        made.append(choice)
    return made


def test_the_first_two_steps_are_computed_and_then_as_many_left_out_as_the_threshold_allows():
    made = run(StepCache(0.035, 0.035))
    assert made[:2] == [Choice.COMPUTE] * 2
    assert made[2:6] == [Choice.REUSE] * 3 + [Choice.COMPUTE]  # 1 % of change in each


def test_with_a_threshold_of_0_every_step_is_computed():
    for cache in (StepCache(0.0, 1.0), StepCache(1.0, 0.0), StepCache(0.0, 0.0)):
        assert set(run(cache)) == {Choice.COMPUTE}


@pytest.mark.parametrize(("video_rate", "audio_rate"), [(0.01, 0.5), (0.5, 0.01)])
def test_a_step_is_left_out_only_if_video_and_audio_agree(video_rate, audio_rate):
    assert set(run(StepCache(0.05, 0.05), video_rate=video_rate, audio_rate=audio_rate)) == {Choice.COMPUTE}


def test_the_audio_is_computed_alone_where_the_video_is_used_again_and_the_audio_is_not():
    made = run(StepCache(0.1, 0.05, audio_alone=True), video_rate=0.01, audio_rate=0.5)
    assert made[:4] == [Choice.COMPUTE, Choice.COMPUTE, Choice.AUDIO, Choice.AUDIO]
    assert Choice.REUSE not in made
    assert Choice.AUDIO not in run(StepCache(0.1, 0.1, audio_alone=True), video_rate=0.5, audio_rate=0.01)


def test_what_one_conditioning_decides_holds_for_the_others_of_the_step():
    cache = StepCache(0.035, 0.035)
    assert run(cache, who=("positive", "negative")) == run(StepCache(0.035, 0.035))
    assert sum(cache.counts.values()) == 12


def test_behind_the_boundary_nothing_is_known():
    cache = StepCache(0.5, 0.5)
    run(cache, steps=5)
    cache.begin()
    assert run(cache, steps=3)[:2] == [Choice.COMPUTE] * 2


def test_it_says_in_how_many_steps_what_was_done():
    cache = StepCache(0.1, 0.1, audio_alone=True)
    made = run(cache, video_rate=0.01, audio_rate=0.06)
    reused, alone = made.count(Choice.REUSE), made.count(Choice.AUDIO)
    assert reused and alone
    assert cache.told() == f"Step cache: {reused} of 12 steps reused, {alone} with the audio computed alone"
