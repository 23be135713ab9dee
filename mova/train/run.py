"""A training run: what it is made of, how it begins or goes on, and what of it is kept."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoint.formats import PLAIN
from ..checkpoint.weights import open_file
from ..errors import MovaError
from ..model.joint import JointModel, Layer
from ..model.video_memory import free_on
from .base import Base
from .cache import Cache, Entry, key_of
from .checkpointing import checkpointed
from .fit import check_items
from .lora import add_lora
from .losses import Model
from .memory import Clip, check_room
from .optimizer import fits, make_optimizer, optimizer_class, put_back, state_of
from .ours import check_out
from .output import State, read_log, read_state, told_of, write_log, write_lora, write_state
from .plot import write_plot
from .processes import ALONE, Processes
from .schedule import boundary_share
from .settings import HOW, Settings
from .streaming import Ring

if TYPE_CHECKING:
    from .shards import Shards


@dataclass(frozen=True)
class Report:
    """How a run tells what it does, and hears that it is to stop."""

    part: Callable[[str], None] = lambda name: None
    step: Callable[[int, int], None] = lambda done, of: None
    notice: Callable[[str], None] = lambda text: None
    look: Callable[[], None] = lambda: None  # called before each layer; what it raises ends the run


QUIET = Report()


@dataclass
class Run:
    """A run at work: what it is made of, and how far it is."""

    settings: Settings
    base: Base
    device: torch.device
    cache: Cache
    entries: list[Entry]
    nothing: str  # the key of no caption's features
    share: float
    out: Path
    said: dict[str, Any]
    report: Report
    processes: Processes = ALONE
    models: dict[str, JointModel] = field(default_factory=dict)
    rings: dict[str, Ring] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    optimizer: Any = None
    done: int = 0  # steps
    settled: bool = True  # False while the optimizer is at work: half a step must not be saved
    records: list[dict[str, Any]] = field(default_factory=list)
    at_work: str | None = None  # the expert whose weights are on the device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return PLAIN[self.settings.dtype].dtype


def state_path(out: Path) -> Path:
    """Where what is needed to go on is kept, beside the LoRA."""
    return out.with_name(out.name + ".unfinished")  # an ending of which no list of LoRAs holds files


def begin_run(
    base: Base,
    cache: Cache,
    settings: Settings,
    out: Path,
    device: torch.device,
    resume: bool = False,
    report: Report = QUIET,
    processes: Processes = ALONE,
) -> Run:
    """A run that is ready for its steps; with `resume`, it goes on with what an earlier one has kept. On several GPUs
    each process calls it, and all that follows.

    Raises MovaError as plan_run and load_run do.
    """
    run = plan_run(base, cache, settings, out, device, report, processes)
    load_run(run, resume)
    return run


def plan_run(
    base: Base,
    cache: Cache,
    settings: Settings,
    out: Path,
    device: torch.device,
    report: Report = QUIET,
    processes: Processes = ALONE,
) -> Run:
    """A run of which nothing is loaded yet.

    Raises MovaError for clips of another model, a missing optimizer, or somebody else's files where it writes.
    """
    optimizer_class(settings.optimizer)
    check_out(out)
    entries, nothing, _ = cache.index()
    check_items(base.config, cache, entries, nothing)
    said = identity(base, entries, settings, processes)
    share = boundary_share(base.boundary)
    return Run(settings, base, device, cache, entries, nothing, share, out, said, report, processes)


def load_run(run: Run, resume: bool) -> None:
    """Load what the run needs. Raises MovaError if it has no room, or if what is kept is of another run."""
    settings, out, report, device = run.settings, run.out, run.report, run.device
    kept = read_kept(run) if resume else None
    if not resume and state_path(out).exists():
        report.notice(f"{state_path(out)} is of a run that was stopped (--resume goes on with it); it is replaced.")
    report.notice(check_room(run.base.config, settings, largest(run), free_on(device) or None, run.processes.count))
    run.models = run.base.load(settings, device, report.part, shards_of(run))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for expert, model in run.models.items():
            run.parameters |= add_lora(model, expert, settings.targets, settings.rank, settings.alpha, settings.parts)
            run.rings[expert] = Ring(model, device, settings.resident_layers)
    run.optimizer = make_optimizer(settings, run.parameters.values())
    if kept is not None:
        restore(run, kept)


def shards_of(run: Run) -> "Shards | None":
    """What divides the frozen matrices. Raises MovaError if they should be, and there is one process only."""
    if not run.settings.shard_weights:
        return None
    if run.processes.count == 1:
        raise MovaError(
            "--shard-weights divides the weights among several GPUs, and this is one process; start it with "
            "accelerate launch, or leave it out."
        )
    from .shards import Shards

    return Shards(run.processes, run.device)


def identity(base: Base, entries: list[Entry], settings: Settings, processes: Processes = ALONE) -> dict[str, Any]:
    """What makes a run the run that it is: of the processes, only how many clips a step has in all."""
    clips = key_of([(entry.clip, entry.text) for entry in entries])
    told = {**settings.to_dict(), "accumulation": settings.accumulation * processes.count}
    return {**told, "clips": clips, "weights": base.weights}


def differences(run: Run, said: Mapping[str, Any]) -> list[str]:
    """In what another run, by what was said of it, is another one."""
    return [name for name in run.said if name not in HOW and said.get(name) != run.said[name]]


def largest(run: Run) -> Clip:
    """The clip that needs the most memory."""
    patch = math.prod(run.base.config.video_dit.patch_size)
    clips = [run.cache.infos(run.cache.clip_path(entry.clip)) for entry in run.entries]
    return Clip(*max((math.prod(one["video"].shape[1:]) // patch, one["audio"].shape[1]) for one in clips))


def read_kept(run: Run) -> State:
    path = state_path(run.out)
    if not path.exists():
        told = told_of(open_file(run.out)) if run.out.exists() else {}
        if told.get("steps_done") == run.settings.steps and not differences(run, told):
            raise MovaError(f"{run.out} is of a run that is finished; nothing is left to do.")
        raise MovaError(f"Nothing is kept of a run for {run.out} ({path} is not there); leave out --resume.")
    state = read_state(path)
    if others := differences(run, state.said):
        raise MovaError(
            f"{path} is of a run with another {' and another '.join(others)}; give what that run was given, or leave "
            "out --resume."
        )
    return state


def restore(run: Run, state: State) -> None:
    """Put a kept run's values in place."""
    same = state.parameters.keys() == run.parameters.keys() and 0 <= state.step <= run.settings.steps
    if not same or not all(is_kept(run, state, name) for name in run.parameters):
        raise MovaError(f"{state_path(run.out)} does not fit these settings; leave out --resume.")
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(state.parameters[name])
            if name in state.optimizer:
                put_back(run.optimizer, parameter, state.optimizer[name])
    run.done = state.step
    run.records = read_log(run.out.with_suffix(".csv"), state.step)


