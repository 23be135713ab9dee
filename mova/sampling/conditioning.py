"""From pictures and lengths to what the model is conditioned on."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from ..errors import MovaError
from ..shorten import short

SPATIAL_STRIDE = 8  # of the video VAE
TEMPORAL_STRIDE = 4
AUDIO_RATE, AUDIO_HOP = 48000, 960  # of the audio VAE: 50 latents a second
GRID = 2 * SPATIAL_STRIDE  # patches are 2 x 2 latents

# How a clip without a first picture is conditioned.
TEXT_ONLY_FRAMES = ("white", "none")
MUCH_CROPPED = 0.4  # of a picture; less is what people expect of two shapes that differ


def check_size(width: int, height: int, frames: int) -> None:
    """Raise MovaError, naming the nearest valid values, unless the size fits the latent grid."""
    for name, value in (("width", width), ("height", height)):
        if value < GRID or value % GRID:
            near = max(GRID, (value + GRID // 2 - 1) // GRID * GRID)
            raise MovaError(f"The {name} {short(value)} is not a multiple of {GRID}; the nearest that works is {near}.")
    if frames < 1 or frames % TEMPORAL_STRIDE != 1:
        below = max(1, (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)
        above = below if frames < 1 else below + TEMPORAL_STRIDE
        nearest = short(below) if below == above else f"{short(below)} or {short(above)}"
        raise MovaError(
            f"{short(frames)} frames do not make whole latent frames (4k + 1); the nearest that work: {nearest}."
        )


def check_fps(fps: float) -> None:
    """Raise MovaError unless the frame rate makes sense."""
    if not 1 <= fps <= 120:  # false for NaN too
        raise MovaError(
            f"The frame rate {short(fps)} is out of range; it must be from 1 to 120 a second (24 is the release's)."
        )


def latent_frames(frames: int) -> int:
    return (frames - 1) // TEMPORAL_STRIDE + 1


def audio_samples(frames: int, fps: float, sample_rate: int = AUDIO_RATE) -> int:
    """How many samples the audio of a clip has."""
    return int(sample_rate * frames / fps)


def audio_latents(frames: int, fps: float, sample_rate: int = AUDIO_RATE, hop: int = AUDIO_HOP) -> int:
    """How many latents the audio of a clip has: 403 for 193 frames at 24 a second."""
    return (audio_samples(frames, fps, sample_rate) - 1) // hop + 1


def audio_window(first: int, last: int, fps: float, length: int) -> range:
    """Which of a clip's `length` audio latents sound during its latent frames first..last.

    A latent frame stands for 4 frames, the first of a clip for one. An audio latent that begins before a window, or
    ends after it, belongs to it, too: a window from the clip's start has what a clip of its length has.
    """
    start = max(0, (first - 1) * TEMPORAL_STRIDE + 1)  # in frames
    return range(audio_samples(start, fps) // AUDIO_HOP, min(audio_latents(last * TEMPORAL_STRIDE + 1, fps), length))


def audio_rate(frames: int, length: int, fps: float) -> float:
    """The frame rate at which a clip has `length` audio latents: fps, if that is so, else what makes them fit."""
    return fps if audio_latents(frames, fps) == length else frames * AUDIO_RATE / AUDIO_HOP / length


def crop_and_resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut the target's aspect out of an RGB picture's centre, and resize it (bicubic).

    Source: crop_and_resize of the published inference script, rounding included.
    """
    image_width, image_height = image.size
    if image_height / image_width < height / width:
        cropped = max(1, int(image_height / height * width))
        left = (image_width - cropped) // 2
        box = (left, 0, left + cropped, image_height)
    else:
        cropped = max(1, int(image_width / width * height))
        top = (image_height - cropped) // 2
        box = (0, top, image_width, top + cropped)
    return image.crop(box).resize((width, height), Image.Resampling.BICUBIC)


