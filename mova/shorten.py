"""Names and values from a file as they go into messages: a bad file may hold anything, of any length."""

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

LENGTH = 120
_shortener = reprlib.Repr()
_shortener.maxstring = LENGTH
_shortener.maxlevel = 2  # six values a level: nested lists would still make a page


def short(value: Any) -> str:
    """Its repr, on one line and at most 120 characters long, cut in the middle."""
    text = _shortener.repr(value)
    return text if len(text) <= LENGTH else f"{text[: LENGTH // 2]}...{text[3 - LENGTH // 2 :]}"


def first_names(names: Sequence[str], show: Callable[[str], str] = short) -> str:
    """The first three names, fewer if they are long, and how many more there are."""
    shown: list[str] = []
    for text in map(show, names[:3]):
        if shown and len(", ".join([*shown, text])) > 150:
            break
        shown.append(text)
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def printable(text: str) -> str:
    """Without control characters: what a file says must not command the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
