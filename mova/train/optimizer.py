"""AdamW over the LoRA's parameters: PyTorch's, or bitsandbytes' with states of 8 bits."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MovaError, install_command
from .settings import Settings

EIGHT_BIT = "adamw8bit"


def optimizer_class(name: str) -> Any:
    """One of settings.OPTIMIZERS. Raises MovaError if what it needs is not there."""
    if name != EIGHT_BIT:
        return torch.optim.AdamW
    try:
        from bitsandbytes import optim
    except (ImportError, RuntimeError, OSError) as error:  # it brings libraries of its own, which may not load
        raise MovaError(
            f"--optimizer {EIGHT_BIT} needs bitsandbytes ({type(error).__name__}); run "
            f"{install_command('bitsandbytes')}, or take --optimizer adamw."
        ) from error
    return optim.AdamW8bit  # type: ignore[attr-defined, unused-ignore]


def make_optimizer(settings: Settings, parameters: Iterable[nn.Parameter]) -> Any:
    return optimizer_class(settings.optimizer)(parameters, lr=settings.lr, weight_decay=settings.weight_decay)


def state_of(optimizer: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Copies of what it knows of a parameter (bitsandbytes has some in common); empty before its first step."""
    return {key: torch.as_tensor(value).clone() for key, value in optimizer.state.get(parameter, {}).items()}


def fits(optimizer: Any, parameter: nn.Parameter, kept: dict[str, Tensor]) -> bool:
    """Whether this is what put_back takes. Of bitsandbytes' states the shapes are its own affair."""
    if kept.get("step", torch.zeros(0)).numel() != 1:
        return False
    if not isinstance(optimizer, torch.optim.AdamW):
        return True
    moments = [kept.get(name) for name in ("exp_avg", "exp_avg_sq")]
    return len(kept) == 3 and all(one is not None and one.shape == parameter.shape for one in moments)


def put_back(optimizer: Any, parameter: nn.Parameter, kept: dict[str, Tensor]) -> None:
    """Have it know of a parameter what was kept. Steps are counted on the processor, and by bitsandbytes as an int."""
    whole = not isinstance(optimizer, torch.optim.AdamW)
    optimizer.state[parameter] = {
        key: value.to(parameter.device) if key != "step" else int(value) if whole else value
        for key, value in kept.items()
    }
