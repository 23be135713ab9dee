"""Whether prepared clips fit a model, known from their headers: a folder of them may come from anywhere."""

from collections.abc import Iterable
from numbers import Real
from pathlib import Path

from ..checkpoint.header import FLOATS, TensorInfo
from ..errors import MovaError
from ..model.config import MovaConfig
from ..model.text import TOKENS
from ..sampling.conditioning import check_fps
from .cache import Cache, Entry

NOT_THERE = TensorInfo("U8", ())


def check_items(config: MovaConfig, cache: Cache, entries: Iterable[Entry], nothing: str) -> None:
    """Raise MovaError if a prepared clip or caption is of another model, or is none. nothing: as Cache.index has it."""
    width_of(cache, nothing)
    wanted = config.video_dit.out_dim, config.audio_dit.out_dim, config.video_dit.text_dim
    for entry in entries:
        if (*channels_of(config, cache, entry.clip), width_of(cache, entry.text)) != wanted:
            raise MovaError(f"{cache.folder} was prepared for another model ({entry.name}); prepare the clips again.")


def channels_of(config: MovaConfig, cache: Cache, key: str) -> tuple[int, int]:
    """Of a clip's picture and sound. Raises MovaError if the file is none that cache.Item could be."""
    path = cache.clip_path(key)
    infos, told = cache.infos(path), cache.told(key)
    video, audio, condition = (infos.get(name, NOT_THERE) for name in ("video", "audio", "condition"))
    if not (is_latent(video, 4) and is_latent(audio, 2) and is_latent(condition, 4)):
        raise no_clip(path, "it lacks latents of the picture, the sound or the first frame")
    size = video.shape[1:]
    if any(side % patch for side, patch in zip(size, config.video_dit.patch_size, strict=True)):
        raise no_clip(path, f"its latents are of {[*size]}, which the model cannot divide")
    if condition.shape != (config.video_dit.in_dim - config.video_dit.out_dim, *size):
        raise no_clip(path, "its first frame is of another size")
    if not isinstance(told.get("sound"), bool) or not is_rate(told.get("fps")):
        raise no_clip(path, "it does not tell its frame rate, or whether it has sound")
    return video.shape[0], audio.shape[0]


def width_of(cache: Cache, key: str) -> int:
    """Of a caption's features. Raises MovaError if the file has none."""
    path = cache.text_path(key)
    features = cache.infos(path).get("features", NOT_THERE)
    if not is_latent(features, 2) or features.shape[0] > TOKENS:
        raise no_clip(path, "it lacks a caption's features")
    return features.shape[1]


def no_clip(path: Path, what: str) -> MovaError:
    return MovaError(f"{path} is no prepared clip ({what}); remove it, and prepare the clips again.")


def is_latent(info: TensorInfo, axes: int) -> bool:
    """Whether a tensor holds numbers, along so many axes."""
    return len(info.shape) == axes and 0 not in info.shape and info.dtype in FLOATS


def is_rate(value: object) -> bool:
    """Whether these are frames a second."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        check_fps(float(value))
    except MovaError:
        return False
    return True
