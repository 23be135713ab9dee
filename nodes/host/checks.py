"""What a MOVA graph must have; each fault is told in one sentence, before any weight is loaded."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...mova import MovaConfig, MovaError
from ...mova.errors import first_line
from ...mova.sampling.conditioning import GRID, TEMPORAL_STRIDE, audio_latents, check_fps, check_size
from ...mova.shorten import short
from . import finite
from .finite import AUDIO_TEXT

# Of a sound, a second. Of less, ffmpeg makes nothing of a sample; for more, its filter needs more memory than there is.
LOWEST_RATE, HIGHEST_RATE = 11, 100_000_000


def check_latent_shapes(shapes: Sequence[Sequence[int]], config: MovaConfig) -> None:
    """Raise MovaError unless these are the shapes of a video and an audio latent that the model can take."""
    video_channels, audio_channels = config.video_dit.out_dim, config.audio_dit.in_dim
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == 1:  # AudioVideoLatent.contiguous
        raise MovaError(
            "The latent of video and audio is packed into one tensor, as Save Latent keeps it; connect it to both "
            "inputs of MOVA Combine Latent, and take that."
        )
    good = len(shapes) == 2 and len(shapes[0]) == 5 and len(shapes[1]) == 3
    if not good or shapes[0][1] != video_channels or shapes[1][1] != audio_channels:
        found = " and ".join(str([*shape]) for shape in shapes) if len(shapes) > 1 else "only one latent"
        raise MovaError(
            f"MOVA samples a video latent of {video_channels} channels together with an audio latent of "
            f"{audio_channels}, not {found}; take the latent of MOVA Conditioning, or put both together with MOVA "
            "Combine Latent."
        )
    check_batches(shapes)


def check_batches(shapes: Sequence[Sequence[int]]) -> None:
    """Raise MovaError unless there are as many videos as audios."""
    if shapes[0][0] != shapes[1][0]:
        raise MovaError(
            f"The latent has {shapes[0][0]} video(s) but {shapes[1][0]} audio(s); give both the same batch size."
        )


def check_conditioning(text: Tensor | None, entries: dict[str, Any], config: MovaConfig) -> None:
    """Raise MovaError unless a conditioning has text features of the model's width, and an image part."""
    width = config.video_dit.text_dim
    for features in (text, entries.get(AUDIO_TEXT, text)):
        if features is None or features.shape[-1] != width:
            found = "none" if features is None else features.shape[-1]
            raise MovaError(
                f"MOVA needs text features {width} wide, not {found}; load the text encoder umt5_xxl with the type wan."
            )
        if features.ndim != 3:
            raise MovaError(
                f"The text features are {[*features.shape]}, not [batch, tokens, {width}]; encode the text again."
            )
    finite.check_entries(text, entries)
    if entries.get("concat_latent_image") is None or entries.get("concat_mask") is None:
        raise MovaError("The conditioning has no image part; put MOVA Conditioning between the text and the sampler.")
    for entry, node in (("area", "Conditioning (Set Area)"), ("mask", "Conditioning (Set Mask)")):
        if entry in entries:
            raise MovaError(
                f"The conditioning is for a part of the picture ({node}), but MOVA's is for all of video and audio; "
                "leave that node out."
            )


def check_image_fits(entries: dict[str, Any], shapes: Sequence[Sequence[int]], config: MovaConfig) -> None:
    """Raise MovaError unless the conditioning was made for a clip of the latents' size and length."""
    image, mask, video, audio = entries["concat_latent_image"], entries["concat_mask"], shapes[0], shapes[1]
    patch = config.video_dit.patch_size
    uneven = any(n % p for n, p in zip(video[2:], patch, strict=True))
    if tuple(image.shape[1:]) != tuple(video[1:]) or tuple(mask.shape[2:]) != tuple(video[2:]) or uneven:
        raise MovaError(
            f"The conditioning is for a video latent of {[*image.shape[1:]]}, but the latent is {[*video[1:]]} (they "
            "must be the same, of even height and width); give both the same width, height and length."
        )
    if "frame_rate" in entries:
        frames = (video[2] - 1) * TEMPORAL_STRIDE + 1
        wanted = audio_latents(frames, entries["frame_rate"])
        if audio[2] != wanted:
            raise MovaError(
                f"The audio latent is {audio[2]} long, but {frames} frames at {entries['frame_rate']:g} a second need "
                f"{wanted}; encode the audio with MOVA Audio Encode for that length and frame rate."
            )


def check_run(latent: dict[str, Any], conditioning: list, config: MovaConfig) -> None:
    """Raise MovaError unless the LATENT, its masks and all of CONDITIONING fit each other and the model."""
    parts = unbound(latent["samples"])
    shapes = [part.shape for part in parts]
    check_latent_shapes(shapes, config)
    finite.check_latent(parts, "that is given to the sampler")
    for mask in nested_masks(latent) or []:
        finite.check(mask, "A noise mask of the latent", "give another")
    for text, entries in conditioning:
        check_conditioning(text, entries, config)
        check_image_fits(entries, shapes, config)


