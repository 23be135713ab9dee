"""Whether the numbers of a run are numbers, noticed in the step that made them, without holding up the device.

Each evaluation leaves two or three sums on the device, which are finite only if all that was added is. They are copied
to the processor behind the evaluation, and looked at when the next one begins: a copy that has not arrived by then is
looked at the time after. Nothing waits but at the end, where the result is waited for anyway.
"""

import collections
from typing import Any

import torch
from torch import Tensor

from ..errors import MovaError


class NotFinite(MovaError):
    """An evaluation made NaN or infinite values: at which `step` (whatever note() was given), in which `parts`."""

    def __init__(self, step: Any, parts: list[str]) -> None:
        super().__init__(f"NaN or infinite values arose in the {' and the '.join(parts)} (step {step}).")
        self.step, self.parts = step, parts


class Watch:
    """Sums that were left behind and not yet looked at."""

    def __init__(self) -> None:
        self.notes: collections.deque[tuple[Any, list[str], Tensor, Any]] = collections.deque()

    def note(self, step: Any, **parts: Tensor) -> None:
        """Remember, of tensors on one device, whether they are finite."""
        sums = torch.stack([tensor.detach().sum(dtype=torch.float32) for tensor in parts.values()])
        event = None
        if sums.device.type in ("cuda", "xpu"):
            # Pinned memory, or the copy would wait for the device.
            arrived = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
            arrived.copy_(sums, non_blocking=True)
            event = getattr(torch, sums.device.type).Event()
            event.record(getattr(torch, sums.device.type).current_stream(sums.device))
            sums = arrived
        self.notes.append((step, list(parts), sums, event))

    def check(self, wait: bool = False) -> None:
        """Raise NotFinite for the first note that says so, of those that have arrived; of all, with `wait`.

        On devices other than CUDA and XPU, looking waits for the evaluation before.
        """
        while self.notes:
            step, names, sums, event = self.notes[0]
            if event is not None and wait:
                event.synchronize()
            elif event is not None and not event.query():
                return
            self.notes.popleft()
            values = [bool(finite) for finite in sums.isfinite()]
            if not all(values):
                self.notes.clear()
                raise NotFinite(step, [name for name, finite in zip(names, values, strict=True) if not finite])


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor of any floating dtype holds no NaN and nothing infinite. Waits for its device."""
    if tensor.dtype.itemsize == 1:  # torch has little arithmetic in fp8
        tensor = tensor.float()
    return bool(tensor.detach().sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())
