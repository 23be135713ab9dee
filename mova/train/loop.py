"""The steps of a training run, over both experts."""

import contextlib
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import MovaError, first_line, memory_is_full
from .cache import Item
from .draws import draw, fixed_timesteps, noises
from .losses import Model, velocity_losses
from .run import Run, save_run, seen_through, state_path
from .schedule import learning_rate
from .trial import write_trials

VALIDATED = 4  # clips at most
EXPERT_WORDS = {"video_dit": "high noise", "video_dit_2": "low noise"}


def go(run: Run) -> None:
    """All steps that are left. At the end the LoRA is there, and what was kept to go on is removed.

    Whatever stops it, the steps that are done are saved first, if that is possible; at a kill or a power cut those
    since the last save are lost. Raises MovaError if memory runs out, or if the loss is no number any more.
    """
    settings = run.settings
    run.report.step(run.done, settings.steps)
    try:
        validate(run)  # a run may have been stopped between a step and this
        while run.done < settings.steps:
            one_step(run)
            validate(run)
            run.report.step(run.done, settings.steps)
            if run.done % settings.save_every == 0 and run.done < settings.steps:
                save_run(run)
            if settings.sample_every and run.done % settings.sample_every == 0:
                write_trials(run)
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
    if run.processes.first:
        with contextlib.suppress(OSError):  # another program may have it open: it would go on to the same end
            state_path(run.out).unlink(missing_ok=True)


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
    clips = settings.accumulation * run.processes.count
    drawn = replace(settings, accumulation=clips)
    video_loss = audio_loss = heard = 0.0
    timestep = 0.0
    for part in range(run.processes.index, clips, run.processes.count):
        chosen = draw(drawn, len(run.entries), run.share, step, part)
        entry = run.entries[chosen.clip]
        item = run.cache.item(entry.clip)
        text = run.nothing if chosen.without_caption else entry.text
        video, audio = losses_of(run, model, item, text, chosen.timestep, chosen.noise_seed)
        loss = video + audio if item.sound else video
        (loss / clips).backward()
        timestep += chosen.timestep / clips
        video_loss += video.item() / clips
        if item.sound:
            audio_loss += audio.item()
            heard += 1
    run.processes.sum_gradients(run.parameters.values())
    told = run.processes.sum_numbers([timestep, video_loss, audio_loss, heard], run.device)
    timestep, video_loss, audio_loss, heard = told
    record: dict[str, Any] = {"step": step, "expert": expert, "lr": rate, "timestep": timestep}
    record["video_loss"] = video_loss
    if heard:
        record["audio_loss"] = audio_loss / heard
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
    run.records.append(record)
    run.settled = True
    run.report.part(f"{EXPERT_WORDS[expert]} {record['video_loss'] + record.get('audio_loss', 0.0):.4f}")


def validate(run: Run) -> None:
    """Measure the loss at fixed timesteps, if it is due and not done."""
    every, last = run.settings.validate_every, run.records[-1:]
    if every and run.done % every == 0 and last and not last[0].get("validation"):
        last[0]["validation"] = validation_loss(run)


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