def check_given_noise(noise: Any, samples: Any) -> None:
    """Raise MovaError unless a NOISE node made noise for both parts of the latent."""
    given, wanted = ([[*part.shape] for part in unbound(tensor)] for tensor in (noise, samples))
    fits = len(given) == len(wanted) and all(
        shape[1:] == part[1:] and shape[0] in (1, part[0]) for shape, part in zip(given, wanted, strict=True)
    )
    if not fits:
        found, latent = (" and ".join(map(str, shapes)) for shapes in (given, wanted))
        raise MovaError(f"The noise is {found}, but the latent is {latent}; connect RandomNoise.")
    for part in unbound(noise):
        finite.check(part, "The noise", "connect RandomNoise")


def check_video_vae(vae: Any) -> None:
    """Raise MovaError unless this is the Wan 2.1 video VAE."""
    if getattr(vae, "latent_dim", None) != 3 or getattr(vae, "latent_channels", None) != 16:
        raise MovaError(
            f"The VAE in vae {vae_kind(vae)}, but MOVA's video needs the Wan 2.1 VAE; load wan_2.1_vae there."
        )


def video_vae_notice(vae: Any) -> str | None:
    """What to tell of a VAE that check_video_vae lets pass: HunyuanVideo's has as many channels, of another meaning."""
    kind = type(getattr(vae, "first_stage_model", None)).__name__
    if kind in ("WanVAE", "TAEHV"):  # the host's names for Wan's, and for the tiny ones
        return None
    return f"The VAE in vae is of the kind {kind}, not Wan's; with another than wan_2.1_vae the picture may be noise."


def is_mova_audio(vae: Any) -> bool:
    """Whether a VAE's latents are what MOVA's audio tower knows: ours, or one of the host's own for the same DAC."""
    kind = {"latent_dim": 1, "latent_channels": 128, "audio_sample_rate": 48000, "downscale_ratio": 960}
    return getattr(vae, "is_mova_audio", False) or all(getattr(vae, n, None) == value for n, value in kind.items())


def audio_of(samples: Any, channels: int) -> Tensor:
    """The audio latent [B, C, L] in a LATENT's samples. Raises MovaError if there is none of so many channels."""
    audio = unbound(samples)[-1]
    if audio.ndim != 3 or audio.shape[1] != channels:
        raise MovaError(
            f"MOVA's audio VAE decodes latents [batch, {channels}, length], not {[*audio.shape]}; give it the audio of "
            "MOVA Separate Latent."
        )
    finite.check_latent([audio], "to be decoded")
    return audio


def check_audio_vae(vae: Any) -> None:
    """Raise MovaError unless this is an audio VAE for MOVA."""
    if not is_mova_audio(vae):
        raise MovaError(
            f"The VAE in audio_vae {vae_kind(vae)}, not MOVA's audio VAE; load that with MOVA Audio VAE Loader."
        )


def check_clip(clip: Any) -> None:
    """Raise MovaError if there is no text encoder, which is what a checkpoint without one gives."""
    if clip is None:
        raise MovaError("There is no text encoder in clip; load umt5_xxl with Load CLIP, type wan.")


def check_audio(audio: Any) -> None:
    """Raise MovaError unless this is AUDIO with sound in it."""
    if audio is None:
        raise MovaError("There is no sound in audio (the video it is from may have none); leave this node out.")
    missing = sorted({"waveform", "sample_rate"} - audio.keys()) if isinstance(audio, dict) else []
    if missing:
        raise MovaError(f"The sound in audio has no {missing[0]}; load another.")
    try:
        waveform, rate = audio["waveform"], audio["sample_rate"]
    except Exception as error:  # another pack's sound that is read only now, from a file that may have none
        what = short(first_line(error))
        raise MovaError(
            f"The sound in audio cannot be read (the video it is from may have none): {what}; leave it out."
        ) from None
    shape = [*getattr(waveform, "shape", ())]
    if isinstance(waveform, Tensor) and not (waveform.is_floating_point() and waveform.dtype.itemsize > 1):
        kind = str(waveform.dtype).removeprefix("torch.")
        raise MovaError(f"The sound in audio is in {kind}, not in floats from -1 to 1; load it with Load Audio.")
    if len(shape) != 3 or 0 in shape:
        raise MovaError(f"The sound in audio has the shape {shape}, not [batch, channels, samples]; load another.")
    try:
        works = not isinstance(rate, str) and LOWEST_RATE <= float(rate) <= HIGHEST_RATE
    except (TypeError, ValueError, OverflowError):
        works = False
    if not works:
        raise MovaError(
            f"The sound in audio has a sample rate of {short(rate)}, not from {LOWEST_RATE} to {HIGHEST_RATE}; "
            "load another."
        )


