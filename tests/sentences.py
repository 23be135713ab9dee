"""What a user is told when something is refused."""

import time

import pytest

from mova import MovaError


def refusal(call, *arguments, longest=500) -> str:
    """The message of the MovaError that the call raises, checked to be one sentence, and raised soon."""
    began = time.process_time()
    with pytest.raises(MovaError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message.endswith(".") and message.isprintable() and len(message) < longest, message
    assert ".part" not in message, message  # the name that a file has while it is written
    assert time.process_time() - began < 20
    return message
