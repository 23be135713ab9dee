"""Whether a pack is at work in a module."""

from torch import nn


def is_replaced(module: nn.Module) -> bool:
    """Whether a pack has put another method in the place of a module's forward, or waits for its calls."""
    module = getattr(module, "_orig_mod", module)  # as torch.compile leaves it
    own = getattr(module.forward, "__func__", None) is type(module).forward
    return not own or bool(module._forward_hooks or module._forward_pre_hooks)
