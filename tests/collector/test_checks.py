from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testkit.otlp import request, span

from tailsight_collector import BadRequestError
from tailsight_collector.receive.checks import DAY_NS, MAX_UNFOLDED_BYTES, REASONS, YEAR_2000_NS, check, rejection

RECEIVED_NS = 1_790_000_000 * 10**9
IDS = st.one_of(st.binary(max_size=18), st.just(bytes(8)), st.just(bytes(16)), st.binary(min_size=8, max_size=8))
TIMES = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([YEAR_2000_NS, RECEIVED_NS + DAY_NS]).flatmap(lambda edge: st.integers(edge - 1, edge + 1)),
    st.just(RECEIVED_NS - 1),
)


@given(st.lists(st.tuples(st.one_of(IDS, st.binary(min_size=16, max_size=16)), IDS, IDS, TIMES, TIMES), max_size=8))
def test_the_quick_check_of_a_request_is_the_slow_one_of_each_span(cases):
    names = ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano")
    checked = check(request([span(**dict(zip(names, case, strict=True))) for case in cases]), RECEIVED_NS)
    wanted = Counter(filter(None, (rejection(*case, RECEIVED_NS) for case in cases)))
    assert (checked.spans, checked.rejected) == (len(cases), wanted)
    assert wanted.keys() <= REASONS.keys()
    assert bool(checked.message) == bool(wanted)


def test_what_unfolds_with_every_span_is_bounded():
    size = 1_000_000
    allowed = MAX_UNFOLDED_BYTES // (size + 100)
    resource = {"big": "x" * size}
    assert check(request([span()] * allowed, resource), RECEIVED_NS).spans == allowed
    with pytest.raises(BadRequestError, match="unfold") as caught:
        check(request([span()] * (allowed + 2), resource), RECEIVED_NS)
    assert caught.value.status == 413
