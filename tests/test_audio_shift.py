import torch

from mova.audio_shift import shift_audio
from mova.sampling import euler
from mova.schedule import TIMESTEPS, sigmas


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
    _, found = euler(shifted, noise, noise * ratio, video_sigmas, video_sigmas)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
