"""From a prompt and pictures to frames and sound, with one part of the model in memory at a time."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import __version__
from ..checkpoint.hub_record import release_name
from ..checkpoint.release import EXPERT_FOLDERS, JOINT, Checkpoint
from ..checkpoint.weights import assign, check_finite
from ..errors import MovaError, first_line
from ..lora.plan import LoraChoice, Plan, plan, read_changed
from ..model import text, video_vae
from ..model.audio_vae import AudioVAE, plain_weights
from ..model.joint import JointModel, Text
from ..model.presets import DEFAULT
from ..sampling.conditioning import audio_latents, audio_samples, check_fps, check_size, image_condition, latent_frames
from ..sampling.euler import euler
from ..sampling.finite import NotFinite
from ..sampling.guidance import Guidance, guided
from ..sampling.schedule import is_boundary, low_noise_start, sigmas
from .runtime import Runtime, begin, layers_for

NO_LORAS: Plan = {}
# What torch says of a device that is full: CUDA and MPS, and the CPU's allocator on Windows and elsewhere.
FULL = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class Request:
    """What to generate. Shifts and boundary: None takes the checkpoint's."""

    prompt: str
    negative_prompt: str = text.NEGATIVE_PROMPT
    image: Image.Image | None = None
    end_image: Image.Image | None = None
    text_only_frame: str = "white"
    width: int = DEFAULT.width
    height: int = DEFAULT.height
    frames: int = DEFAULT.frames
    fps: float = DEFAULT.fps
    steps: int = DEFAULT.steps
    guidance: Guidance = dataclasses.field(default_factory=lambda: Guidance(DEFAULT.guidance))
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary: float | None = None
    seed: int = 42
    loras: tuple[LoraChoice, ...] = ()

    def check(self) -> None:
        """Raise MovaError for a value out of range. Nothing needs to be loaded for that."""
        if not self.prompt.strip():
            raise MovaError("The prompt is empty; say what should be seen and heard.")
        check_size(self.width, self.height, self.frames)
        check_fps(self.fps)
        for shift in (self.video_shift, self.audio_shift):
            sigmas(self.steps, DEFAULT.shift if shift is None else shift)
        if self.boundary is not None and not is_boundary(self.boundary):
            raise MovaError(f"The boundary is {self.boundary}; it must be from 0 to 1, as {DEFAULT.boundary}.")
        if not 0 <= self.seed < 2**64:
            raise MovaError(f"The seed is {self.seed}; it must be from 0 to 2^64 - 1.")
        if self.end_image is not None and self.frames == 1:
            raise MovaError("A clip of one frame has no last frame apart from its first; leave the end image out.")
        for lora in self.loras:
            lora.check()


@dataclass(frozen=True)
class Result:
    """frames [F, H, W, 3] uint8; waveform [1, N] in -1..1, cut to the frames; latents as the model left them."""

    frames: Tensor
    waveform: Tensor
    sample_rate: int
    video_latent: Tensor
    audio_latent: Tensor


