"""The workflows as they ship for the canvas."""

import json
from pathlib import Path

from authoring.pages import WORKFLOWS
from authoring.zh import ENGLISH

ALL = [*WORKFLOWS, *ENGLISH]  # in English, in Chinese


def read(name):
    return json.loads((Path(__file__).parents[1] / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
