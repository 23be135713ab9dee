"""From noise to latents: each expert's steps, with one expert in memory at a time."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..checkpoint.release import EXPERT_FOLDERS, JOINT, Checkpoint
from ..checkpoint.weights import assign, check_finite
from ..errors import MovaError
from ..lora.plan import Plan, read_changed
from ..model.joint import JointModel
from ..model.teacher import check_first
from ..sampling.audio_steps import between
from ..sampling.conditioning import audio_latents, latent_frames
from ..sampling.euler import euler
from ..sampling.finite import NotFinite
from ..sampling.schedule import low_noise_start, sigmas
from .request import Request
from .rescue import Keep, Run, no_keeping
from .runtime import Runtime, begin, layers_for
from .velocity import Teacher, Velocities

NO_LORAS: Plan = {}


def starting_noise(checkpoint: Checkpoint, request: Request) -> tuple[Tensor, Tensor]:
    """Standard normal latents of both modalities, drawn on the CPU, video first, so that a seed means one thing."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    vae = checkpoint.audio_vae
    length = audio_latents(request.frames, request.fps, vae.sample_rate, vae.hop)
    size = (latent_frames(request.frames), request.height // 8, request.width // 8)
    video = torch.randn(1, checkpoint.config.video_dit.out_dim, *size, generator=generator)
    return video, torch.randn(1, vae.latent_dim, length, generator=generator)


def latents_of(checkpoint: Checkpoint, request: Request, done: Run) -> list[Tensor]:
    """Video and audio of a run that was kept. Raises MovaError if they are not of this request."""
    latents = [done.latents[name] for name in ("video", "audio") if name in done.latents]
    shapes = [noise.shape for noise in starting_noise(checkpoint, request)]
    if done.steps != request.steps or [latent.shape for latent in latents] != shapes:
        raise MovaError("What was kept of a run is of another size or number of steps; give the same, or begin anew.")
    return latents


def load_shared(checkpoint: Checkpoint, runtime: Runtime, loras: Plan = NO_LORAS) -> JointModel:
    """The joint model with the audio tower and the bridge; the video expert is still missing."""
    operations, kernels = layers_for(runtime)
    model = JointModel(checkpoint.config, device="meta", operations=operations, kernels=kernels)
    for part in JOINT:
        changed = read_changed(checkpoint.weights[part], loras.get(part, {}), runtime.dtype, runtime.device)
        assign(model.get_submodule(part), changed)
    return model


def load_expert(model: JointModel, checkpoint: Checkpoint, runtime: Runtime, part: str, loras: Plan = NO_LORAS) -> None:
    """Put an expert into the model, tensor by tensor in place of the one that was there."""
    assign(model, read_changed(checkpoint.weights[part], loras.get(part, {}), runtime.dtype, runtime.device))


def load_teacher(model: JointModel, checkpoint: Checkpoint, runtime: Runtime, part: str, first: int) -> JointModel:
    """An expert without LoRAs, of which only what a teacher needs is loaded; audio tower and bridge are the model's."""
    check_first(first, checkpoint.config.dual_tower_bridge)
    last = max(checkpoint.config.dual_tower_bridge.layers)
    operations, kernels = layers_for(runtime)
    teacher = JointModel(checkpoint.config, device="meta", operations=operations, kernels=kernels)
    teacher.audio_dit, teacher.dual_tower_bridge = model.audio_dit, model.dual_tower_bridge

    def is_needed(name: str) -> bool:
        where, _, rest = name.partition(".")
        return first <= int(rest.split(".")[0]) < last if where == "blocks" else where != "head"

    weights = checkpoint.weights[part]
    assign(teacher, weights.read([name for name in weights.tensors if is_needed(name)], runtime.dtype, runtime.device))
    return teacher


def denoise(
    checkpoint: Checkpoint,
    request: Request,
    runtime: Runtime,
    prompts: list[Tensor],
    condition: Tensor,
    loras: Plan = NO_LORAS,
    keep: Keep = no_keeping,
    done: Run | None = None,
) -> tuple[Tensor, Tensor]:
    """The high-noise expert's steps, then the low-noise one's. Returns video and audio latents, float32.

    prompts: of pipeline.encode_prompts. The negative prompt is both towers' (as in Prism's published pipeline).

    keep, done: see pipeline.generate.
    """
    settings = checkpoint.schedule
    shifts = [settings.shift if shift is None else shift for shift in (request.video_shift, request.audio_shift)]
    video_sigmas, audio_sigmas = (
        sigmas(request.steps, shift, sigma_min=settings.sigma_min, extra_one_step=settings.extra_one_step)
        for shift in shifts
    )
    boundary = checkpoint.boundary if request.boundary is None else request.boundary
    switch = low_noise_start(video_sigmas, boundary)
    given = starting_noise(checkpoint, request) if done is None else latents_of(checkpoint, request, done)
    video, audio = (latent.to(runtime.device) for latent in given)
    begin(runtime, "audio tower and bridge")
    model = load_shared(checkpoint, runtime, loras)
    for part, begin_at, end in zip(EXPERT_FOLDERS, (0, switch), (switch, request.steps), strict=True):
        first = begin_at if done is None else max(begin_at, done.step)
        if first >= end:
            continue
        name = f"{'high' if part == EXPERT_FOLDERS[0] else 'low'}-noise expert"
        begin(runtime, name)
        load_expert(model, checkpoint, runtime, part, loras)
        positive, negative, *heard = prompts
        texts = [model.embed_text(positive, *heard), model.embed_text(negative)]
        stage = slice(first, end + 1)

        def after(step: int, video: Tensor, audio: Tensor, first: int = first) -> None:
            keep(first + step + 1, {"video": video, "audio": audio})
            runtime.step(first + step + 1, request.steps)

        velocities = Velocities(model, texts, condition, request, video_sigmas)
        if request.audio_teacher is not None and request.audio_steps > 1:
            begin(runtime, f"{name} without LoRAs")
            without = load_teacher(model, checkpoint, runtime, part, request.audio_teacher)
            told = [without.embed_text(positive, *heard), without.embed_text(negative)]
            velocities.teacher = Teacher(without, told, request.audio_teacher)
        own = partial(between, audio_sigmas[stage], count=request.audio_steps, shift=shifts[1])
        alone = None if request.audio_steps == 1 else (own, velocities.audio)
        try:
            video, audio = euler(
                velocities.joint,
                video,
                audio,
                video_sigmas[stage],
                audio_sigmas[stage],
                callback=after,
                cancelled=runtime.cancelled,
                alone=alone,
            )
        except NotFinite as error:
            where = f" in step {first + error.step + 1} of {request.steps}"
            changed = any(loras.get(p) for p in (part, *JOINT))
            raise not_finite(checkpoint, name, error.parts, [part, *JOINT], where, changed) from None
        finally:
            velocities.close()
            velocities.teacher = None
    return video, audio


def check_made(checkpoint: Checkpoint, what: str, made: Mapping[str, Tensor], parts: Sequence[str]) -> None:
    """Raise MovaError if one of the tensors `made` by `parts` of the model holds NaN or infinite values.

    Called once a part, since it waits for the device.
    """
    faulty = [name for name, tensor in made.items() if not tensor.isfinite().all()]
    if faulty:
        raise not_finite(checkpoint, what, faulty, parts)


def not_finite(
    checkpoint: Checkpoint, what: str, faulty: Sequence[str], parts: Sequence[str], where: str = "", loras: bool = False
) -> MovaError:
    """What to tell of NaN or infinite values that parts of the model made: only now are the weights looked through."""
    for part in parts:
        check_finite(checkpoint.weights[part])
    of = "finite weights changed by LoRAs" if loras else "finite weights"
    remedy = "lower the strength of the LoRAs, or use --dtype" if loras else "use --dtype"
    return MovaError(
        f"The {what} made NaN or infinite values{where} ({' and '.join(faulty)}) of {of}; {remedy} bf16 or fp32."
    )
