"""A trace id as one number: as good as unique, whatever the ids look like."""

import numpy as np
import pytest

from tailsight_analysis.requests.trace_number import trace_number

COUNTS = [(first + 1, last + 1) for first in range(200) for last in range(200)]


@pytest.mark.parametrize(
    ("high", "low"), [("big", "big"), ("little", "little"), ("little", "big"), ("big", "little")],
    ids=["big-big", "little-little", "little-big", "big-little"],
)  # fmt: skip
def test_counters_in_both_halves_do_not_collide(high, low):
    ids = b"".join(first.to_bytes(8, high) + last.to_bytes(8, low) for first, last in COUNTS)
    halves = np.frombuffer(ids, dtype="<u8").reshape(-1, 2)
    assert len(np.unique(trace_number(halves[:, 0], halves[:, 1]))) == len(COUNTS)
