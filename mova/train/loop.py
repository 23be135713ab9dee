"""The training run: steps over both experts, saved so that it can go on from any of them."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint.formats import PLAIN
from ..checkpoint.release import JOINT, Checkpoint
from ..errors import MovaError, first_line, memory_is_full
from ..model.joint import JointModel
from .cache import Cache, Entry, Item, key_of, weights_key
from .checkpointing import checkpointed
from .draws import draw, fixed_timesteps, noises
from .experts import load_experts
from .lora import add_lora
from .losses import Model, velocity_losses
from .output import State, read_log, read_state, write_log, write_lora, write_state
from .plot import write_plot
from .schedule import boundary_share, learning_rate
from .settings import HOW, Settings
from .streaming import Ring

VALIDATED = 4  # clips at most
EXPERT_WORDS = {"video_dit": "high noise", "video_dit_2": "low noise"}


@dataclass(frozen=True)
class Report:
    """How a run tells what it does."""

    part: Callable[[str], None] = lambda name: None
    step: Callable[[int, int], None] = lambda done, of: None
    notice: Callable[[str], None] = lambda text: None


QUIET = Report()


@dataclass
class Run:
    """A run at work: what it is made of, and how far it is."""

    settings: Settings
    device: torch.device
    cache: Cache
    entries: list[Entry]
    nothing: str  # the key of no caption's features
    share: float
    out: Path
    said: dict[str, Any]
    report: Report
    models: dict[str, JointModel] = field(default_factory=dict)
    rings: dict[str, Ring] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    optimizer: Any = None
    done: int = 0  # steps
    settled: bool = True  # False while the optimizer is at work: half a step must not be saved
    records: list[dict[str, Any]] = field(default_factory=list)
    at_work: str | None = None  # the expert whose weights are on the device


def state_path(out: Path) -> Path:
    """Where what is needed to go on is kept, beside the LoRA."""
    return out.with_suffix(".unfinished.safetensors")


def begin_run(
    checkpoint: Checkpoint,
    cache: Cache,
    settings: Settings,
    out: Path,
    device: torch.device,
    resume: bool = False,
    report: Report = QUIET,
) -> Run:
    """Load what the run needs; with `resume`, go on with what an earlier one has kept.

    Raises MovaError for clips of another model, and if what is kept is of another run.
    """
    entries, nothing, _ = cache.index()
    check_items(checkpoint, cache, entries)
    said = identity(checkpoint, entries, settings)
    run = Run(settings, device, cache, entries, nothing, boundary_share(checkpoint.boundary), out, said, report)
    kept = read_kept(run) if resume else None
    if not resume and state_path(out).exists():
        report.notice(f"{state_path(out)} is of a run that was stopped (--resume goes on with it); it is replaced.")
    dtype = PLAIN[settings.dtype].dtype
    run.models = load_experts(checkpoint, settings.trained, settings.base, dtype, device, report.part)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for expert, model in run.models.items():
            run.parameters |= add_lora(model, expert, settings.targets, settings.rank, settings.alpha, settings.parts)
            run.rings[expert] = Ring(model, device, settings.resident_layers)
    run.optimizer = torch.optim.AdamW(run.parameters.values(), settings.lr, weight_decay=settings.weight_decay)
    if kept is not None:
        restore(run, kept)
    return run


def identity(checkpoint: Checkpoint, entries: list[Entry], settings: Settings) -> dict[str, Any]:
    """What makes a run the run that it is."""
    weights = [weights_key(checkpoint.weights[part]) for part in (*settings.trained, *JOINT)]
    clips = key_of([(entry.clip, entry.text) for entry in entries])
    return {**settings.to_dict(), "clips": clips, "weights": key_of(weights)}


def check_items(checkpoint: Checkpoint, cache: Cache, entries: list[Entry]) -> None:
    """Raise MovaError if a prepared clip is of another model's latents."""
    config = checkpoint.config
    wanted = {"video": config.video_dit.out_dim, "audio": config.audio_dit.out_dim}
    for entry in entries:
        item = cache.item(entry.clip)
        found = {"video": item.video.shape[1], "audio": item.audio.shape[1]}
        text = cache.text(entry.text).shape[2]
        if found != wanted or text != config.video_dit.text_dim:
            raise MovaError(f"{cache.folder} was prepared for another model ({entry.name}); prepare the clips again.")


def read_kept(run: Run) -> State:
    path = state_path(run.out)
    if not path.exists():
        raise MovaError(f"Nothing is kept of a run for {run.out} ({path} is not there); leave out --resume.")
    state = read_state(path)
    others = [name for name in run.said if name not in HOW and state.said.get(name) != run.said[name]]
    if others:
        raise MovaError(
            f"{path} is of a run with another {' and another '.join(others)}; give what that run was given, or leave "
            "out --resume."
        )
    return state


def restore(run: Run, state: State) -> None:
    """Put a kept run's values in place."""
    if state.parameters.keys() != run.parameters.keys() or not 0 <= state.step <= run.settings.steps:
        raise MovaError(f"{state_path(run.out)} does not fit these settings; leave out --resume.")
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(state.parameters[name])
            if name in state.optimizer:
                values = state.optimizer[name].items()  # AdamW counts its steps on the processor
                moved = {key: value if key == "step" else value.to(run.device) for key, value in values}
                run.optimizer.state[parameter] = moved
    run.done = state.step
    run.records = read_log(run.out.with_suffix(".csv"), state.step)


