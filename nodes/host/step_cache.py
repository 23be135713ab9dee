"""The step cache on the host: around the diffusion model, and begun anew with each sampling."""

from typing import Any

import comfy.patcher_extension
from torch import Tensor

from ...mova.sampling.step_cache import Choice, StepCache
from . import notice
from .audio_steps import KEY, Memories

NAME = "mova_step_cache"
NOT_USED = "Step cache: not used; with audio_steps or context windows every step is computed."
WRAPPERS = comfy.patcher_extension.WrappersMP


class CachedSteps:
    """Wrappers of one model. What is kept is dropped when a sampling ends."""

    def __init__(self, cache: StepCache, fp8: bool = False) -> None:
        self.settings = cache.video, cache.audio, cache.audio_alone, fp8  # by which a run is known again
        self._cache, self._memories = cache, Memories(fp8)
        self._left_out = False  # of an evaluation

    def sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Around the host's sampling, with one expert."""
        self._cache.begin()
        self._cache.counts = dict.fromkeys(Choice, 0)
        self._left_out = False
        try:
            return executor(*args, **kwargs)
        finally:
            notice.show(NOT_USED if self._left_out else self._cache.told() + ".")
            self._cache.begin()
            self._memories.close()

    def evaluate(
        self,
        executor: Any,
        x: list[Tensor],
        timestep: Tensor,
        context: Tensor,
        clip_fea: Any,
        time_dim_concat: Any,
        options: dict[str, Any],
        **named: Any,
    ) -> list[Tensor]:
        """Around the diffusion model."""
        rest = (timestep, context, clip_fea, time_dim_concat)
        uuids = tuple(options.get("uuids") or ())
        if not uuids or KEY in options or "context_window" in options:  # others' calls; parts of a clip or of a step
            self._left_out = self._left_out or bool(uuids)
            return executor(x, *rest, options, **named)
        choice = self._cache.choose(uuids, float(timestep.flatten()[0]), *x)
        video, audio = self._cache.parts[uuids]
        known = video.velocity  # where there is none, choose has it computed
        if choice is Choice.REUSE and known is not None and audio.velocity is not None:
            return [known, audio.velocity]
        alone = choice is Choice.AUDIO and all(uuid in self._memories.found for uuid in uuids)
        self._memories.recording = not alone
        told = {**options, KEY: self._memories} if self._cache.audio_alone else options
        made = executor(x, *rest, told, **named)
        audio.computed(x[1], made[1])
        if alone and known is not None:
            return [known, made[1]]
        video.computed(x[0], made[0])
        return made


def with_step_cache(model: Any, cache: StepCache, fp8: bool) -> Any:
    """A clone of the MODEL that works so, in place of an earlier cache of ours."""
    model, steps = model.clone(), CachedSteps(cache, fp8)
    for kind, function in ((WRAPPERS.OUTER_SAMPLE, steps.sample), (WRAPPERS.DIFFUSION_MODEL, steps.evaluate)):
        model.remove_wrappers_with_key(kind, NAME)
        model.add_wrapper_with_key(kind, NAME, function)
    return model