def is_kept(run: Run, state: State, name: str) -> bool:
    """Whether a parameter's values, and the optimizer's for it, can be put in place."""
    given, parameter = state.parameters[name], run.parameters[name]
    if given.shape != parameter.shape or not given.is_floating_point() or not given.isfinite().all():
        return False
    return name not in state.optimizer or fits(run.optimizer, parameter, state.optimizer[name])


def save_run(run: Run) -> None:
    """Write the LoRA, the table and the picture of the losses, and what is needed to go on: all whole.

    Raises MovaError if the disk refuses. Of table and picture, which are to look at, that is told, and the run goes on:
    another program may hold them open.
    """
    if not run.processes.first:
        return
    for write, suffix in ((write_log, ".csv"), (write_plot, ".png")):
        try:
            write(run.out.with_suffix(suffix), run.records)
        except MovaError as error:
            run.report.notice(str(error))
    write_lora(run.out, run.parameters, run.settings.alpha, told(run))
    optimizer = {name: state_of(run.optimizer, parameter) for name, parameter in run.parameters.items()}
    write_state(state_path(run.out), State(run.done, run.said, dict(run.parameters), optimizer))


def told(run: Run) -> dict[str, Any]:
    """A LoRA's metadata."""
    from .. import __version__

    return {**run.said, "steps_done": run.done, "clips_trained": len(run.entries), "mova": __version__}


def seen_through(run: Run, expert: str) -> Model:
    """The expert's model as the settings have it computed; another one's weights leave the device."""
    if run.at_work != expert:
        leave_device(run)
    run.at_work = expert
    kind, model, ring = run.settings.checkpoints, run.models[expert], run.rings[expert]
    in_ram = run.settings.offload_activations

    def run_layer(index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        run.report.look()
        return ring(index, layer, video, audio)

    return checkpointed(model, layers=kind != "none", pieces=kind == "pieces", in_ram=in_ram, inside=run_layer)


def leave_device(run: Run) -> None:
    """Leave no expert's matrices there."""
    if run.at_work is not None:
        run.rings[run.at_work].clear()
    run.at_work = None