def save_run(run: Run) -> None:
    """Write the LoRA, the table and the picture of the losses, and what is needed to go on: all whole."""
    write_log(run.out.with_suffix(".csv"), run.records)
    write_plot(run.out.with_suffix(".png"), run.records)
    write_lora(run.out, run.parameters, run.settings.alpha, told(run))
    optimizer = {
        name: {key: torch.as_tensor(value) for key, value in run.optimizer.state[parameter].items()}
        for name, parameter in run.parameters.items()
        if parameter in run.optimizer.state
    }
    write_state(state_path(run.out), State(run.done, run.said, dict(run.parameters), optimizer))


def told(run: Run) -> dict[str, Any]:
    """A LoRA's metadata."""
    from .. import __version__

    return {**run.said, "steps_done": run.done, "clips_trained": len(run.entries), "mova": __version__}


def go(run: Run) -> None:
    """All steps that are left. At the end the LoRA is there, and what was kept to go on is removed.

    Whatever stops it, the steps that are done are saved first, if that is possible; at a kill or a power cut those
    since the last save are lost. Raises MovaError if memory runs out, or if the loss is no number any more.
    """
    settings = run.settings
    run.report.step(run.done, settings.steps)
    try:
        while run.done < settings.steps:
            one_step(run)
            run.report.step(run.done, settings.steps)
            if run.done % settings.save_every == 0 and run.done < settings.steps:
                save_run(run)
    except BaseException as error:
        if run.settled:
            with contextlib.suppress(MovaError):  # of a full disk the first error tells
                save_run(run)
        if isinstance(error, RuntimeError | MemoryError) and memory_is_full(error):
            raise MovaError(
                f"The memory of {run.device} is full; take --checkpoints pieces, --offload-activations, --base fp8, or "
                f"smaller clips ({first_line(error)})"
            ) from error
        raise
    finally:
        for ring in run.rings.values():
            ring.close()
    save_run(run)
    state_path(run.out).unlink(missing_ok=True)


def seen_through(run: Run, expert: str) -> Model:
    """The expert's model as the settings have it computed; another one's weights leave the device."""
    if run.at_work not in (None, expert):
        run.rings[str(run.at_work)].clear()
    run.at_work = expert
    kind, model, ring = run.settings.checkpoints, run.models[expert], run.rings[expert]
    in_ram = run.settings.offload_activations
    return checkpointed(model, layers=kind != "none", pieces=kind == "pieces", in_ram=in_ram, inside=ring)


def losses_of(run: Run, model: Model, item: Item, text: str, timestep: float, seed: object) -> tuple[Tensor, Tensor]:
    def here(x: Tensor) -> Tensor:
        return x.to(run.device)

    video_noise, audio_noise = map(here, noises(item, seed))
    time = here(torch.tensor([timestep]))
    return velocity_losses(
        model,
        here(item.video),
        here(item.audio),
        here(item.condition),
        here(run.cache.text(text)),
        video_noise,
        audio_noise,
        time,
        time,
        item.fps,
    )


def one_step(run: Run) -> None:
    settings, step = run.settings, run.done
    expert = settings.expert_of(step)
    model = seen_through(run, expert)
    rate = learning_rate(settings.lr_schedule, step, settings.lr, settings.warmup_steps, settings.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad(set_to_none=True)
    record: dict[str, Any] = {"step": step, "expert": expert, "lr": rate, "video_loss": 0.0}
    heard = 0
    for part in range(settings.accumulation):
        chosen = draw(settings, len(run.entries), run.share, step, part)
        entry = run.entries[chosen.clip]
        item = run.cache.item(entry.clip)
        text = run.nothing if chosen.without_caption else entry.text
        video, audio = losses_of(run, model, item, text, chosen.timestep, chosen.noise_seed)
        loss = video + audio if item.sound else video
        (loss / settings.accumulation).backward()
        record["timestep"] = chosen.timestep
        record["video_loss"] += video.item() / settings.accumulation
        if item.sound:
            record["audio_loss"] = record.get("audio_loss", 0.0) + audio.item()
            heard += 1
    if heard:
        record["audio_loss"] /= heard
    length = torch.nn.utils.clip_grad_norm_(run.parameters.values(), settings.clip)
    record["grad_norm"] = length.item()
    if not math.isfinite(record["grad_norm"]):
        raise MovaError(
            f"The gradients of step {step + 1} are no numbers any more; lower --lr, or use --dtype bf16 or fp32 (the "
            f"{step} steps before it are saved)."
        )
    run.settled = False
    run.optimizer.step()
    run.done += 1
    run.settled = True
    if settings.validate_every and run.done % settings.validate_every == 0:
        record["validation"] = validation_loss(run)
    run.records.append(record)
    run.report.part(f"{EXPERT_WORDS[expert]} {record['video_loss'] + record.get('audio_loss', 0.0):.4f}")


@torch.no_grad()
def validation_loss(run: Run) -> float:
    """The mean over the first clips, at timesteps and with noise that are the same every time."""
    found = []
    for expert in run.settings.trained:
        model = seen_through(run, expert)
        for entry in run.entries[:VALIDATED]:
            item = run.cache.item(entry.clip)
            for timestep in fixed_timesteps(expert, run.share):
                losses = losses_of(run, model, item, entry.text, timestep, f"fixed/{entry.clip}")
                found.append(sum(loss.item() for loss in losses[: 1 + item.sound]))
    return sum(found) / len(found)
