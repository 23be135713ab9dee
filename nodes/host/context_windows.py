"""ComfyUI's context windows on two modalities: a window of latent frames, and the sound that belongs to it."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from ...mova import MovaError
from ...mova.conditioning import TEMPORAL_STRIDE, audio_rate, audio_window
from ...mova.rope import Window

TIME = 2  # the dimension of latent frames, and of audio latents


def check(patcher: Any, shapes: Sequence[Sequence[int]]) -> None:
    """Raise MovaError if context windows are set that the host cannot cut of latents of these shapes."""
    handler = getattr(patcher, "model_options", {}).get("context_handler")
    if handler is None:
        return
    dim, length = getattr(handler, "dim", TIME), getattr(handler, "context_length", 0)
    if dim > TIME or (dim < TIME and shapes[0][dim] > length):
        raise MovaError(
            f"The context windows are along dimension {dim}, but a clip's frames are dimension 2: set dim to 2."
        )
    if shapes[0][0] > 1 and shapes[0][TIME] > length:
        raise MovaError(
            f"Context windows take one clip at a time, not {shapes[0][0]}; set batch_size to 1, or make the windows as "
            "long as the clip."
        )


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
