"""Which frames of a source make a clip: one for each moment of a steady rate, 4 k + 1 of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from ..sampling.conditioning import TEMPORAL_STRIDE

Frame = TypeVar("Frame")
Picture = TypeVar("Picture")


@dataclass(frozen=True)
class Shown(Generic[Frame]):
    """A frame of the source, and when it is shown: seconds."""

    frame: Frame
    begin: float
    end: float


@dataclass(frozen=True)
class Picked(Generic[Picture]):
    """The clip's pictures, how many of them are repetitions, and how many of the source's frames were passed over."""

    pictures: list[Picture]
    repeated: int
    passed_over: int


def pick(
    source: Iterable[Shown[Frame]], start: float, rate: Fraction, length: int, convert: Callable[[Frame], Picture]
) -> Picked[Picture]:
    """At most `length` pictures of a source, `rate` a second, from `start` (seconds) on.

    A frame belongs to the moment that it is nearest to, and stays until the next one's; of several for one moment the
    nearest is taken. So a source at this rate gives its frames one by one, also if its times are rounded to
    milliseconds. Frames are converted when they are picked, each once, and read no further than needed.
    """
    pictures: list[Picture] = []
    held: Shown[Frame] | None = None
    passed_over = converted = at = 0
    away = 0.0  # of what is held, from its moment

    def show_until(moment: int) -> None:
        """Put what is held at each moment from the last one filled to this one."""
        nonlocal converted
        if held is not None and moment > len(pictures):
            picture = convert(held.frame)
            converted += 1
            pictures.extend([picture] * (moment - len(pictures)))

    for shown in source:
        place = (shown.begin - start) * float(rate)
        moment = round(place)
        if held is not None and moment <= at:
            passed_over += at >= 0
            if at >= 0 and abs(place - at) >= away:
                continue
        else:
            show_until(min(moment, length))
        held, at, away = shown, moment, abs(place - moment)
        if moment >= length:
            break
    else:
        if held is not None and held.end > start:
            show_until(min(length, max(at + 1, 1, round((held.end - start) * rate))))
    return Picked(pictures, len(pictures) - converted, passed_over)


def whole_length(frames: int) -> int:
    """The largest 4 k + 1 that is not more; 0 of 0."""
    return (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1 if frames else 0