def size_of_shape(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Width and height, multiples of 16, of about so many pixels, in the shape of something `width` x `height`."""
    sides = (pixels * width / height) ** 0.5, (pixels * height / width) ** 0.5
    across, down = (max(GRID, round(side / GRID) * GRID) for side in sides)
    return across, down


def crop_notice(picture_width: int, picture_height: int, what: str, width: int, height: int) -> str | None:
    """What to tell if the clip's shape cuts much of a picture away, with a size of the picture's own shape.

    `what` tells which picture it is.
    """
    wider = picture_width / picture_height / (width / height)
    cropped = 1 - min(wider, 1 / wider)
    if cropped < MUCH_CROPPED:
        return None
    # As many pixels as the clip has, so that memory and time stay as they are.
    fitting = size_of_shape(picture_width, picture_height, width * height)
    # Short, since a node shows but two lines.
    return (
        f"{cropped:.0%} of the {what} picture ({picture_width} x {picture_height}) is cropped away; for all of it take "
        f"width {fitting[0]}, height {fitting[1]}."
    )


def image_tensor(image: Image.Image, width: int, height: int) -> Tensor:
    """A picture as [3, height, width] float32 in -1..1, cropped and resized."""
    image = crop_and_resize(image.convert("RGB"), width, height)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3)
    return pixels.permute(2, 0, 1).float() / 255 * 2 - 1


def condition_mask(frames: int, height: int, width: int, first: bool = True, last: bool = False) -> Tensor:
    """[1, 4, latent frames, height, width] (latent height and width): 1 for the frames that are given, else 0.

    The 4 channels of a latent frame are its 4 frames; the first frame of a clip fills all 4 of the first latent frame.
    Source: MOVA.prepare_latents in the published pipeline_mova.py, as the next two.
    """
    given = torch.zeros(frames)
    given[0], given[-1] = float(first), float(last or (first and frames == 1))
    given = torch.cat([given[:1].expand(TEMPORAL_STRIDE - 1), given]).view(-1, TEMPORAL_STRIDE).T
    return given[None, :, :, None, None].expand(1, -1, -1, height, width).contiguous()


def condition_clip(frames: int, height: int, width: int, first: Tensor | None, last: Tensor | None) -> Tensor:
    """[1, 3, frames, height, width] float32: the given pictures [3, H, W] in their places, zeros (grey) elsewhere."""
    clip = torch.zeros(1, 3, frames, height, width)
    if first is not None:
        clip[0, :, 0] = first
    if last is not None:
        clip[0, :, -1] = last
    return clip


def image_condition(
    encode: Callable[[Tensor], Tensor],
    width: int,
    height: int,
    frames: int,
    first: Image.Image | None = None,
    last: Image.Image | None = None,
    text_only_frame: str = "white",
) -> Tensor:
    """The 20 condition channels [1, 20, latent frames, H / 8, W / 8]: mask, then the encoded pictures.

    `encode` turns a clip [1, 3, F, H, W] in -1..1 into normalised latents [1, 16, T, H / 8, W / 8]. Without a first
    picture, text_only_frame "white" gives a white one (MOVA's convention), "none" marks no frame as given.
    """
    if text_only_frame not in TEXT_ONLY_FRAMES:
        raise MovaError(f"text_only_frame is {text_only_frame!r}; it must be one of {', '.join(TEXT_ONLY_FRAMES)}.")
    if last is not None and frames == 1:
        raise MovaError("A clip of one frame has no last frame apart from its first; leave the end image out.")
    first_frame, last_frame = (None if image is None else image_tensor(image, width, height) for image in (first, last))
    if first is None and last is None and text_only_frame == "white":
        first_frame = torch.ones(3, height, width)
    latent = encode(condition_clip(frames, height, width, first_frame, last_frame))
    mask = condition_mask(
        frames, height // SPATIAL_STRIDE, width // SPATIAL_STRIDE, first_frame is not None, last_frame is not None
    )
    return torch.cat([mask.to(latent), latent], dim=1)
