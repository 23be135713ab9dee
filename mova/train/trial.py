"""Clips that are made with the LoRA as it is, to see and hear what it has learned."""

from pathlib import Path

import torch
from torch import Tensor

from ..clip.media import write_clip
from ..clip.pipeline import decode_audio, decode_video
from ..clip.runtime import Runtime
from ..errors import MovaError
from ..sampling.conditioning import audio_samples
from ..sampling.euler import Velocity, euler
from ..sampling.finite import NotFinite
from ..sampling.guidance import Guidance, guided
from ..sampling.schedule import low_noise_start, sigmas
from .cache import Entry, Item
from .draws import noises
from .run import Run, leave_device, seen_through

TRIALS = 2  # of the first clips
GUIDANCE = Guidance()  # the release's


def trial_path(out: Path, step: int, number: int) -> Path:
    return out.with_name(f"{out.stem}_step{step:06}_{number}.mp4")


@torch.no_grad()
def write_trials(run: Run) -> None:
    """For each of the first clips: its first frame and caption, noise that is the same every time, and the release's
    schedule. What cannot be made is told, and the run goes on."""
    for number, entry in enumerate(run.entries[:TRIALS], 1):
        path = trial_path(run.out, run.done, number)
        try:
            write_trial(run, entry, path)
        except (NotFinite, MovaError) as error:
            run.report.notice(f"{path.name} could not be made: {error}")


def write_trial(run: Run, entry: Entry, path: Path) -> None:
    item, checkpoint = run.cache.item(entry.clip), run.base.checkpoint
    if checkpoint is None:
        raise MovaError("there are no decoders")
    schedule, steps = checkpoint.schedule, run.settings.sample_steps
    table = sigmas(steps, schedule.shift, sigma_min=schedule.sigma_min, extra_one_step=schedule.extra_one_step)
    switch = low_noise_start(table, checkpoint.boundary)
    video, audio = (noise.to(run.device) for noise in noises(item, f"trial/{entry.clip}"))
    for expert, begin, end in zip(run.settings.trained, (0, switch), (switch, steps), strict=True):
        if begin < end:
            stage = table[begin : end + 1]
            video, audio = euler(velocity(run, expert, item, entry), video, audio, stage, stage)
    leave_device(run)  # there may be no room for the decoders beside an expert's layers
    if not run.processes.first:
        return
    where = Runtime(run.device, run.dtype, part=run.report.part)
    frames, waveform = decode_video(checkpoint, where, video), decode_audio(checkpoint, where, audio)
    rate = checkpoint.audio_vae.sample_rate
    write_clip(path, frames, item.fps, waveform[:, : audio_samples(len(frames), item.fps, rate)], rate)


def velocity(run: Run, expert: str, item: Item, entry: Entry) -> Velocity:
    """What the sampler follows, with guidance away from no caption."""
    model, condition = seen_through(run, expert), item.condition.to(run.device)
    texts = [run.models[expert].embed_text(run.cache.text(key).to(run.device)) for key in (entry.text, run.nothing)]

    def at(video: Tensor, audio: Tensor, video_time: float, audio_time: float) -> tuple[Tensor, Tensor]:
        x = torch.cat([video, condition], dim=1)
        times = [torch.tensor([time], device=run.device) for time in (video_time, audio_time)]
        return guided(lambda positive, _: model(x, audio, *times, texts[not positive], item.fps), GUIDANCE)

    return at
