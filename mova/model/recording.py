"""Where work must not be done in place, because autograd needs what would be overwritten."""

import torch
from torch import Tensor


def held(tokens: Tensor) -> bool:
    """Whether the tokens that a layer is given must stay as they are.

    Also those that require no gradients: what checkpointing keeps of a layer is its inputs, to call it once more, and
    changed inputs would give wrong gradients without an error. A checkpointing that records nothing the first time
    (PyTorch's reentrant one) passes tensors that require gradients.
    """
    return torch.is_grad_enabled() or tokens.requires_grad


def recorded(*made: Tensor) -> bool:
    """Whether one of these tensors, which a layer has made itself, is part of what autograd records."""
    return any(x.requires_grad for x in made)
