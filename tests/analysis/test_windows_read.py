"""A window of time is a range of the table's key: whatever lies far from it is not read."""

import pytest
from analysis.brute_force import BASE_NS

from tailsight_analysis.queries import query

HOUR_NS = 3600 * 10**9
SPANS, HOURS = 200_000, 40
MADE = """
INSERT INTO spans (received_at, start_time, duration_ns, trace_id, span_id)
SELECT now64(3, 'UTC'), fromUnixTimestamp64Nano({until_ns:Int64} - toInt64(number) * {apart_ns:Int64}, 'UTC'), 1000,
    sipHash128(number), reinterpretAsFixedString(number + 1)
FROM numbers({spans:UInt64})
"""


@pytest.fixture
def days(store):
    store.run(MADE, until_ns=BASE_NS, apart_ns=HOURS * HOUR_NS // SPANS, spans=SPANS)
    store.run("OPTIMIZE TABLE spans FINAL")
    return store


@pytest.mark.parametrize(("fragment", "hours"), [("within", 1), ("around", 3)])
def test_only_what_lies_near_a_window_is_read(days, fragment, hours):
    asked = f"SELECT count(), max(s.duration_ns) FROM spans AS s WHERE {query(fragment).text}"
    window = {"since_ns": BASE_NS - 20 * HOUR_NS, "until_ns": BASE_NS - 19 * HOUR_NS}
    assert days.rows(asked, **window)[0][0] == SPANS * hours // HOURS
    read = sum(row[3] for row in days.rows(f"EXPLAIN ESTIMATE {asked}", **window))
    assert read < SPANS * (hours + 2) // HOURS + 3 * 8192


@pytest.mark.parametrize("fragment", ["within", "around"])
@pytest.mark.parametrize(
    ("since_ns", "until_ns"), [(0, 9 * 10**18), (-(10**18), 4 * 10**18), (BASE_NS - 50 * HOUR_NS, BASE_NS + HOUR_NS)],
    ids=["all-time", "before-1970", "days"],
)  # fmt: skip
def test_a_window_beyond_what_minutes_can_say_holds_all(days, fragment, since_ns, until_ns):
    asked = f"SELECT count() FROM spans AS s WHERE {query(fragment).text}"
    assert days.rows(asked, since_ns=since_ns, until_ns=until_ns) == [(SPANS,)]
