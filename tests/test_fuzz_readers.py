"""A few seconds of fuzz_readers.py; fuzz_atheris.py does it for as long as you like."""

from pathlib import Path

import pytest
from fuzz_readers import TARGETS, check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

quick = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_any_bytes_give_a_value_or_one_sentence_soon(tmp_path, target):
    outcomes = set()

    @quick
    @given(data=st.binary(max_size=40) | st.binary(min_size=20, max_size=40))
    def run(data):
        outcomes.add(check(target, data, Path(tmp_path)))

    run()
    assert False in outcomes  # some of it was refused, and some taken where a good file is the starting point
    assert True in outcomes or target.__name__.startswith(("raw", "framed"))
