"""What only shows a run must not end it: a preview, a progress bar, whoever's they are."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import comfy.samplers

from ...mova.errors import first_line

CALLBACK = 5  # the place of callback among the arguments of the host's outer_sample


def harmless(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function, but what it raises is a line in the log, once; `what` it is for stands there.

    The stop button still works: what the host raises for it is no Exception.
    """
    told = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal told
        try:
            return function(*args, **kwargs)
        except Exception as error:  # of any pack: a preview's decoder, a progress hook, a closed connection
            if not told:
                logging.warning(
                    f"[MOVA] {what} failed ({type(error).__name__}: {first_line(error)}); the run goes on without."
                )
            told = True
            return None

    return call


def protect(model_class: type) -> None:
    """Have the host's samplers go on when a preview fails, if they sample a model of this class.

    In the host's guider, since a model that another loader has loaded is asked nothing before the run has begun.
    """
    outer_sample = comfy.samplers.CFGGuider.outer_sample
    if getattr(outer_sample, "protects_mova", False):
        return

    @functools.wraps(outer_sample)
    def protected(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = list(args)
        if isinstance(self.model_patcher.model, model_class) and len(given) > CALLBACK and given[CALLBACK]:
            given[CALLBACK] = harmless(given[CALLBACK], "A preview of the sampler")
        return outer_sample(self, *given, **kwargs)

    protected.protects_mova = True  # type: ignore[attr-defined]
    comfy.samplers.CFGGuider.outer_sample = protected
