"""The bounds that make MOVA fit on consumer GPUs; the figures themselves are in docs/benchmarks.md."""

import pytest
from peak_memory import measure

from mova.config import PRESETS


@pytest.mark.parametrize(("name", "gib", "flops"), [("MOVA-360p", 2.3, 1.212e15), ("MOVA-720p", 9.2, 4.944e15)])
def test_a_released_size_forward_stays_within_its_memory_and_work(name, gib, flops):
    peak, work, _ = measure(PRESETS[name])
    assert 1.0 < peak <= gib
    assert work <= flops  # the published code's, attention scores left out
