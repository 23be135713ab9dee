"""Names and shapes of a module's tensors, by which what lies on disk is checked before it is loaded."""

import torch


def expected_shapes(module: torch.nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shapes in the module's state dict (it may be on the meta device): the names under `prefix`, without it."""
    state = module.state_dict()
    return {name[len(prefix) :]: tuple(state[name].shape) for name in state if name.startswith(prefix)}
