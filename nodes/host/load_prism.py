"""The host's own Load Diffusion Model and a file in Prism's layout, which most hosts do not know."""

import functools
from typing import Any

import comfy.sd

from ...mova import MovaError
from ...mova.checkpoint.prism import is_prism

TOLD = (
    "This file is Prism's, with both experts in one; choose it for both in MOVA Model Loader, or make a file of each "
    "with the command `convert`."
)


def tell_of_prism() -> None:
    """Have the host's loader say how such a file is loaded, in place of "Could not detect model type".

    A family cannot: the host asks its families only of tensors that its own detection has recognised, and a MODEL is
    one network, here of one expert; which one, no input of that node could say. A host that knows the file loads it.
    """
    made = comfy.sd.load_diffusion_model_state_dict
    if getattr(made, "tells_of_mova", False):
        return

    @functools.wraps(made)
    def load(sd: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        ours = is_prism(sd)  # before the host takes tensors out of it
        try:
            model = made(sd, *args, **kwargs)
        except Exception as error:  # whatever detection makes of names that it does not know
            if ours:
                raise MovaError(TOLD) from error
            raise
        if ours and model is None:
            raise MovaError(TOLD)
        return model

    load.tells_of_mova = True  # type: ignore[attr-defined]
    comfy.sd.load_diffusion_model_state_dict = load
