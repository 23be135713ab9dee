"""The host's own Load VAE and a file of MOVA's audio VAE, which it does not know."""

import functools
from typing import Any

import comfy.sd

from ...mova import MovaError

SIGNS = {"quant_conv.weight", "post_quant_conv.weight", "encoder.block.0.bias", "decoder.model.0.bias"}


def tell_of_the_audio_vae() -> None:
    """Have the host's VAE say which node loads such a file, in place of "VAE is invalid: None".

    In its constructor, since the host asks nobody else about a file of a VAE. A host that knows the file loads it.
    """
    made = comfy.sd.VAE.__init__
    if getattr(made, "tells_of_mova", False):
        return

    @functools.wraps(made)
    def init(self: Any, sd: Any = None, *args: Any, **kwargs: Any) -> None:
        is_ours = set(sd or ()) >= SIGNS  # before the host takes tensors out of it
        made(self, sd, *args, **kwargs)
        if is_ours and getattr(self, "first_stage_model", None) is None:
            raise MovaError("This is MOVA's audio VAE; load it with MOVA Audio VAE Loader, and the Wan 2.1 VAE here.")

    init.tells_of_mova = True  # type: ignore[attr-defined]
    comfy.sd.VAE.__init__ = init
