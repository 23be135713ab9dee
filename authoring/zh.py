"""The workflows in Chinese: names of files, titles of cards, and all words of the pages (zh.json)."""

import json
from pathlib import Path

ZH = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
NAMES: dict[str, str] = ZH["names"]
TITLES: dict[str, str] = ZH["cards"]
ENGLISH = {chinese: english for english, chinese in NAMES.items()}


def in_chinese(text: str) -> str:
    """A text of steps.py, pages.py or given.py, word for word as it stands there. Raises KeyError for one that is not
    translated."""
    words, mark, table = text.partition(":\n\n|")
    if not mark:
        return ZH["words"][text]
    for english, chinese in ZH["plans"].items():
        table = table.replace(english, chinese, 1)
    return ZH["words"][words + ":"] + mark[1:] + table
