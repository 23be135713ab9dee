"""What the step cache leaves out, and what that costs in exactness, on a small model: fewer.py --cache."""

from typing import Any, cast

import torch
from quantization import error, inputs
from torch import Tensor

from mova import JointModel
from mova.clip.request import Request
from mova.clip.velocity import Velocities
from mova.model.presets import DEFAULT
from mova.model.video_memory import VideoMemory
from mova.sampling.euler import euler
from mova.sampling.schedule import TIMESTEPS, sigmas
from mova.sampling.step_cache import Choice, StepCache

BOUNDARY = DEFAULT.boundary * TIMESTEPS
# Thresholds of the video and of the audio, and whether the audio may be computed alone.
CACHES = [(limit, limit, False) for limit in (0.5, 1.0, 1.5, 2.0)]
CACHES += [(1.5, 1.0, False), (1.5, 1.0, True), (2.0, 1.0, True)]


class Cached:
    """The model with a step cache around it, as nodes/host/step_cache.py has it; both experts are this model."""

    def __init__(self, model: JointModel, cache: StepCache) -> None:
        self.model, self.cache, self.low = model, cache, False
        self.memories: dict[int, VideoMemory] = {}
        self.evaluations = 0  # of both towers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, x: Tensor, audio: Tensor, *given: Any, memory: None = None) -> tuple[Tensor, Tensor]:
        time, audio_time, text = given[:3]
        if not self.low and float(time) < BOUNDARY:
            self.low = True
            self.cache.begin()
        who, seen = id(text), x[:, :16]
        choice = self.cache.choose(who, float(time), seen, audio)
        video, sound = self.cache.parts[who]
        if choice is Choice.REUSE:
            assert video.velocity is not None and sound.velocity is not None
            return video.velocity, sound.velocity
        if choice is Choice.AUDIO:
            grid = (x.shape[2], x.shape[3] // 2, x.shape[4] // 2)
            rotations = self.model.rotations(grid, audio.shape[-1], 24.0, audio.device)
            made = self.model.audio_velocity(audio, audio_time, text.audio, self.memories[who], rotations)
            sound.computed(audio, made)
            assert video.velocity is not None
            return video.velocity, made
        self.evaluations += 1
        self.memories[who] = VideoMemory()
        both = self.model(x, audio, *given, memory=self.memories[who])
        for part, latent, velocity in zip((video, sound), (seen, audio), both, strict=True):
            part.computed(latent, velocity)
        return both


def caches(model: JointModel, request: Request) -> None:
    """Each threshold against the run without a cache."""
    schedule = sigmas(request.steps)
    print("| thresholds, video and audio | evaluations | steps reused | audio alone | video | audio |")
    print("| --- | --: | --: | --: | --: | --: |")
    wanted = None
    for video, audio, alone in [(0.0, 0.0, False), *CACHES]:
        given, cache = inputs((2, 12, 12)), StepCache(video, audio, alone)
        cached = Cached(model, cache)
        texts = [model.embed_text(given[name]) for name in ("text", "negative")]
        velocities = Velocities(cast(Any, cached), texts, given["video"][:, 16:], request, schedule)
        with torch.no_grad():
            made = euler(velocities.joint, given["video"][:, :16], given["audio"], schedule, schedule)
        wanted = wanted or made
        errors = " | ".join(f"{error(*pair):.2g}" for pair in zip(made, wanted, strict=True))
        counts = f"{cached.evaluations} | {cache.counts[Choice.REUSE]} | {cache.counts[Choice.AUDIO]}"
        print(f"| {video:g} and {audio:g}{', audio_alone' * alone} | {counts} | {errors} |", flush=True)
