"""Frozen matrices that no process holds whole: each has a part of every one in RAM, and all give theirs for each use.

By PyTorch's FSDP2, which also divides matrices of fp8. It is told when, since streaming runs the layers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

from .processes import Processes


class Shards:
    """Divides matrices among all processes, which must do the same at the same time, here and later."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.mesh = init_device_mesh(device.type, (processes.count,))
        self.policy = OffloadPolicy() if device.type == "cpu" else CPUOffloadPolicy()

    def divide(self, matrix: Tensor) -> "Shard":
        """matrix: [out, in], in RAM, the same in each process, which may forget it then."""
        return Shard(matrix, self.mesh, self.policy)


class Shard:
    """This process's part of one matrix."""

    def __init__(self, matrix: Tensor, mesh: Any, policy: OffloadPolicy) -> None:
        self.dtype = matrix.dtype
        raw = matrix.view(torch.uint8) if matrix.dtype.itemsize == 1 else matrix  # gloo knows no fp8
        self.held: Any = nn.ParameterList([nn.Parameter(raw, requires_grad=False)])
        fully_shard(self.held, mesh=mesh, reshard_after_forward=False, offload_policy=policy)

    def ask(self) -> Any:
        """Begin to fetch the others' parts. Returns what whole() takes."""
        return self.held.unshard(async_op=True)

    def whole(self, asked: Any) -> Tensor:
        """The matrix, on the device; it is there until drop."""
        if asked is not None:
            asked.wait()
        return self.held[0].detach().view(self.dtype)

    def drop(self) -> None:
        self.held.reshard()