def check_images(images: Tensor, slot: str) -> None:
    """Raise MovaError unless this is IMAGE [B, H, W, 3 or 4] with pictures in it."""
    if images.ndim != 4 or 0 in images.shape or images.shape[3] < 3:
        raise MovaError(
            f"The pictures in {slot} have the shape {[*images.shape]}, not [pictures, height, width, 3 colours]; "
            "connect an image."
        )


def vae_kind(vae: Any) -> str:
    if vae is None:
        return "is missing"
    if is_mova_audio(vae):
        return "is MOVA's audio VAE"
    dims = {1: "audio or shapes", 2: "images", 3: "video"}.get(getattr(vae, "latent_dim", 0), "something else")
    return f"is one for {dims} with {getattr(vae, 'latent_channels', 'unknown')} latent channels"


def unbound(tensor: Any) -> list[Tensor]:
    """The parts of the host's nested tensor; of another tensor, itself."""
    return list(tensor.unbind()) if getattr(tensor, "is_nested", False) else [tensor]


def latent_parts(latent: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Video and audio of an audio-video LATENT. Raises MovaError if it is another kind of latent."""
    parts = unbound(latent["samples"])
    if len(parts) != 2 or parts[0].ndim != 5 or parts[1].ndim != 3:
        kind = {3: "an audio", 4: "an image", 5: "a video"}.get(parts[0].ndim, "another")
        raise MovaError(
            f"This is {kind} latent, not an audio-video latent; take the latent of MOVA Conditioning, or put video and "
            "audio together with MOVA Combine Latent."
        )
    return parts[0], parts[1]


def mask_for(mask: Tensor, shape: Sequence[int], modality: str) -> Tensor:
    """A noise mask for a latent of this shape (video [B, C, T, H, W] or audio [B, C, L]), as the host resizes it.

    A picture as mask of the audio is read from left (start) to right (end). Raises MovaError if it cannot fit.
    """
    fault = MovaError(
        f"The {modality} mask has the shape {[*mask.shape]}, which does not fit the {modality} latent {[*shape]}; "
        "make it from a mask of one channel and the same length."
    )
    if len(shape) == 3:
        if mask.ndim == 4 or (mask.ndim == 3 and mask.shape[1] not in (1, shape[1])):  # pictures [(B), 1, H, W]
            mask = mask.reshape(-1, 1, *mask.shape[-2:]).mean(dim=2)
        elif mask.ndim == 2:
            mask = mask.mean(dim=0).view(1, 1, -1)
        fits = mask.ndim == 3 and mask.shape[1] in (1, shape[1])
    else:
        fits = 2 <= mask.ndim < 5 or (mask.ndim == 5 and mask.shape[1] in (1, shape[1]) and mask.shape[2] == shape[2])
    whole = mask.ndim == len(shape)  # then the batch must fit, too; pictures are frames of one mask
    if not fits or (whole and mask.shape[0] not in (1, shape[0])) or not mask.numel():
        raise fault
    return mask


def check_clip_size(width: int = GRID, height: int = GRID, length: int = 1, fps: float = 24.0) -> None:
    """Raise MovaError, naming the nearest valid values, unless a clip can have this size and rate."""
    check_size(width, height, length)
    check_fps(fps)


def size_fault(
    width: int | None = None, height: int | None = None, length: int | None = None, fps: float | None = None
) -> str | None:
    """What check_clip_size has to say, for the host's validation; None is what an input from another node is.

    What is no number the host has refused by then, and passes on all the same.
    """
    sizes = {"width": width, "height": height, "length": length}
    given: dict[str, Any] = {name: value for name, value in sizes.items() if isinstance(value, int)}
    given |= {"fps": fps} if isinstance(fps, int | float) else {}
    try:
        check_clip_size(**given)
    except MovaError as error:
        return str(error)
    return None


def check_finite(value: float, name: str) -> None:
    """Raise MovaError for NaN and infinity, which a workflow file can hold."""
    if not math.isfinite(value):
        raise MovaError(f"{name} is {value}; give a number.")


def nested_masks(latent: dict[str, Any]) -> list[Tensor] | None:
    """The noise masks of an audio-video LATENT (video, audio), checked; None if it has none.

    A mask that is not nested is the video's, as on the host. Masks of 1 (all is made new) stand in for missing ones.
    """
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    parts = latent_parts(latent)
    found = [mask_for(m, p.shape, n) for m, p, n in zip(unbound(mask), parts, ("video", "audio"), strict=False)]
    return found + [torch.ones(1, 1, *part.shape[2:]) for part in parts[len(found) :]]
