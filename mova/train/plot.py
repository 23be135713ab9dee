"""The losses of a run as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .ours import save_picture

# Pixels
WIDTH, HEIGHT, MARGIN = 1280, 560, 70
BACKGROUND, GRID, LABEL = "#17181b", "#33363c", "#b9bec7"
CURVES = {  # by expert and column: name and colour
    ("video_dit", "video_loss"): ("high noise, picture", "#5fb3a8"),
    ("video_dit", "audio_loss"): ("high noise, sound", "#3c6f9c"),
    ("video_dit_2", "video_loss"): ("low noise, picture", "#e0a458"),
    ("video_dit_2", "audio_loss"): ("low noise, sound", "#b0605f"),
}
SMOOTHED = 0.05  # of the points of a curve are averaged


def points(records: Sequence[Mapping[str, Any]], expert: str, column: str) -> list[tuple[float, float]]:
    """(step, loss), averaged over as many neighbours before it as makes the curve readable."""
    found = [
        (float(record["step"]), float(record[column]))
        for record in records
        if record.get("expert") == expert and record.get(column) not in ("", None)
    ]
    span = max(1, round(len(found) * SMOOTHED))
    return [
        (found[i][0], sum(loss for _, loss in found[max(0, i - span + 1) : i + 1]) / min(span, i + 1))
        for i in range(0, len(found), max(1, len(found) // WIDTH))
    ]


def write_plot(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG of the losses."""
    save_picture(path, draw_plot(records))


def draw_plot(records: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A curve for each expert and modality."""
    curves = {key: points(records, *key) for key in CURVES}
    every = [point for curve in curves.values() for point in curve]
    last = max((step for step, _ in every), default=1.0) or 1.0
    top = max((loss for _, loss in every), default=1.0) * 1.05 or 1.0
    page = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=16)

    def place(step: float, loss: float) -> tuple[float, float]:
        return MARGIN + step / last * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - loss / top * (HEIGHT - 2 * MARGIN)

    for tick in range(6):
        loss, step = top * tick / 5, last * tick / 5
        pen.line([place(0, loss), place(last, loss)], fill=GRID)
        pen.text((MARGIN - 8, place(0, loss)[1]), f"{loss:.3g}", fill=LABEL, font=font, anchor="rm")
        pen.text((place(step, 0)[0], HEIGHT - MARGIN + 10), f"{step:.0f}", fill=LABEL, font=font, anchor="ma")
    shown = [(name, colour, curves[key]) for key, (name, colour) in CURVES.items() if curves[key]]
    for number, (name, colour, curve) in enumerate(shown):
        where = [place(*point) for point in curve]
        pen.line(where if len(where) > 1 else [*where, (where[0][0] + 2, where[0][1])], fill=colour, width=2)
        pen.text((MARGIN + number * 280, MARGIN // 3), name, fill=colour, font=font)
    return page
