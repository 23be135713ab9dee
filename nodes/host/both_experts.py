"""Both experts in one MODEL, as the core loader makes it of Prism's file: the timestep says which one runs."""

from typing import Any

import torch
from torch import Tensor, nn

from ...mova import JointModel, MovaConfig
from ...mova.checkpoint.prism import BOUNDARY
from ...mova.checkpoint.release import EXPERTS, JOINT
from ...mova.model.shapes import expected_shapes
from ...mova.sampling.schedule import TIMESTEPS
from .model import HostModel

# The first expert's names stand at the root, as in MOVA's files: by them the host knows what the file is of.
SECOND = EXPERTS["low_noise"] + "."


class BothExperts(nn.Module):
    """Two experts with one audio tower and one bridge, called as the host calls its diffusion models.

    Neither stands at the root, where a LoRA that is for one of them would find its names.
    """

    def __init__(
        self, mova_config: MovaConfig, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.high_noise = HostModel(mova_config, dtype, device, operations)
        self.low_noise = HostModel(mova_config, dtype, device, operations, other=self.high_noise)

    def forward(self, x: list[Tensor], timestep: Tensor, *args: Any, **kwargs: Any) -> list[Tensor]:
        """As of HostModel; timestep [B] in 0..1000, the same for all of a batch."""
        expert = self.high_noise if float(timestep.max()) >= BOUNDARY * TIMESTEPS else self.low_noise
        made: list[Tensor] = expert(x, timestep, *args, **kwargs)
        return made


def both_shapes(config: MovaConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the host is given them: one expert with what both share, and the other's tower."""
    joint = expected_shapes(JointModel(config, device="meta"))
    return joint | {SECOND + name: shape for name, shape in joint.items() if not name.startswith(JOINT)}


def module_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the host was given, under the names of BothExperts."""
    return {
        f"low_noise.{name.removeprefix(SECOND)}" if name.startswith(SECOND) else f"high_noise.{name}": tensor
        for name, tensor in state.items()
    }


def given_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other way round. Names of a model of one expert stay."""
    homes = {"high_noise.": "", "low_noise.": SECOND}

    def given(name: str) -> str:
        return next((home + name.removeprefix(own) for own, home in homes.items() if name.startswith(own)), name)

    return {given(name): tensor for name, tensor in state.items()}
