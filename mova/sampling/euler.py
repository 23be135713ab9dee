"""Samplers: plain functions over a callable that returns velocities."""

from collections.abc import Callable

from torch import Tensor

from ..errors import Cancelled
from .finite import Watch
from .schedule import TIMESTEPS

# (video, audio, video timestep, audio timestep) -> velocities; the timesteps are scalars in 0..1000.
Velocity = Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]

# (step, 0-based) -> sigmas of the audio's steps in it [count + 1]; (audio, timestep) -> its velocity alone.
AudioAlone = tuple[Callable[[int], Tensor], Callable[[Tensor, float], Tensor]]

# (step that is done, 0-based; video, audio)
Callback = Callable[[int, Tensor, Tensor], None]


def euler(
    velocity: Velocity,
    video: Tensor,
    audio: Tensor,
    video_sigmas: Tensor,
    audio_sigmas: Tensor,
    callback: Callback | None = None,
    cancelled: Callable[[], bool] | None = None,
    alone: AudioAlone | None = None,
) -> tuple[Tensor, Tensor]:
    """The published loop: x <- x + v * (sigma_next - sigma), each modality along its own sigmas [steps + 1].

    alone: the audio takes several steps in each, the first with the joint velocity.

    Raises Cancelled before the first step at which cancelled() is true, and NotFinite (with its step, 0-based) behind
    the first that leaves NaN or infinite values.
    """
    watch = Watch()
    video_moves, audio_moves = (sigmas.diff().tolist() for sigmas in (video_sigmas, audio_sigmas))
    video_times, audio_times = ((sigmas[:-1] * TIMESTEPS).tolist() for sigmas in (video_sigmas, audio_sigmas))
    for step in range(len(video_moves)):
        if cancelled and cancelled():
            raise Cancelled(f"Stopped before step {step + 1} of {len(video_moves)}.")
        watch.check()
        video_velocity, audio_velocity = velocity(video, audio, video_times[step], audio_times[step])
        video = video + video_velocity * video_moves[step]
        if alone is None:
            audio = audio + audio_velocity * audio_moves[step]
        else:
            audio = audio_steps(alone, step, audio, audio_velocity)
        watch.note(step, video=video, audio=audio)
        if callback:
            callback(step, video, audio)
    watch.check(wait=True)
    return video, audio


def audio_steps(alone: AudioAlone, step: int, audio: Tensor, velocity: Tensor) -> Tensor:
    """The audio's steps in a step of the video, which begins with this velocity."""
    sigmas_of, velocity_of = alone
    sigmas = sigmas_of(step)
    times, moves = (sigmas * TIMESTEPS).tolist(), sigmas.diff().tolist()
    audio = audio + velocity * moves[0]
    for time, move in zip(times[1:-1], moves[1:], strict=True):
        audio = audio + velocity_of(audio, time) * move
    return audio
