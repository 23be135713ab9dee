"""The values of a config.json: of the right kind, and in range."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import MovaError
from ..shorten import short

# Far above every model, and small enough that a module of these sizes is built on the meta device in no time.
MAX_SIZE = 2**17
MAX_LAYERS = 500
MAX_STRIDE = 100
MAX_ITEMS = 8  # of a patch size, or strides

Config = TypeVar("Config")


def known_fields(cls: type[Config], part: str, values: Mapping[str, Any]) -> Config:
    """Build a config dataclass from a config.json, which may hold more keys than we need.

    Raises MovaError for a key that is missing, of another type, or out of range.
    """
    kept: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
        if entry.name not in values:
            if entry.default is dataclasses.MISSING:
                raise MovaError(f"{part}/config.json lacks {entry.name}; take the config.json from the release.")
            continue
        value = values[entry.name]
        if not fits(value, entry.type, MAX_LAYERS if entry.name.endswith("layers") else MAX_SIZE):
            raise MovaError(
                f"{part}/config.json: {entry.name} is {short(value)}; take the config.json from the release."
            )
        kept[entry.name] = tuple(value) if isinstance(value, list) else value
    return cls(**kept)


def fits(value: Any, kind: Any, largest: int) -> bool:
    """Whether a value is of a field's type (bool, str, int, float, else a tuple of int), its numbers in range."""
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind in (int, float):
        number = isinstance(value, int | kind) and not isinstance(value, bool)
        return number and 0 < value <= largest  # False for NaN too
    if not isinstance(value, list | tuple):
        return False
    return 0 < len(value) <= MAX_ITEMS and all(fits(item, int, MAX_STRIDE) for item in value)


def refuse_variants(part: str, values: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise MovaError if config.json asks for a variant of the architecture that no release uses."""
    for name, value in wanted.items():
        if values.get(name, value) != value:
            raise MovaError(
                f"{part}/config.json: {name} is {short(values[name])}, but only {value!r} is supported; "
                "use a checkpoint with the released architecture."
            )


def is_number(value: Any) -> bool:
    """Whether this is a finite number that a float can hold."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )  # False for NaN
