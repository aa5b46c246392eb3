"""`breakdown` and `tail` over a real store equal the definitions computed with loops, on traces however broken."""

import os

import pytest
from analysis import brute_force
from analysis.brute_force import Span
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tailsight_analysis import DIMENSIONS, Filters, NoSpansError, NotEnoughDataError, breakdown, tail

RUNS_A_STORE = settings(
    # an example takes half a second; TAILSIGHT_EXAMPLES=500 looks harder
    max_examples=int(os.environ.get("TAILSIGHT_EXAMPLES", "15")),
    # and makes what it finds smaller, which takes minutes
    phases=[phase for phase in Phase if phase is not Phase.shrink or "TAILSIGHT_EXAMPLES" in os.environ],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def messy_traces(draw: st.DrawFn, least: int = 1, most: int = 14, *, sampled: bool = False) -> list[Span]:
    """Several roots or none, orphans, cycles, shared ids, other hosts with other clocks, children that overlap.

    With `sampled`, spans stand for several, were decided about, and say when they should have started, also nonsense.
    """
    weights = st.sampled_from([1, 1, 2, 20]) if sampled else st.just(1)
    intentions = st.sampled_from([None, None, 0, -7, 60, -HOUR, -HOUR + 41, "soon"]) if sampled else st.none()
    spans = []
    for trace in range(1, draw(st.integers(least, most)) + 1):
        tidy = draw(st.booleans())
        for number in range(1, draw(st.integers(1, 7)) + 1):
            spans += [
                Span(
                    trace=trace,
                    id=number if tidy else draw(st.integers(1, 5)),
                    parent=draw(st.integers(0, number - 1)) if tidy else draw(st.integers(0, 6)),
                    start=draw(st.integers(0, 40)),
                    duration=draw(st.integers(0, 60)),
                    stage=draw(st.sampled_from(["", "queue", "compute", "it's \\odd\t"])),
                    service=draw(st.sampled_from(["front", "back"])),
                    host=draw(st.sampled_from(["h1", "h2"])),
                    hardware=draw(st.sampled_from(["L4", "H100"])),
                    model=draw(st.sampled_from(["", "m1"])),
                    kind=draw(st.sampled_from([1, 2, 3])),
                    error=draw(st.booleans()),
                    weight=draw(weights),
                    decided=sampled and draw(st.booleans()),
                    intended=draw(intentions),
                    attributes=(
                        (("color", draw(st.sampled_from(["red", "blue", ""]))),) if draw(st.booleans()) else ()
                    ),
                )
            ]
    return spans


HOUR = 3_600_000_000  # ticks
some_filters = st.builds(
    Filters,
    service=st.sampled_from([(), (), ("front",), ("back",), ("front", "back"), ("none",)]),
    hardware=st.sampled_from([(), (), ("L4",)]),
    stage=st.sampled_from([(), (), ("it's \\odd\t", "queue")]),
    model=st.sampled_from([(), (), ("m1",)]),
)
some_windows = st.one_of(st.just((0, 41)), st.tuples(st.integers(0, 20), st.integers(21, 41)))


@RUNS_A_STORE
@given(
    spans=st.one_of(messy_traces(), messy_traces(sampled=True)),
    scope=some_windows,
    filters=some_filters,
    by=st.lists(st.sampled_from(DIMENSIONS), min_size=1, max_size=3, unique=True),
)
def test_breakdown_equals_brute_force(engine, spans, scope, filters, by):
    engine.run("TRUNCATE TABLE spans")
    brute_force.insert(engine, spans)
    requests, rows = brute_force.breakdown(spans, *scope, filters, tuple(by))
    if not rows:
        with pytest.raises(NoSpansError):
            breakdown(engine, brute_force.window(*scope), filters, by)
        return
    result = breakdown(engine, brute_force.window(*scope), filters, by)
    found = {tuple(row.group.values()): row for row in result.rows}
    assert found.keys() == rows.keys()
    for group, expected in rows.items():
        assert figures(found[group]) == approximately(expected), group
    assert (result.requests is None) == (requests is None)
    if requests is not None:
        assert figures(result.requests) == approximately(requests)
    entries = brute_force.requests(spans, *scope, filters)
    expected = brute_force.response(entries)
    found = result.response and result.response.to_json()
    if expected is None:
        assert found is None
        return
    assert (found["count"], found["ignored"]) == (expected["count"], expected["ignored"])
    for name in ("service_ms", "response_ms"):
        assert found[name] == (expected[name] and pytest.approx(expected[name], rel=1e-9))


@RUNS_A_STORE
@given(
    spans=st.one_of(messy_traces(least=8, most=25), messy_traces(least=8, most=25, sampled=True)),
    scope=some_windows,
    filters=some_filters,
    quantile=st.sampled_from([0.7, 0.8, 0.9]),
)
def test_tail_equals_brute_force(engine, spans, scope, filters, quantile):
    engine.run("TRUNCATE TABLE spans")
    brute_force.insert(engine, spans)
    entries = brute_force.requests(spans, *scope, filters)
    count = sum(entry.weight for entry in entries)
    needed = {0.7: 5, 0.8: 5, 0.9: 10}[quantile]
    if count < needed or len(entries) < 5:
        with pytest.raises(NotEnoughDataError) as caught:
            tail(engine, brute_force.window(*scope), filters, quantile)
        assert caught.value.missing == ((needed - count if count < needed else 5 - len(entries)) if count else None)
        return
    expected = brute_force.tail(spans, *scope, filters, quantile)
    result = tail(engine, brute_force.window(*scope), filters, quantile, limit=1000)
    assert result.requests == count
    assert result.threshold_ms == pytest.approx(expected["threshold_ms"])
    assert (result.tail_requests, result.typical_requests) == (expected["tail_requests"], expected["typical_requests"])
    assert (result.held.requests, result.held.tail, result.held.typical) == expected["stored"]
    assert {stage.stage: (stage.tail_ms, stage.typical_ms) for stage in result.stages} == {
        name: pytest.approx(means, abs=1e-12) for name, means in expected["stages"].items()
    }
    assert (result.unaccounted.tail_ms, result.unaccounted.typical_ms) == pytest.approx(
        expected["unaccounted"], abs=1e-12
    )
    for part in (*result.stages, result.unaccounted):
        assert part.excess_ms == pytest.approx(part.tail_ms - part.typical_ms, abs=1e-12)
        for share, ms, whole_ms in (
            (part.tail_path_share, part.tail_ms, result.total.tail_ms),
            (part.typical_path_share, part.typical_ms, result.total.typical_ms),
        ):
            assert share == pytest.approx(ms / whole_ms if whole_ms else 0, abs=1e-12)
        if expected["whole_ms"]:
            assert part.excess_share == pytest.approx(part.excess_ms / expected["whole_ms"], abs=1e-9)
    assert result.attributes_tested == expected["attributes_tested"]
    for listed in result.attributes:  # Fisher's test is one of two that each must pass: see test_significance.py
        *shares, p_value = expected["attributes"][listed.key, listed.value]
        assert (listed.tail_share, listed.typical_share) == pytest.approx(shares)
        assert listed.p_value >= p_value * (1 - 1e-6)


def figures(row) -> dict[str, float | None]:
    """Without the group's names, and without the intervals, which test_confidence.py is about."""
    left_out = {*getattr(row, "group", ()), "missing"}
    return {
        name: value
        for name, value in row.to_json().items()
        if name not in left_out and not name.endswith("_interval_ms")
    }


def approximately(expected: dict[str, float | None]) -> dict[str, object]:
    return {name: value if value is None else pytest.approx(value, abs=1e-12) for name, value in expected.items()}
