"""How far a run has come, on disk: what it takes to go on with it, or to decode it, when something fails later.

A safetensors file with the latents behind the last finished step, and in its metadata the step and all that makes the
run what it is. It goes when the clip is there.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import strict_json
from ..checkpoint.header import read_header
from ..checkpoint.tensor_file import write_tensors
from ..checkpoint.weights import open_weights
from ..errors import MovaError
from ..sampling.finite import all_finite
from ..shorten import short

FORMAT = "mova_run"  # the metadata entry that tells these files apart
SHARE = 100  # of a run's time, writing takes at most one part of so many: where steps are short, not each is kept
RESUME = "the same command with --resume goes on from there"


@dataclass(frozen=True)
class Run:
    """`step` of `steps` are done. latents: on the CPU, by name. said: settings, as JSON has them."""

    step: int
    steps: int
    latents: dict[str, Tensor]
    said: dict[str, Any]

    @property
    def finished(self) -> bool:
        return self.step == self.steps


# Called with the number of finished steps and the latents behind them.
Keep = Callable[[int, Mapping[str, Tensor]], None]


def no_keeping(step: int, latents: Mapping[str, Tensor]) -> None:
    pass


def write_run(path: Path, run: Run) -> None:
    """Write the file, whole or not at all. Raises MovaError if the disk refuses."""
    about = {"step": run.step, "steps": run.steps, "said": run.said}
    latents = {name: latent.contiguous() for name, latent in run.latents.items()}
    write_tensors(path, latents, {FORMAT: json.dumps(about)})


def read_run(path: Path) -> Run:
    """Raises MovaError if there is no such file, or it is damaged, or of another kind."""
    weights = open_weights(path)
    try:
        step, steps, said = about_run(weights.metadata)
    except (KeyError, ValueError, TypeError):
        raise MovaError(f"{path} does not hold a run of MOVA's; name another, or begin anew.") from None
    # Copied: the file is replaced behind the next step, and Windows lets nobody replace what is mapped.
    latents = {name: tensor.clone() for name, tensor in weights.read(weights.tensors)}
    if not all(map(all_finite, latents.values())):
        raise MovaError(f"{path} holds NaN or infinite values; begin anew.")
    return Run(step, steps, latents, said)


def about_run(metadata: Mapping[str, str]) -> tuple[int, int, dict[str, Any]]:
    """Steps that are done, all steps, settings. Raises KeyError, ValueError or TypeError if they are not there."""
    about = strict_json.parse(metadata[FORMAT])
    step, steps, said = about["step"], about["steps"], about["said"]
    if not (isinstance(said, dict) and type(step) is type(steps) is int and 0 < step <= steps):
        raise ValueError("impossible steps")
    return step, steps, said


def is_finished(path: Path) -> bool:
    """Whether a file holds a finished run; of its header only. False for one that is damaged, or gone."""
    try:
        step, steps, _ = about_run(read_header(path)[1])
    except (KeyError, ValueError, TypeError):  # MovaError is a ValueError
        return False
    return step == steps


def check_same(path: Path, run: Run, said: Mapping[str, Any], but: Collection[str] = ()) -> list[str]:
    """Raise MovaError, naming the first, if a setting is another than the run's. Returns which of `but` are."""
    wanted = strict_json.parse(json.dumps(dict(said)))
    others = [name for name in {**run.said, **wanted} if run.said.get(name) != wanted.get(name)]
    for name in others:
        if name not in but:
            was, now = short(run.said.get(name)), short(wanted.get(name))
            raise MovaError(f"{path} is of another run: its {name} is {was}, not {now}; give the same, or begin anew.")
    return others


class Keeper:
    """Writes how far a run has come, behind each step, or as often as it takes a hundredth of the time."""

    def __init__(self, path: Path, said: Mapping[str, Any], steps: int, notice: Callable[[str], None]) -> None:
        self.path, self.said, self.steps, self.notice = path, dict(said), steps, notice
        self.kept: int | None = None  # steps that are done by what is on disk
        self.next_time = -math.inf
        self.broken = False

    def __call__(self, step: int, latents: Mapping[str, Tensor]) -> None:
        if self.broken or (time.monotonic() < self.next_time and step < self.steps):
            return
        here = {name: latent.detach().cpu() for name, latent in latents.items()}  # waits for the step on a GPU
        if not all(map(all_finite, here.values())):
            return
        began = time.monotonic()
        try:
            write_run(self.path, Run(step, self.steps, here, self.said))
        except MovaError as error:  # a full disk: the run itself needs none yet
            self.broken = True
            self.notice(f"What is done cannot be kept, the run goes on: {error}")
            return
        self.kept = step
        now = time.monotonic()
        self.next_time = now + SHARE * (now - began)

    def told(self) -> str:
        """Where what is done lies, and how to go on; empty if nothing is kept."""
        return "" if self.kept is None else f"step {self.kept} of {self.steps} is kept in {self.path}: {RESUME}"

    @contextlib.contextmanager
    def saying_so(self) -> Iterator[None]:
        """Whatever fails in the block, its sentence ends with what is kept."""
        try:
            yield
        except MovaError as error:
            if not self.told():
                raise
            raise MovaError(f"{str(error).removesuffix('.')}; {self.told()}.") from error

    def remove(self) -> None:
        """The clip is there."""
        if self.kept is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            self.kept = None
