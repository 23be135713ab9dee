"""Which files training has written itself: it replaces no others."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from ..checkpoint.weights import open_file
from ..errors import MovaError
from ..files import whole_file
from .output import COLUMNS, TOLD, split_paths, told_of

MARK = "Software", "mova train"  # a text in our pictures


def save_picture(path: Path, page: Image.Image) -> None:
    """Write a PNG that is known again as ours."""
    told = PngImagePlugin.PngInfo()
    told.add_text(*MARK)
    with whole_file(path) as temporary:
        page.save(temporary, format="PNG", pnginfo=told)


def is_picture(path: Path) -> bool:
    """Whether save_picture wrote it."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(MARK[0]) == MARK[1]
    except Exception:  # whatever a file that is no picture leads to
        return False


def is_table(path: Path) -> bool:
    """Whether it begins as output.write_log's table of losses."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # -sig: spreadsheets write one
            return tuple(next(csv.reader(file), ())) == COLUMNS
    except (OSError, ValueError, csv.Error):
        return False


def is_lora(path: Path, split: bool = False) -> bool:
    """Whether output.write_lora wrote it, or with `split` write_split."""
    try:
        weights = open_file(path)
    except MovaError:
        return False
    return TOLD in weights.metadata and split == any(name.startswith("diffusion_model.") for name in weights.tensors)


def check_ours(kinds: Mapping[Path, Callable[[Path], bool]]) -> None:
    """Raise MovaError for a file that is there already and is not of its kind."""
    for path, is_ours in kinds.items():
        if path.exists() and not is_ours(path):
            raise MovaError(
                f"{path} is there already, and is not of a training run, which would replace it; move it away, or give "
                "another --out."
            )


def check_not_finished(out: Path) -> None:
    """Raise MovaError if a LoRA is there that has had all its steps: another run would replace hours of work."""
    told = told_of(open_file(out)) if is_lora(out) else {}
    if told and told.get("steps_done") == told.get("steps"):
        raise MovaError(f"{out} is there already, and was trained to its end; give another --out, or move it away.")


def check_out(out: Path, split: bool = False) -> None:
    """Raise MovaError if what a run writes would take the place of somebody else's file.

    out: the LoRA's file, beside which the losses lie; split: whether each expert gets a file of its own, too.
    """
    check_ours({out: is_lora, out.with_suffix(".csv"): is_table, out.with_suffix(".png"): is_picture})
    if split:
        check_ours(dict.fromkeys(split_paths(out).values(), lambda path: is_lora(path, split=True)))