@torch.inference_mode()
def generate(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> Result:
    """Run the whole model. Raises MovaError for wrong values, Cancelled if runtime.cancelled() becomes true."""
    request.check()
    layers_for(runtime)
    loras, told = plan(request.loras, checkpoint.config)
    for line in told:
        runtime.notice(line)
    try:
        prompts = encode_prompts(checkpoint, request, runtime)
        condition = encode_images(checkpoint, request, runtime)
        video, audio = denoise(checkpoint, request, runtime, prompts, condition, loras)
        frames = decode_video(checkpoint, runtime, video)
        waveform = decode_audio(checkpoint, runtime, audio)
    except RuntimeError as error:
        if not any(words in str(error) for words in FULL):
            raise
        raise MovaError(
            f"The memory of {runtime.device} is full; take fewer frames, a smaller size or tiles for the video VAE "
            f"({first_line(error)})"
        ) from error
    rate = checkpoint.audio_vae.sample_rate
    waveform = waveform[:, : audio_samples(request.frames, request.fps, rate)]
    return Result(frames, waveform, rate, video, audio)


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


def encode_prompts(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> list[Tensor]:
    """UMT5 features of the prompt and the negative prompt, each [1, 512, width]."""
    begin(runtime, "text encoder")
    tokenizer = text.load_tokenizer(checkpoint.root / "tokenizer")
    encoder = text.load_encoder(checkpoint.root / "text_encoder", runtime.dtype, runtime.device)
    prompts = text.encode(tokenizer, encoder, [request.prompt, request.negative_prompt])
    made = dict(zip(("the prompt", "the negative prompt"), prompts, strict=True))
    check_made(checkpoint, "text encoder", made, ["text_encoder"])
    return prompts


def load_video_vae(checkpoint: Checkpoint, runtime: Runtime) -> Any:
    vae = video_vae.load(checkpoint.root / "video_vae", runtime.dtype, runtime.device)
    if runtime.tiled_vae:
        vae.enable_tiling()
    return vae


def encode_images(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> Tensor:
    """The 20 condition channels [1, 20, T, H / 8, W / 8]."""
    begin(runtime, "video VAE, encoding")
    vae = load_video_vae(checkpoint, runtime)
    condition = image_condition(
        lambda clip: video_vae.encode(vae, clip),
        request.width,
        request.height,
        request.frames,
        request.image,
        request.end_image,
        request.text_only_frame,
    )
    check_made(checkpoint, "video VAE", {"the pictures' latents": condition}, ["video_vae"])
    return condition


def starting_noise(checkpoint: Checkpoint, request: Request) -> tuple[Tensor, Tensor]:
    """Standard normal latents of both modalities, drawn on the CPU, video first, so that a seed means one thing."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    vae = checkpoint.audio_vae
    length = audio_latents(request.frames, request.fps, vae.sample_rate, vae.hop)
    size = (latent_frames(request.frames), request.height // 8, request.width // 8)
    video = torch.randn(1, checkpoint.config.video_dit.out_dim, *size, generator=generator)
    return video, torch.randn(1, vae.latent_dim, length, generator=generator)


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


def denoise(
    checkpoint: Checkpoint,
    request: Request,
    runtime: Runtime,
    prompts: list[Tensor],
    condition: Tensor,
    loras: Plan = NO_LORAS,
) -> tuple[Tensor, Tensor]:
    """The high-noise expert's steps, then the low-noise one's. Returns video and audio latents, float32."""
    settings = checkpoint.schedule
    shifts = [settings.shift if shift is None else shift for shift in (request.video_shift, request.audio_shift)]
    video_sigmas, audio_sigmas = (
        sigmas(request.steps, shift, sigma_min=settings.sigma_min, extra_one_step=settings.extra_one_step)
        for shift in shifts
    )
    boundary = checkpoint.boundary if request.boundary is None else request.boundary
    switch = low_noise_start(video_sigmas, boundary)
    video, audio = (noise.to(runtime.device) for noise in starting_noise(checkpoint, request))
    begin(runtime, "audio tower and bridge")
    model = load_shared(checkpoint, runtime, loras)
    for part, first, end in zip(EXPERT_FOLDERS, (0, switch), (switch, request.steps), strict=True):
        if first == end:
            continue
        name = f"{'high' if part == EXPERT_FOLDERS[0] else 'low'}-noise expert"
        begin(runtime, name)
        load_expert(model, checkpoint, runtime, part, loras)
        texts = [model.embed_text(prompt) for prompt in prompts]
        stage = slice(first, end + 1)
        try:
            video, audio = euler(
                guided_velocity(model, texts, condition, request),
                video,
                audio,
                video_sigmas[stage],
                audio_sigmas[stage],
                callback=lambda step, video, audio, first=first: runtime.step(first + step + 1, request.steps),  # type: ignore[misc]
                cancelled=runtime.cancelled,
            )
        except NotFinite as error:
            where = f" in step {first + error.step + 1} of {request.steps}"
            changed = any(loras.get(p) for p in (part, *JOINT))
            raise not_finite(checkpoint, name, error.parts, [part, *JOINT], where, changed) from None
    return video, audio


def guided_velocity(model: JointModel, texts: list[Text], condition: Tensor, request: Request) -> Callable[..., Any]:
    """The velocity that the sampler follows; `texts` are the positive and the negative prompt."""

    def velocity(video: Tensor, audio: Tensor, video_time: float, audio_time: float) -> tuple[Tensor, Tensor]:
        x = torch.cat([video, condition], dim=1)
        timesteps = [torch.tensor([time], device=video.device) for time in (video_time, audio_time)]

        def evaluate(positive: bool, bridge: bool) -> tuple[Tensor, Tensor]:
            scale = float(bridge)
            prompt = texts[0] if positive else texts[1]
            return model(x, audio, *timesteps, prompt, request.fps, scale, scale)

        return guided(evaluate, request.guidance)

    return velocity


def decode_video(checkpoint: Checkpoint, runtime: Runtime, latent: Tensor) -> Tensor:
    """Latents [1, 16, T, h, w] -> frames [F, H, W, 3] uint8."""
    begin(runtime, "video VAE, decoding")
    check_finite(checkpoint.weights["video_vae"])  # few, and NaN would not be seen any more in frames of bytes
    return video_vae.decode(load_video_vae(checkpoint, runtime), latent)


def load_audio_vae(checkpoint: Checkpoint, device: torch.device) -> AudioVAE:
    """In float32 whatever the weights are stored in: sound shows rounding sooner than pictures do."""
    weights = checkpoint.weights["audio_vae"]
    vae = AudioVAE(checkpoint.audio_vae, device="meta")
    assign(vae, plain_weights(dict(weights.read(weights.tensors, torch.float32, device))).items())
    return vae


def decode_audio(checkpoint: Checkpoint, runtime: Runtime, latent: Tensor) -> Tensor:
    """Latents [1, 128, L] -> waveform [1, N] float32."""
    begin(runtime, "audio VAE")
    waveform = load_audio_vae(checkpoint, runtime.device).decode(latent)[0].cpu()
    check_made(checkpoint, "audio VAE", {"the sound": waveform}, ["audio_vae"])
    return waveform


def settings_of(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> dict[str, Any]:
    """All that is needed to make the same clip again, for its metadata."""
    kept = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    kept |= {name: kept[name] is not None for name in ("image", "end_image")}
    kept["loras"] = [str(lora) for lora in request.loras]
    kept |= {name: checkpoint.schedule.shift for name in ("video_shift", "audio_shift") if kept[name] is None}
    kept["boundary"] = checkpoint.boundary if request.boundary is None else request.boundary
    guidance = kept.pop("guidance")
    kept |= {"guidance": guidance.text, "bridge_guidance": guidance.bridge, "audio_guidance": guidance.audio}
    kept |= {"checkpoint": release_name(checkpoint.root), "dtype": str(runtime.dtype).removeprefix("torch.")}
    kept |= {"device": runtime.device.type, "attention": runtime.attention, "tiled_vae": runtime.tiled_vae}
    kept |= {"elementwise": runtime.elementwise, "low_memory": runtime.low_memory}
    return kept | {"mova": __version__, "torch": str(torch.__version__)}
