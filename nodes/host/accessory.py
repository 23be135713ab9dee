"""What only shows a run must not end it: a preview, a progress bar, whoever's they are."""

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.patcher_extension

from ...mova.errors import first_line

CALLBACK = 5  # its place among the arguments of the host's outer_sample
KEY = "mova_accessory"


def harmless(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function, but what it raises is a line in the log, once; `what` it is for stands there.

    The stop button still works: the host raises InterruptProcessingException where it reports progress.
    """
    told = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal told
        try:
            return function(*args, **kwargs)
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:  # of any pack: a preview's decoder, a progress hook, a closed connection
            if not told:
                logging.warning(
                    f"[MOVA] {what} failed ({type(error).__name__}: {first_line(error)}); the run goes on without."
                )
            told = True
            return None

    return call


def keep_going(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Around the host's outer_sample, for its own samplers, which take a callback of anybody's."""
    given = list(args)
    if len(given) > CALLBACK and given[CALLBACK] is not None:
        given[CALLBACK] = harmless(given[CALLBACK], "A preview of the sampler")
    return executor(*given, **kwargs)


def protect(model: Any) -> None:
    """Have all samplers of the host go on with this ModelPatcher when a preview fails."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    if not model.get_wrappers(kind, KEY):
        model.add_wrapper_with_key(kind, KEY, keep_going)
