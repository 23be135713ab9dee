"""From clips and captions to what a training step takes: encoded once, and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checkpoint.release import Checkpoint
from ..clip.pipeline import load_audio_vae, load_video_vae
from ..clip.runtime import Runtime, begin
from ..errors import Cancelled, MovaError, first_line, memory_is_full
from ..files import alone
from ..model import text, video_vae
from ..sampling.conditioning import SPATIAL_STRIDE, audio_samples, check_fps, check_size, condition_clip, condition_mask
from ..shorten import first_names
from .cache import INDEX, Cache, Entry, content_key, is_index, key_of, make_folder, weights_key
from .media import Clip, Shapes, read_clip
from .ours import check_ours, is_picture
from .samples import Sample, Skipped, find_samples
from .sheet import FIRST_SHEET, Row, thumbnails, write_sheets

Made = TypeVar("Made")
Encode = Callable[[Tensor], Tensor]
PARTS = ("video_vae", "audio_vae", "text_encoder")  # of a release, that clips are prepared with


@dataclass
class Prepared:
    """What came of it."""

    entries: list[Entry] = field(default_factory=list)
    kept: int = 0  # of the clips, those that an earlier run has encoded
    silent: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    sheets: Sequence[Path] = ()


def check_shapes(shapes: Shapes) -> None:
    """Raise MovaError for sizes, lengths and a rate that no clip can have."""
    check_fps(shapes.fps)
    for width, height in shapes.sizes:
        for length in shapes.lengths:
            check_size(width, height, length)


@torch.inference_mode()
def prepare(
    checkpoint: Checkpoint,
    data: Path,
    folder: Path,
    shapes: Shapes,
    runtime: Runtime,
    done: Callable[[int, int], None] = lambda count, of: None,
) -> Prepared:
    """Encode all clips in `data` into the folder; those that are there already are kept.

    Each clip that cannot be used is left out, and named with the reason in the result. Raises MovaError if none can be,
    or if the disk refuses what is written.
    """
    check_shapes(shapes)
    prepared = Prepared()
    samples = find_samples(data, prepared.skipped)
    if not samples:
        raise nothing_left(prepared.skipped)
    make_folder(folder)
    with alone(folder / INDEX):
        before = listed_before(Cache(folder))
        encode_all(checkpoint, samples, Cache(folder), shapes, runtime, prepared, done)
    known = {entry.name for entry in prepared.entries} | prepared.skipped.reasons.keys()
    if gone := [name for name in before if name not in known]:
        runtime.notice(
            f"{folder} had {len(gone)} more ({first_names(gone)}), not in {data}: they are no longer trained on."
        )
    return prepared


def listed_before(cache: Cache) -> list[str]:
    """Names of the clips that an earlier run has put into the folder.

    Raises MovaError for somebody else's files that would be replaced, or clips that were gathered one by one.
    """
    check_ours({cache.folder / INDEX: is_index, cache.folder / FIRST_SHEET: is_picture})
    try:
        entries, _, checkpoint = cache.listed()
    except MovaError:  # there is none, or of another version
        return []
    if checkpoint is None:
        raise MovaError(f"{cache.folder} holds clips that were gathered in ComfyUI; give another --out.")
    return [entry.name for entry in entries]


def encode_all(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    cache: Cache,
    shapes: Shapes,
    runtime: Runtime,
    prepared: Prepared,
    done: Callable[[int, int], None],
) -> None:
    """Fill in `prepared`, and write the index."""
    texts = encode_captions(checkpoint, cache, [sample.caption for sample in samples], runtime)
    clips = encode_clips(checkpoint, cache, samples, shapes, runtime, prepared, done)
    rows = []
    for sample, key in zip(samples, clips, strict=True):
        if key is None:
            continue
        entry = Entry(sample.name, sample.caption, key, texts[sample.caption])
        prepared.entries.append(entry)
        rows.append(row_of(cache, entry))
        prepared.silent += not cache.told(key)["sound"]
    if not prepared.entries:
        raise nothing_left(prepared.skipped)
    prepared.sheets = write_sheets(cache.folder, rows)
    cache.write_index(prepared.entries, texts[""], checkpoint.root, prepared.skipped.reasons)


def nothing_left(skipped: Skipped) -> MovaError:
    name, why = next(iter(skipped.reasons.items()))
    return MovaError(f"There is no clip that can be trained on (of {len(skipped.reasons)}, {name}: {why}).")


def encode_captions(checkpoint: Checkpoint, cache: Cache, captions: Sequence[str], runtime: Runtime) -> dict[str, str]:
    """The key of each caption's features, and of those of no caption; missing ones are made."""
    by = weights_key(checkpoint.weights["text_encoder"]), str(runtime.dtype)
    keys = {caption: key_of(text.clean(caption), *by) for caption in ["", *captions]}
    missing = [caption for caption, key in keys.items() if not cache.has(cache.text_path(key))]
    if missing:
        begin(runtime, "text encoder")
        tokenizer = text.load_tokenizer(checkpoint.root / "tokenizer")
        encoder = text.load_encoder(checkpoint.root / "text_encoder", runtime.dtype, runtime.device)
        for caption in missing:
            stop_if(runtime)
            if notice := text.cut_notice(text.token_count(tokenizer, caption), f"caption {caption[:40]!r}"):
                runtime.notice(notice)
            (features,) = text.encode(tokenizer, encoder, [caption])
            check_finite(features, "text encoder")
            cache.write_text(keys[caption], features)
    return keys


