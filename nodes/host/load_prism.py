"""The host's own Load Diffusion Model and a file in Prism's layout, which most hosts do not know."""

import functools
from typing import Any

import comfy.sd

from ...mova import MovaError
from ...mova.checkpoint.prism import is_prism, joint_names, release_names
from ...mova.model.config import MovaConfig
from .both_experts import SECOND, both_shapes

REMEDY = "put it over MOVA-360p with the command `convert` and its option --base"


def take_prism() -> None:
    """Have the host's loader take such a file: as one MODEL with both experts, since it makes one of a file.

    A family cannot: the host asks its families only of tensors that its own detection has recognised. A host that
    knows the file loads it as it does.
    """
    made = comfy.sd.load_diffusion_model_state_dict
    if getattr(made, "takes_prism", False):
        return

    @functools.wraps(made)
    def load(sd: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not is_prism(sd):
            return made(sd, *args, **kwargs)
        try:
            model = made({**sd}, *args, **kwargs)  # whose loading takes tensors out
        except Exception:  # whatever detection makes of names that it does not know
            model = None
        return made(both(sd), *args, **kwargs) if model is None else model

    load.takes_prism = True  # type: ignore[attr-defined]
    comfy.sd.load_diffusion_model_state_dict = load


def both(sd: dict[str, Any]) -> dict[str, Any]:
    """The file's tensors under names that the host's detection knows. Raises MovaError if it is no whole model."""
    state = {new: sd[old] for old, new in joint_names(sd, "high_noise").items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    state |= {new: sd[old] for old, new in release_names(sd).items() if new.startswith(SECOND)}
    try:
        config = MovaConfig.from_shapes(shapes)
    except MovaError as error:
        raise MovaError(f"The file is Prism's, with {len(sd)} tensors, which are no whole model; {REMEDY}.") from error
    missing = [name for name in both_shapes(config) if name not in state]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise MovaError(f"The file is Prism's, and lacks {missing[0]}{more}; {REMEDY}.")
    return state
