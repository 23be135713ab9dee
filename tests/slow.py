"""Tests that `make slow` runs, and `make test` names as skipped."""

import os

import pytest

RUNS = bool(os.environ.get("MOVA_SLOW_TESTS"))


def slow(why: str) -> pytest.MarkDecorator:
    """why: in a few words, what it takes or what holds the same meanwhile."""
    return pytest.mark.skipif(not RUNS, reason=f"{why}: make slow runs it, or MOVA_SLOW_TESTS=1")
