"""One picture that shows a clip at a glance: a few frames in a row over the waveform of its sound."""

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import MovaError
from ..files import whole_file

# Pixels
WIDTH = 1600
COLUMNS = 5
MARGIN = 40
GAP = 12
TALLEST_FRAME = 480
WAVE_HEIGHT = 150
LEADER = 34  # between a frame's time stamp and the waveform: a line leads from the one to the moment in the other
TEXT = 18

BACKGROUND = "#17181b"
PANEL = "#202226"
GRID = "#33363c"
LINE = "#6b7079"
LABEL = "#b9bec7"
WAVE = "#5fb3a8"


def write_contact_sheet(path: Path, frames: Tensor, waveform: Tensor, sample_rate: int) -> None:
    """Write a PNG with five evenly chosen frames, first and last included, over the waveform of the whole clip.

    `frames` is uint8 [F, H, W, 3], `waveform` float [channels, samples] of the same duration, in -1..1 (drawn at full
    scale, so quiet sound looks quiet). Raises MovaError if either is empty or the disk refuses the file.
    """
    path = Path(path)
    if not len(frames) or not waveform.numel():
        raise MovaError(f"{path} would show a clip without frames or without sound; give at least one of each.")
    duration = waveform.shape[-1] / sample_rate
    chosen = chosen_frames(len(frames))
    thumbnails = [thumbnail(frames[index], len(chosen)) for index in chosen]
    row_height = max(picture.height for picture in thumbnails)
    wave_top = MARGIN + row_height + 8 + TEXT + LEADER
    wave_box = (MARGIN, wave_top, WIDTH - MARGIN, wave_top + WAVE_HEIGHT)

    sheet = Image.new("RGB", (WIDTH, wave_box[3] + 10 + TEXT + MARGIN - 8), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle(wave_box, fill=PANEL)
    draw_time_axis(draw, wave_box, duration)
    draw_waveform(draw, wave_box, waveform)
    cell = (WIDTH - 2 * MARGIN + GAP) / len(chosen)
    for position, (index, picture) in enumerate(zip(chosen, thumbnails, strict=True)):
        moment = index / len(frames) * duration
        centre = round(MARGIN + position * cell + (cell - GAP) / 2)
        sheet.paste(picture, (centre - picture.width // 2, MARGIN + row_height - picture.height))
        draw_moment(draw, wave_box, centre, MARGIN + row_height + 8, moment, duration)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def chosen_frames(count: int) -> list[int]:
    """Indices of at most five evenly spaced frames out of `count`, the first and the last among them."""
    shown = max(1, min(count, COLUMNS))
    return [round(position * (count - 1) / max(1, shown - 1)) for position in range(shown)]


def thumbnail(frame: Tensor, shown: int) -> Image.Image:
    """A uint8 [H, W, 3] frame scaled to one of `shown` cells of the row."""
    picture = Image.fromarray(frame.cpu().numpy())
    cell = (WIDTH - 2 * MARGIN + GAP) // shown - GAP
    scale = min(cell / picture.width, TALLEST_FRAME / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def draw_moment(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], centre: int, top: int, moment: float, duration: float
) -> None:
    """A frame's time stamp, and a line from it to that moment (seconds) in the waveform's box."""
    left, wave_top, right, bottom = box
    x = left + round(moment / duration * (right - left))
    draw.text((centre, top), f"{moment:.2f} s", fill=LABEL, font=ImageFont.load_default(size=TEXT), anchor="ma")
    bend = wave_top - LEADER // 3  # level and upright, since Pillow's slanted lines are ragged
    draw.line([(centre, top + TEXT + 8), (centre, bend), (x, bend), (x, bottom)], fill=LINE)


def draw_time_axis(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], duration: float) -> None:
    """Vertical grid lines at round numbers of seconds, with the numbers below the box."""
    left, top, right, bottom = box
    step = tick_step(duration)
    digits = max(0, -math.floor(math.log10(step)))
    font = ImageFont.load_default(size=TEXT)
    for tick in range(math.floor(duration / step + 1e-9) + 1):
        x = left + round(tick * step / duration * (right - left))
        draw.line([(x, top), (x, bottom + 5)], fill=GRID)
        anchor = "ma" if tick else "la"  # the zero starts at the margin, like all else
        draw.text((x, bottom + 10), f"{tick * step:.{digits}f} s", fill=LABEL, font=font, anchor=anchor)


def tick_step(duration: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (or 0.1, 0.2, ...) seconds that gives at most ten steps."""
    magnitude = 10.0 ** math.floor(math.log10(duration / 10))
    return next(magnitude * factor for factor in (1, 2, 5, 10) if duration <= 10 * magnitude * factor * (1 + 1e-9))


def draw_waveform(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], waveform: Tensor) -> None:
    """The lowest and the highest sample under each pixel column, as one vertical line; full scale fills the box."""
    left, top, right, bottom = box
    sound = waveform.detach().float().cpu().nan_to_num().clamp(-1, 1)
    columns = right - left + 1
    highest = torch.nn.functional.adaptive_max_pool1d(sound.amax(0)[None], columns)[0]
    lowest = -torch.nn.functional.adaptive_max_pool1d(-sound.amin(0)[None], columns)[0]
    middle, half = (top + bottom) / 2, (bottom - top) / 2 - 4
    for x, (high, low) in enumerate(zip(highest.tolist(), lowest.tolist(), strict=True), start=left):
        draw.line([(x, round(middle - high * half)), (x, round(middle - low * half))], fill=WAVE)
