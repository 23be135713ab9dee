import pytest
import torch

from mova.sampling.audio_shift import shift_audio
from mova.sampling.euler import euler
from mova.sampling.schedule import TIMESTEPS, sigmas


def test_euler_on_the_video_s_sigmas_takes_the_steps_of_the_audio_s_own():
    torch.manual_seed(0)
    noise = torch.randn(1, 3, 5)
    own, video_sigmas, ratio = sigmas(6, 3.0), sigmas(6, 5.0), 3.0 / 5.0

    def velocity(audio, timestep):  # any function of both will do for a model
        return torch.sin(3 * audio) + timestep.view(-1, 1, 1) / TIMESTEPS

    def plain(video, audio, video_time, audio_time):
        return video, velocity(audio, torch.tensor([audio_time]))

    def shifted(video, audio, video_time, audio_time):
        seen, timestep, finish = shift_audio(audio, torch.tensor([video_time]), ratio)
        return video, finish(velocity(seen, timestep))

    _, wanted = euler(plain, noise, noise, video_sigmas, own)
    _, found = euler(shifted, noise, noise, video_sigmas, video_sigmas)
    torch.testing.assert_close(found * ratio, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.2, 0.6, 5.0])
def test_any_sampler_meets_a_model_of_weaker_data(ratio):
    """So a sampler needs to know nothing, whatever it does and whatever noise it adds: there is no other difference."""

    def velocity(x, timestep, spread):  # the exact one, for normal data with this spread
        sigma = timestep.view(-1, 1, 1) / TIMESTEPS
        return x * (sigma - (1 - sigma) * spread**2) / ((1 - sigma) ** 2 * spread**2 + sigma**2)

    timestep = torch.tensor([1000.0, 900.0, 500.0, 3.0])
    audio = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    seen, audio_timestep, finish = shift_audio(audio, timestep, ratio)
    found, wanted = finish(velocity(seen, audio_timestep, 0.5)), velocity(audio, timestep, 0.5 / ratio)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