def encode_clips(
    checkpoint: Checkpoint,
    cache: Cache,
    samples: Sequence[Sample],
    shapes: Shapes,
    runtime: Runtime,
    prepared: Prepared,
    done: Callable[[int, int], None],
) -> list[str | None]:
    """The key of each sample's clip, None where it cannot be used; missing ones are made."""
    by = [weights_key(checkpoint.weights[part]) for part in ("video_vae", "audio_vae")]
    rate = checkpoint.audio_vae.sample_rate
    encoders: list[Encode] = []
    keys: list[str | None] = []

    def usable(sample: Sample, make: Callable[..., Made], *given: Any) -> Made | None:
        """What `make` makes; where it fails, whatever a broken file leads to, the sample is left out."""
        try:
            return make(*given)
        except Exception as error:
            if memory_is_full(error):
                raise
            prepared.skipped.add(sample.name, first_line(error).rstrip("."))
            return None

    def key_for(sample: Sample) -> str:
        files = [content_key(path) for path in (sample.video, sample.audio) if path is not None]
        return key_of(files, sample.start, sample.seconds, vars(shapes), by, str(runtime.dtype))

    def encoded(sample: Sample, key: str) -> str | None:
        """The same key, once its file is there."""
        clip = usable(sample, read_clip, sample, shapes, rate)
        if clip is None:
            return None
        if not encoders:
            begin(runtime, "VAEs")
            encoders.extend(load_encoders(checkpoint, runtime))
        made = usable(sample, encode_clip, clip, shapes.fps, rate, *encoders)
        if made is None:
            return None
        cache.write(cache.clip_path(key), made, clip_told(clip, shapes))
        for notice in clip.notices:
            runtime.notice(f"{sample.name}: {notice}")
        return key

    for index, sample in enumerate(samples):
        stop_if(runtime)
        done(index, len(samples))
        key = usable(sample, key_for, sample)
        there = key is not None and cache.has(cache.clip_path(key))
        prepared.kept += there
        keys.append(key if there or key is None else encoded(sample, key))
    done(len(samples), len(samples))
    return keys


def clip_told(clip: Clip, shapes: Shapes) -> dict[str, Any]:
    """What is kept beside a clip's latents."""
    frames, height, width, _ = clip.frames.shape
    sound = clip.waveform is not None
    return {"frames": frames, "width": width, "height": height, "fps": shapes.fps, "sound": sound}


def load_encoders(checkpoint: Checkpoint, runtime: Runtime) -> tuple[Encode, Encode]:
    """What encode_clip takes, of a release."""
    vae, audio_vae = load_video_vae(checkpoint, runtime), load_audio_vae(checkpoint, runtime.device)
    return partial(video_vae.encode, vae), lambda waveform: audio_vae.encode(waveform.to(runtime.device))[0]


def encode_clip(clip: Clip, fps: float, rate: int, see: Encode, hear: Encode) -> dict[str, Tensor]:
    """video [16, T, h, w], audio [128, L], condition [20, T, h, w] float32; pictures uint8 for the contact sheet.

    As the published trainer has it: the modes of both VAEs, and the first frame as the condition. see: [1, 3, F, H, W]
    in -1..1 to normalised latents; hear: [1, 1, N] to latents.
    """
    count, height, width, _ = clip.frames.shape
    pictures = (clip.frames * 2 - 1).permute(3, 0, 1, 2)
    video = see(pictures[None])
    given = see(condition_clip(count, height, width, pictures[:, 0], None))
    mask = condition_mask(count, height // SPATIAL_STRIDE, width // SPATIAL_STRIDE).to(given)
    waveform = clip.waveform
    if waveform is None:
        waveform = torch.zeros(1, audio_samples(count, fps, rate))
    audio = hear(waveform[None])
    made = {"video": video[0], "audio": audio[0].float(), "condition": torch.cat([mask, given], dim=1)[0]}
    for name, latent in made.items():
        check_finite(latent, f"{name} latents' VAE")
    return {**made, "pictures": thumbnails(clip.frames)}


def check_finite(tensor: Tensor, what: str) -> None:
    if not tensor.isfinite().all():
        raise MovaError(f"the {what} made NaN or infinite values of it; use --dtype bf16 or fp32")


def row_of(cache: Cache, entry: Entry) -> Row:
    told = cache.told(entry.clip)
    sound = "" if told["sound"] else ", no sound: the picture alone is trained"
    line = f"{entry.name}: {told['width']} x {told['height']}, {told['frames']} frames{sound}"
    return Row(cache.pictures(entry.clip), entry.caption, line)


def stop_if(runtime: Runtime) -> None:
    if runtime.cancelled():
        raise Cancelled
