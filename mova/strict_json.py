"""JSON from outside. Python's reader is too generous: here a name twice, NaN and numbers beyond float are faults."""

import json
import math
from typing import Any, NoReturn

from .shorten import short


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError (one line) if it is none, or has one of those faults."""
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"it has {short(name)} twice")
        values[name] = value
    return values


def refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{short(digits)} is too large a number")
    return value
