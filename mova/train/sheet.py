"""One picture of what will be trained: a few frames of each clip, its caption, and whether its sound is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .ours import save_picture

# Pixels
HEIGHT = 120  # of a frame
GAP = 8
MARGIN = 24
TEXT = 16
WORDS = 720  # wide
BACKGROUND, LABEL, DIM = "#17181b", "#e3e6eb", "#9aa1ac"
SHOWN = 3  # frames of a clip
ROWS = 40  # on a page
FIRST_SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class Row:
    """A clip: frames uint8 [SHOWN, h, w, 3], its caption, and what it is."""

    frames: Tensor
    caption: str
    told: str


def thumbnails(frames: Tensor) -> Tensor:
    """float32 [F, H, W, 3] in 0..1 -> the first, the middle and the last, HEIGHT high, uint8."""
    chosen = frames[[0, len(frames) // 2, len(frames) - 1]].permute(0, 3, 1, 2)
    width = max(1, round(frames.shape[2] * HEIGHT / frames.shape[1]))
    small = torch.nn.functional.interpolate(chosen, (HEIGHT, width), mode="area")
    return (small.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)


def write_sheets(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Write contact_sheet.png into the folder, and _2 and so on where there are more clips than fit on one."""
    written = []
    for number, start in enumerate(range(0, len(rows), ROWS), 1):
        path = folder / (FIRST_SHEET if number == 1 else f"contact_sheet_{number}.png")
        save_picture(path, draw(rows[start : start + ROWS]))
        written.append(path)
    return written


def draw(rows: Sequence[Row]) -> Image.Image:
    wide = max(SHOWN * (row.frames.shape[2] + GAP) for row in rows)
    page = Image.new("RGB", (2 * MARGIN + wide + WORDS, 2 * MARGIN + len(rows) * (HEIGHT + GAP)), BACKGROUND)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=TEXT)
    for index, row in enumerate(rows):
        top = MARGIN + index * (HEIGHT + GAP)
        for place, frame in enumerate(row.frames):
            page.paste(Image.fromarray(frame.numpy()), (MARGIN + place * (frame.shape[1] + GAP), top))
        left = MARGIN + wide + GAP
        pen.text((left, top), row.told, fill=DIM, font=font)
        for line, words in enumerate(wrapped(row.caption, pen, font)[: HEIGHT // (TEXT + 6) - 1], 1):
            pen.text((left, top + line * (TEXT + 6)), words, fill=LABEL, font=font)
    return page


def wrapped(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Lines no wider than WORDS; letters that the font lacks are boxes."""
    lines = [""]
    for word in text.split():
        while pen.textlength(word, font=font) > WORDS:  # scripts without spaces
            half = max(1, len(word) // 2)
            lines[-1:] = [*([lines[-1]] if lines[-1] else []), word[:half], ""]
            word = word[half:]
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font=font) > WORDS:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
