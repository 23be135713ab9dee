"""A sampler of the host's, seen step by step: what it holds between two steps, and starting it there again.

Only for samplers without memory of earlier steps and without noise of their own. What Euler holds is known as the next
step begins; Heun and DPM2 evaluate the model a second time in each step, and tell with a step's first evaluation.
"""

from collections.abc import Callable
from typing import Any

import comfy.k_diffusion.sampling as samplers
from torch import Tensor

from . import audio_steps

EULER = samplers.sample_euler
WITHOUT_MEMORY = (EULER, audio_steps.sample_euler, samplers.sample_heun, samplers.sample_dpm_2)

State = Callable[[int, Tensor], None]  # (steps that are done, x behind them)


def has_no_memory(sampler: Any) -> bool:
    """Whether a KSAMPLER can be started in the middle, to the bit."""
    noise = sampler.extra_options.get("s_churn", 0.0)
    return sampler.sampler_function in WITHOUT_MEMORY and not noise


class Told:
    """The model as samplers call it; `before` is told what each call is made with."""

    def __init__(self, model: Any, before: Callable[[Tensor], None]) -> None:
        self.model, self.before = model, before

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Any:
        self.before(x)
        return self.model(x, sigma, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def run(
    sampler_function: Callable[..., Tensor],
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    skip: int,
    state: State,
    callback: Any = None,
    **kwargs: Any,
) -> Tensor:
    """Sample from step `skip` on, where x is what the sampler held there; `state` hears of each step that is done."""
    done = skip - 1

    def next_call(x: Tensor) -> None:
        nonlocal done
        done += 1
        state(done, x)

    def told(given: dict[str, Any]) -> None:
        if sampler_function is not EULER:
            state(skip + given["i"], given["x"])
        if callback is not None:
            callback({**given, "i": skip + given["i"]})

    watched = Told(model, next_call) if sampler_function is EULER else model
    return sampler_function(watched, x, sigmas[skip:], callback=told, **kwargs)
