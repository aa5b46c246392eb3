"""Critical paths: the published cases exactly, laws on any forest, and the same as a walk tick by tick."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span
from analysis.test_accounting import columns, messy_spans
from hypothesis import given, settings

from tailsight_analysis.errors import AnalysisError
from tailsight_analysis.requests import critical_path
from tailsight_analysis.requests.accounting import Spans, parents
from tailsight_analysis.requests.critical_path import critical_paths

EXPECTED = Path(__file__).parents[3] / "shared" / "data" / "expected" / "jaeger_critical_path.json"


def sections(spans: list[Span], entries: list[int]) -> list[tuple[int, int, int, int]]:
    """(request, span id, start, end) of each piece."""
    table = columns(spans)
    found = critical_paths(table, parents(table), np.array(entries, dtype=np.int64))
    pieces = zip(found.request, table.span_id[found.span], found.start_ns, found.end_ns, strict=True)
    return [tuple(int(value) for value in piece) for piece in pieces]


@pytest.fixture(params=["one by one", "all at once"])
def either_way(request, monkeypatch):
    """Levels of few spans go another way than those of many: both must be right."""
    monkeypatch.setattr(critical_path, "_FEW", 10**9 if request.param == "one by one" else -1)


@pytest.mark.shared_data
@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("case", ["test1", "test2", "test5", "test8"])
def test_the_cases_of_jaeger_come_out_exactly(case):
    if not EXPECTED.exists():
        pytest.skip("../shared/data is not here")
    (given_case,) = [each for each in json.loads(EXPECTED.read_text())["cases"] if each["case"] == case]
    given_spans = given_case["trace"]["spans"]
    ids = {span["spanID"]: number for number, span in enumerate(given_spans, 1)}
    kinds = {"producer": 4, "consumer": 5}
    spans = []
    for span in given_spans:
        tags = {tag["key"]: tag["value"] for tag in span.get("tags", ())}
        above = next((ids[reference["spanID"]] for reference in span["references"]), 0)
        kind = kinds.get(tags.get("span.kind"), 1)
        spans.append(Span(1, ids[span["spanID"]], above, span["startTime"], span["duration"], kind=kind))
    (root,) = [row for row, span in enumerate(spans) if not span.parent]
    expected = {(ids[s["spanID"]], s["sectionStart"], s["sectionEnd"]) for s in given_case["expected_sections"]}
    assert {(span, start, end) for _, span, start, end in sections(spans, [root])} == expected


@pytest.mark.usefixtures("either_way")
def test_what_runs_beside_the_longest_branch_is_not_on_the_path():
    spans = [
        Span(1, 1, 0, 0, 100),
        Span(1, 2, 1, 10, 30, stage="fast"),
        Span(1, 3, 1, 10, 70, stage="slow"),
        Span(1, 4, 3, 20, 50, stage="inside"),
    ]
    assert sections(spans, [0]) == [
        (0, 1, 0, 10), (0, 3, 10, 20), (0, 4, 20, 70), (0, 3, 70, 80), (0, 1, 80, 100),
    ]  # fmt: skip


@pytest.mark.usefixtures("either_way")
def test_a_tenth_of_overlap_is_clocks_and_more_is_another_branch():
    apart = [Span(1, 1, 0, 0, 100), Span(1, 2, 1, 0, 50), Span(1, 3, 1, 45, 55)]
    assert sections(apart, [0]) == [(0, 2, 0, 45), (0, 3, 45, 100)]
    beside = [Span(1, 1, 0, 0, 100), Span(1, 2, 1, 0, 50), Span(1, 3, 1, 44, 56)]
    assert sections(beside, [0]) == [(0, 1, 0, 44), (0, 3, 44, 100)]


@pytest.mark.usefixtures("either_way")
def test_a_child_on_a_host_with_another_clock_lies_in_its_parent():
    spans = [Span(1, 1, 0, 1000, 100, kind=3, host="h1"), Span(1, 2, 1, 7, 60, kind=2, host="h2")]
    assert sections(spans, [0]) == [(0, 2, 1000, 1060), (0, 1, 1060, 1100)]
    spans = [Span(1, 1, 0, 1000, 100, kind=3, host="h1"), Span(1, 2, 1, 1030, 60, kind=2, host="h2")]
    assert sections(spans, [0]) == [(0, 1, 1000, 1030), (0, 2, 1030, 1090), (0, 1, 1090, 1100)]


def test_each_request_has_its_own_path_also_inside_another():
    spans = [Span(1, 1, 0, 0, 100), Span(1, 2, 1, 50, 80, stage="a")]
    assert sections(spans, [1, 0]) == [(0, 2, 50, 130), (1, 1, 0, 50), (1, 2, 50, 100)]


def test_no_requests_have_no_paths():
    assert sections([], []) == []
    assert sections([Span(1, 1, 0, 0, 10)], []) == []


def test_a_follower_says_so_in_a_link_and_a_consumer_by_its_kind(store):
    from testkit.otlp import request

    from tailsight_analysis import tail, whole_time

    spans = []
    for trace in range(1, 21):
        link = {
            "trace_id": trace.to_bytes(16, "big"), "span_id": (1).to_bytes(8, "big"),
            "attributes": [{"key": "opentracing.ref_type", "value": {"string_value": "follows_from"}}],
        }  # fmt: skip
        long = 90 if trace > 18 else 50
        spans += [
            brute_force.fields(Span(trace, 1, 0, 0, long + 10)),
            brute_force.fields(Span(trace, 2, 1, 0, 30, stage="waited")),
            brute_force.fields(Span(trace, 3, 1, 30, long - 30, stage="follows")) | {"links": [link]},
            brute_force.fields(Span(trace, 4, 1, 35, long - 35, stage="consumes", kind=5)),
        ]
    message = request(spans, {"service.name": "s", "host.name": "h"}).SerializeToString()
    store.insert_otlp_traces(brute_force._varint(len(message)) + message, "followers")
    answer = tail(store, whole_time(store), quantile=0.9)
    assert [stage.stage for stage in answer.stages] == ["waited"]
    assert answer.unaccounted.tail_ms == pytest.approx(0.07)


@given(messy_spans)
@settings(deadline=None, max_examples=400)
def test_paths_equal_a_walk_tick_by_tick_and_add_up_both_ways(spans):
    spans.sort(key=lambda span: (span.trace, span.id, span.order))
    table = columns(spans)
    parent = parents(table)
    entries = np.arange(len(spans), dtype=np.int64)
    above = brute_force.parent_of(spans)
    found = {}
    few = critical_path._FEW
    try:
        for critical_path._FEW in (-1, 10**9):
            result = critical_paths(table, parent, entries)
            found[critical_path._FEW] = [column.tolist() for column in (result.request, result.span, result.start_ns)]
            held = np.zeros((len(spans), len(spans)), dtype=int)
            np.add.at(held, (result.request, result.span), result.duration_ns)
            assert held.sum(axis=1).tolist() == [span.duration for span in spans]
            for row, span in enumerate(spans):
                expected = brute_force.path_ticks(span, spans, above)
                assert {other: int(t) for other, t in zip(spans, held[row], strict=True) if t} == {
                    other: ticks for other, ticks in expected.items() if ticks
                }
            # without gap or overlap, from the request's start to its end
            same = result.request[1:] == result.request[:-1]
            assert (result.start_ns[1:][same] == result.end_ns[:-1][same]).all()
    finally:
        critical_path._FEW = few
    assert found[-1] == found[10**9]


@pytest.mark.parametrize("shape", ["chain", "in a row", "beside each other", "two by two"])
def test_the_path_of_100_000_spans_takes_little_time(shape):
    n = 100_000
    ids = np.arange(1, n + 1, dtype=np.uint64)
    above = {"chain": ids - 1, "two by two": ids // 2}.get(shape, (ids > 1).astype(np.uint64))
    starts = np.arange(n, dtype=np.int64)
    durations = np.full(n, 1, dtype=np.int64)
    if shape == "chain":
        durations = 2 * (n - starts)
    elif shape == "beside each other":
        durations[:] = n
    elif shape == "two by two":
        starts = np.zeros(n, dtype=np.int64)
        durations = n - np.arange(n, dtype=np.int64)
    durations[0] = 2 * n
    nothing = np.zeros(n, dtype=np.int64)
    table = Spans(nothing, ids, above, starts, durations, nothing, nothing + 1, np.ones(n, dtype=np.bool_))
    started = time.process_time()
    found = critical_paths(table, parents(table), np.array([0]))
    assert found.duration_ns.sum() == 2 * n
    assert time.process_time() - started < 12


def test_more_pieces_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(critical_path, "MAX_SECTIONS", 3)
    with pytest.raises(AnalysisError, match="narrow the question"):
        sections([Span(1, 1, 0, 0, 10), Span(1, 2, 1, 2, 2), Span(1, 3, 1, 6, 2)], [0])
