"""Tests that `make slow` runs, and `make test` names as skipped."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

RUNS = bool(os.environ.get("MOVA_SLOW_TESTS"))


def slow(why: str) -> pytest.MarkDecorator:
    """why: in a few words, what it takes or what holds the same meanwhile."""
    return pytest.mark.skipif(not RUNS, reason=f"{why}: make slow runs it, or MOVA_SLOW_TESTS=1")


def few(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test: those kept run always, the others where the slow ones do."""
    values = list(values)
    assert set(kept) <= set(values), kept
    return [one if one in kept else pytest.param(one, marks=slow(f"as with {kept[0]}")) for one in values]
