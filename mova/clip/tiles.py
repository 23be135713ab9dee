"""Whether the video VAE works in tiles: as the user says, else by what memory is free."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..errors import memory_is_full
from ..model.video_memory import free_on, free_ram
from .runtime import Runtime, release_memory

Made = TypeVar("Made")

# Values alive at the peak, for each pixel of a frame, at the released width, counted on fake tensors: what the layers
# hold of four frames. The clip itself comes to it.
ENCODING, DECODING, WIDTH = 3750, 5100, 96
ROOM = 1.2  # convolutions take memory of their own, and freed pieces do not always fit


def bytes_needed(vae: Any, values: int, width: int, height: int, frames: int) -> int:
    """Of encoding or decoding (values: of those above) a clip of that size as a whole."""
    scaled = values * vae.config.base_dim / WIDTH
    return math.ceil((scaled + 3 * frames) * width * height * vae.dtype.itemsize)


def free(device: torch.device) -> float:
    """Bytes; infinity where nobody says."""
    return free_ram() if device.type == "cpu" else free_on(device) or math.inf


def by_what_is_free(vae: Any, runtime: Runtime, needed: int, work: Callable[[], Made]) -> Made:
    """work(), with the VAE in tiles if the whole would not fit, or turns out not to."""
    if runtime.tiled_vae is None and not vae.use_tiling:
        left = free(runtime.device)
        if needed * ROOM > left:
            in_tiles(
                vae, runtime, f"of about {needed * ROOM / 2**30:.1f} GiB for the whole {left / 2**30:.1f} are free"
            )
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if vae.use_tiling or runtime.tiled_vae is not None or not memory_is_full(error):
            raise
    vae.clear_cache()
    release_memory(runtime.device)  # here, where the error no longer holds what the work had made
    in_tiles(vae, runtime, "the memory was full")
    return work()


def in_tiles(vae: Any, runtime: Runtime, why: str) -> None:
    vae.enable_tiling()
    runtime.notice(f"The video VAE works in tiles: {why}.")
