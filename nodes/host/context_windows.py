"""ComfyUI's context windows on two modalities: a window of latent frames, and the sound that belongs to it."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from ...mova import MovaError
from ...mova.model.rope import Window
from ...mova.sampling.conditioning import TEMPORAL_STRIDE, audio_rate, audio_window

TIME = 2  # the dimension of latent frames, and of audio latents


def check(patcher: Any, shapes: Sequence[Sequence[int]]) -> None:
    """Raise MovaError if context windows are set that the host cannot cut of latents of these shapes."""
    options = getattr(patcher, "model_options", {})
    handler = options.get("context_handler")
    if handler is None:
        return
    dim = getattr(handler, "dim", TIME)
    if dim != TIME:
        raise MovaError(
            f"The context windows are along dimension {dim}, but a clip's frames are dimension 2: set dim to 2."
        )
    batch, frames = shapes[0][0], shapes[0][TIME]
    length, overlap = getattr(handler, "context_length", frames), getattr(handler, "context_overlap", 0)
    batched = name_of(handler, "context_schedule") == "batched"  # of windows side by side
    cut = frames > length
    # FreeNoise goes through the clip in steps of the difference, also where the windows do not.
    if (cut and not batched and overlap >= length) or (getattr(handler, "freenoise", False) and overlap == length):
        raise MovaError(
            f"The context windows overlap by {overlap} latent frames but are only {length} long; set context_overlap "
            "below context_length."
        )
    if not cut:
        return
    if batch > 1:
        raise MovaError(
            f"Context windows take one clip at a time, not {batch}; set batch_size to 1, or make the windows as "
            "long as the clip."
        )
    shortest = (batched and frames % length) or length
    if name_of(handler, "fuse_method") == "overlap-linear" and not 1 <= overlap <= shortest:
        raise MovaError(
            f"The fuse_method overlap-linear needs context windows that overlap by 1 to {shortest} latent frames, not "
            f"by {overlap}; set another context_overlap, or pyramid."
        )
    for name in ("cond_retain_index_list", "latent_retain_index_list"):
        for index in getattr(handler, name, ()):
            if not -shortest <= index < shortest:
                raise MovaError(
                    f"{name} asks for latent frame {index} in each context window, but the shortest has {shortest}; "
                    f"give frames from 0 to {shortest - 1}."
                )
    if getattr(options.get("transformer_options", {}).get("easycache"), "name", None) == "EasyCache":
        raise MovaError(
            "EasyCache does not go with context windows, whose sounds are of different lengths; use LazyCache."
        )


def name_of(handler: Any, what: str) -> str | None:
    return getattr(getattr(handler, what, None), "name", None)


def runs(frames: Sequence[int]) -> list[list[int]]:
    """The frames of a window, cut where one does not follow the other: strided and looped windows have gaps."""
    found: list[list[int]] = []
    for frame in frames:
        if found and frame == found[-1][-1] + 1:
            found[-1].append(frame)
        else:
            found.append([frame])
    return found


def audio_of(frames: Sequence[int], shapes: Sequence[Sequence[int]], fps: float) -> list[int]:
    """The audio latents that sound during these latent frames, of a clip with these latent shapes."""
    length = shapes[1][TIME]
    rate = audio_rate((shapes[0][TIME] - 1) * TEMPORAL_STRIDE + 1, length, fps)
    windows = (audio_window(run[0], run[-1], rate, length) for run in runs(frames))
    return list(dict.fromkeys(chain.from_iterable(windows)))  # each once


def part_of(fps: float, window: Any) -> Window:
    """Which part of the clip the host's window is."""
    anchor = getattr(window, "causal_anchor_index", None)  # a frame that the host puts in front, and cuts off again
    frames = [*([] if anchor is None else [anchor]), *window.index_list]
    return Window(fps, tuple(frames), tuple(window.modality_windows[1].index_list))
