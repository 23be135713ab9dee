"""Training on several GPUs: a process for each, which share out the clips of a step."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor, nn

from ..errors import MovaError, install_command

PATIENCE = timedelta(hours=6)  # for the process that writes clips and saves, while the others wait


@dataclass(frozen=True)
class Processes:
    """How many train together, and which of them this is."""

    count: int = 1
    index: int = 0

    @property
    def first(self) -> bool:
        """The first alone writes and speaks."""
        return self.index == 0

    def sum(self, values: Tensor) -> Tensor:
        """Of all processes' values, in place; all must call it."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def sum_numbers(self, numbers: list[float], device: torch.device) -> list[float]:
        """Of all processes."""
        if self.count == 1:
            return numbers
        return [float(value) for value in self.sum(torch.tensor(numbers, dtype=torch.float64, device=device)).tolist()]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give each process the sum of all processes' gradients. One that no process has stays away."""
        if self.count == 1:
            return
        parameters = list(parameters)
        has = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
        device = parameters[0].device
        for parameter, some in zip(parameters, self.sum(has.to(device)).tolist(), strict=True):
            if some:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                self.sum(parameter.grad)

    def part(self) -> None:
        """At the end, so that none waits for one that has ended."""
        if self.count > 1:
            torch.distributed.destroy_process_group()


ALONE = Processes()


def join(device: str) -> tuple[Processes, str]:
    """The processes that `accelerate launch` has started, and the device of this one; else this process, and `device`.

    device: "auto", or a kind of device; each process takes one of its own. Raises MovaError if accelerate is missing,
    or the device is a certain one.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2:
        return ALONE, device
    if device not in ("auto", "cpu", "cuda", "xpu"):
        raise MovaError(f"--device is {device}, but each of several processes takes its own; leave it out.")
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MovaError(f"Training on several GPUs needs accelerate; run {install_command('accelerate')}.") from error
    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    return Processes(state.num_processes, state.process_index), str(state.device)
