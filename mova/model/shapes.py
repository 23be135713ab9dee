"""Names and shapes of a module's tensors, by which what lies on disk is checked before it is loaded."""

import torch


def expected_shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes in the module's state dict (it may be on the meta device)."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
