"""From a prompt and pictures to frames and sound, with one part of the model in memory at a time."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.release import Checkpoint
from ..checkpoint.weights import assign, check_finite
from ..errors import MovaError, first_line, memory_is_full
from ..lora.plan import plan
from ..model import text, video_vae
from ..model.audio_vae import AudioVAE, plain_weights
from ..sampling.conditioning import SPATIAL_STRIDE, TEMPORAL_STRIDE, audio_samples, image_condition
from .denoise import check_made, denoise, latents_of
from .request import Request
from .rescue import Keep, Run, no_keeping
from .runtime import Runtime, begin, layers_for
from .tiles import DECODING, ENCODING, by_what_is_free, bytes_needed


@dataclass(frozen=True)
class Result:
    """frames [F, H, W, 3] uint8; waveform [1, N] in -1..1, cut to the frames; latents as the model left them."""

    frames: Tensor
    waveform: Tensor
    sample_rate: int
    video_latent: Tensor
    audio_latent: Tensor


@torch.inference_mode()
def generate(
    checkpoint: Checkpoint, request: Request, runtime: Runtime, keep: Keep = no_keeping, done: Run | None = None
) -> Result:
    """Run the whole model. Raises MovaError for wrong values, Cancelled if runtime.cancelled() becomes true.

    `keep` is given the latents behind each step; `done` is what an earlier call has kept of the same request, to go on
    from there: the latents become bit for bit what they would have been.
    """
    request.check()
    layers_for(runtime)
    loras, told = plan(request.loras, checkpoint.config)
    for line in told:
        runtime.notice(line)
    if told_of_list := request.plan.notice(request.steps):
        runtime.notice(told_of_list)
    try:
        if done is not None and done.finished:
            video, audio = (latent.to(runtime.device) for latent in latents_of(checkpoint, request, done))
        else:
            prompts = encode_prompts(checkpoint, request, runtime)
            condition = encode_images(checkpoint, request, runtime)
            video, audio = denoise(checkpoint, request, runtime, prompts, condition, loras, keep, done)
        frames = decode_video(checkpoint, runtime, video)
        waveform = decode_audio(checkpoint, runtime, audio)
    except (RuntimeError, MemoryError) as error:
        if not memory_is_full(error):
            raise
        raise MovaError(
            f"The memory of {runtime.device} is full; take fewer frames, a smaller size or tiles for the video VAE "
            f"({first_line(error)})"
        ) from error
    rate = checkpoint.audio_vae.sample_rate
    waveform = waveform[:, : audio_samples(request.frames, request.fps, rate)]
    return Result(frames, waveform, rate, video, audio)


def encode_prompts(checkpoint: Checkpoint, request: Request, runtime: Runtime) -> list[Tensor]:
    """UMT5 features of the prompt, the negative prompt and, if there is one, the audio prompt: each [1, 512, width]."""
    begin(runtime, "text encoder")
    tokenizer = text.load_tokenizer(checkpoint.root / "tokenizer")
    given = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
    if request.audio_prompt is not None:
        given["audio prompt"] = request.audio_prompt
    for what, prompt in given.items():
        if notice := text.cut_notice(text.token_count(tokenizer, prompt), what):
            runtime.notice(notice)
    encoder = text.load_encoder(checkpoint.root / "text_encoder", runtime.dtype, runtime.device)
    prompts = text.encode(tokenizer, encoder, list(given.values()))
    made = {f"the {what}": features for what, features in zip(given, prompts, strict=True)}
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
    size = request.width, request.height, request.frames
    needed = bytes_needed(vae, ENCODING, *size)
    condition = image_condition(
        lambda clip: by_what_is_free(vae, runtime, needed, lambda: video_vae.encode(vae, clip)),
        *size,
        request.image,
        request.end_image,
        request.text_only_frame,
    )
    check_made(checkpoint, "video VAE", {"the pictures' latents": condition}, ["video_vae"])
    return condition


def decode_video(checkpoint: Checkpoint, runtime: Runtime, latent: Tensor) -> Tensor:
    """Latents [1, 16, T, h, w] -> frames [F, H, W, 3] uint8."""
    begin(runtime, "video VAE, decoding")
    check_finite(checkpoint.weights["video_vae"])  # few, and NaN would not be seen any more in frames of bytes
    vae = load_video_vae(checkpoint, runtime)
    _, _, frames, height, width = latent.shape
    whole = width * SPATIAL_STRIDE, height * SPATIAL_STRIDE, (frames - 1) * TEMPORAL_STRIDE + 1
    needed = bytes_needed(vae, DECODING, *whole)
    return by_what_is_free(vae, runtime, needed, lambda: video_vae.decode(vae, latent))


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
