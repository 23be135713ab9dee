"""Where and how a clip is computed."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..checkpoint.formats import PLAIN
from ..errors import MovaError, first_line
from ..model import onednn
from ..model.attention import choose
from ..model.kernels import LOW_MEMORY, Kernels, choose_norms


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute. `dtype` is that of the text encoder, the video VAE and the experts."""

    device: torch.device
    dtype: torch.dtype = torch.bfloat16
    attention: str = "auto"
    elementwise: str = "torch"
    low_memory: bool = False
    tiled_vae: bool | None = None  # None: by what memory is free
    part: Callable[[str], None] = lambda name: None  # called as each part begins
    step: Callable[[int, int], None] = lambda done, of: None  # called after each step
    notice: Callable[[str], None] = lambda text: None  # called with what the user should know
    cancelled: Callable[[], bool] = lambda: False


def layers_for(runtime: Runtime) -> tuple[Any, Kernels]:
    """The layers and kernels that JointModel should be built of: exact if not told otherwise, and fast on that device.

    Raises MovaError if what is asked for cannot run there.
    """
    operations = onednn.Operations if runtime.device.type == "cpu" and onednn.available() else nn
    attention = choose(runtime.attention, runtime.device, runtime.dtype)
    norms = choose_norms(runtime.elementwise, runtime.device)
    return operations, replace(
        LOW_MEMORY if runtime.low_memory else Kernels(), attention=attention, norm_and_rotate_=norms
    )


def begin(runtime: Runtime, name: str) -> None:
    """Announce a part of the model, before it is loaded.

    Each part lives in a function of its own, so that the one before has been dropped by now. What is still held of it
    by reference cycles or by the device's allocator is given back here.
    """
    release_memory(runtime.device)
    runtime.part(name)


def release_memory(device: torch.device) -> None:
    """Give back what reference cycles and the device's allocator hold and nobody needs."""
    gc.collect()
    backend: Any = getattr(torch, device.type, None)  # cuda, mps, xpu
    if hasattr(backend, "empty_cache"):
        backend.empty_cache()


def device_and_dtype(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """From what the user typed. "auto" takes a GPU if there is one. Raises MovaError for what cannot be used."""
    dtypes = {name: plain.dtype for name, plain in PLAIN.items()}
    if dtype not in dtypes:
        raise MovaError(f"There is no dtype called {dtype!r}; choose one of {', '.join(dtypes)}.")
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    seen = [*(gpu for gpu in gpus if gpus[gpu]), "cpu"]
    for name in seen if device == "auto" else [device]:
        try:
            # Tried: a Mac that is a virtual machine has MPS without any memory, and one before macOS 14 no bf16 on it.
            torch.empty(1, device=name, dtype=dtypes[dtype])
            return torch.device(name), dtypes[dtype]
        except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: torch built without CUDA
            fault = error
    choices = " or ".join(name for name in ("auto", *seen) if name != device)
    if device.split(":")[0] in seen:
        raise MovaError(
            f"The device {device!r} cannot be used here in {dtype} ({first_line(fault)}); choose {choices}."
        ) from fault
    raise MovaError(
        f"The device {device!r} cannot be used: this PyTorch ({torch.__version__}) sees no such device; choose "
        f"{choices}, or install PyTorch for your GPU."
    ) from fault
