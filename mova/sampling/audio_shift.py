"""Audio on a schedule of its own, under a sampler that knows only the video's."""

from collections.abc import Callable

from torch import Tensor

from .schedule import TIMESTEPS, shifted


def shift_audio(
    audio: Tensor, timestep: Tensor, ratio: float | Tensor
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Run the audio along its own schedule under a sampler that knows only the video's.

    With shifts s_a and s_v the audio's noise-to-data ratio sigma / (1 - sigma) is always s_a / s_v = `ratio` times the
    video's. So the sampler's audio is z = (1 - sigma_v) data / ratio + sigma_v noise: data that are `ratio` times as
    weak, on the video's sigmas. Its noise is as strong as the video's, so whatever noise a sampler adds is right. With
    k = (1 - sigma_a) / (1 - sigma_v) the model sees x = k ratio z at sigma_a, and from its velocity v follows that of
    z, k ((ratio - 1) z + v). Euler, and all else that works in the ratio of noise to data, then takes exactly the steps
    of the audio's own schedule.

    audio: z [B, C, L]; timestep [B] in 0..1000; ratio: a tensor [] where torch.compile must not take it for a constant.
    Returns the audio that the model sees, its timestep, and what turns the
    model's velocity into the sampler's.
    """
    if not isinstance(ratio, Tensor) and ratio == 1:
        return audio, timestep, lambda velocity: velocity
    sigma = timestep / TIMESTEPS
    k = (1 / (1 + (ratio - 1) * sigma)).view(-1, 1, 1)
    seen = (audio.float() * (k * ratio)).to(audio.dtype)
    return seen, shifted(sigma, ratio) * TIMESTEPS, lambda v: k * ((ratio - 1) * audio.float() + v.float())
