"""The host's own Load Diffusion Model and a file in Prism's layout, which most hosts do not know."""

import functools
from typing import Any

import comfy.model_detection
import comfy.sd

from ...mova import MovaError
from ...mova.checkpoint.header import TensorInfo, broken
from ...mova.checkpoint.prism import GIVE, is_prism, joint_names, release_names
from ...mova.checkpoint.weights import check_tensors
from ...mova.model.config import MovaConfig
from .both_experts import SECOND, both_shapes

# Of a file in Prism's layout that is no whole model.
CONVERT = "put it over MOVA-360p with the command `convert` and its option --base"
FILE = "The file is Prism's, and"  # which, the host's loader does not tell


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
        return made(both(sd) if is_prism(sd) and not is_known(sd) else sd, *args, **kwargs)

    load.takes_prism = True  # type: ignore[attr-defined]
    comfy.sd.load_diffusion_model_state_dict = load


def is_known(sd: dict[str, Any]) -> bool:
    """Whether the host's own detection makes something of the names."""
    try:
        return comfy.model_detection.detect_unet_config(sd, "") is not None
    except Exception:  # whatever it makes of names that it does not know
        return False


def both(sd: dict[str, Any]) -> dict[str, Any]:
    """The file's tensors under names that the host's detection knows. Raises MovaError if it is no whole model."""
    state = {new: sd[old] for old, new in joint_names(sd, "high_noise").items()}
    first = {name: tuple(tensor.shape) for name, tensor in state.items()}
    state |= {new: sd[old] for old, new in release_names(sd).items() if new.startswith(SECOND)}
    try:
        config = MovaConfig.from_shapes(first)
    except MovaError as error:
        raise broken(FILE, f"holds {len(sd)} tensors, which are no whole model", CONVERT) from error
    infos = {name: TensorInfo(str(tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items()}
    check_tensors(infos, both_shapes(config), FILE, remedy=GIVE, if_lacking=CONVERT)
    return state
