"""One trace: other people's traces and their known facts, laws on any forest, and what broken traces must say."""

import itertools
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span
from analysis.test_accounting import columns, messy_spans
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.otlp import request
from testkit.processes import eventually

from tailsight_analysis import NoSpansError, QuestionError, choices, connect, trace, whole_time
from tailsight_analysis.requests.accounting import NO_PARENT
from tailsight_analysis.tracing.account import account_for, outside, without_parent
from tailsight_analysis.tracing.ids import parse_trace_id
from tailsight_analysis.tracing.tree import fold, tree_of
from tailsight_collector.importer import StoreTarget, import_files

SHARED = Path(__file__).parents[3] / "shared" / "data"
SAMPLE = Path(__file__).parents[2] / "sample_traces" / "demo.otlp.zst"
CRITICAL_PATHS = SHARED / "expected" / "jaeger_critical_path.json"
KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_tokens = itertools.count()


def insert_fields(store, spans, resource=None):
    """Insert spans as dictionaries of OTLP's fields."""
    message = request(spans, resource or {"service.name": "s", "host.name": "h"}).SerializeToString()
    store.insert_otlp_traces(brute_force._varint(len(message)) + message, f"trace-{time.time_ns()}-{next(_tokens)}")


def insert_jaeger(store, given_trace, trace_id):
    """Insert a trace of Jaeger's API, whose times are microseconds; returns the number that each span id became."""
    ids = {span["spanID"]: number for number, span in enumerate(given_trace["spans"], 1)}
    origin = min(span["startTime"] for span in given_trace["spans"])
    for span in given_trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span.get("tags") or ()}
        [above] = span["references"] or [None]
        fields = brute_force.fields(
            Span(trace_id, ids[span["spanID"]], ids[above["spanID"]] if above else 0, span["startTime"] - origin,
                 span["duration"], kind=KINDS[tags.get("span.kind", "internal")])
        )  # fmt: skip
        if above and above["refType"] == "FOLLOWS_FROM":
            kind = {"key": "opentracing.ref_type", "value": {"string_value": "follows_from"}}
            fields["links"] = [
                {"trace_id": fields["trace_id"], "span_id": fields["parent_span_id"], "attributes": [kind]}
            ]
        service = given_trace["processes"][span["processID"]]["serviceName"]
        insert_fields(store, [fields], {"service.name": service})
    return ids


def ticks(milliseconds):
    return round(milliseconds * 1e6 / TICK_NS)


def ids_of(answer):
    return [int(span.span_id, 16) for span in answer.spans]


def check_laws(answer):
    """What holds for every trace, however broken."""
    assert len(answer.spans) == answer.span_count
    for asked in answer.requests:
        parts = [stage.contribution_ms for stage in asked.stages] + [asked.unaccounted_ms]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(asked.duration_ms, abs=1e-6)
        assert sum(gap.end_ms - gap.start_ms for gap in asked.unaccounted) == pytest.approx(
            asked.unaccounted_ms, abs=1e-6
        )
        at = asked.start_ms
        for piece, following in itertools.zip_longest(asked.critical_path, asked.critical_path[1:]):
            assert piece.start_ms == pytest.approx(at, abs=1e-6)
            assert piece.end_ms > piece.start_ms
            # what continues is one piece; the two halves of a Zipkin span are two spans
            assert (
                following is None or following.span_id != piece.span_id or len(set(ids_of(answer))) < len(answer.spans)
            )
            at = piece.end_ms
        assert at == pytest.approx(asked.start_ms + asked.duration_ms, abs=1e-6)
    for index, span in enumerate(answer.spans):
        assert span.parent is None or span.parent < index
        assert span.depth == (0 if span.parent is None else answer.spans[span.parent].depth + 1)
        assert span.start_ms == pytest.approx((span.start_ns - answer.start_ns) / 1e6 + span.moved_ms, abs=1e-6)
        assert 0 <= span.self_ms <= span.duration_ms
        assert span.path_ms == pytest.approx(sum(piece.end_ms - piece.start_ms for piece in span.path), abs=1e-6)
    total = sum(asked.duration_ms for asked in answer.requests)
    assert sum(span.path_ms for span in answer.spans) == pytest.approx(total, abs=1e-6)
    json.dumps(answer.to_json(), allow_nan=False)


# --- other people's traces --------------------------------------------------------------------------------------------


@pytest.mark.shared_data
@pytest.mark.parametrize("case", ["test1", "test2", "test5", "test8"])
def test_jaegers_critical_paths_come_out_exactly(store, case):
    if not CRITICAL_PATHS.exists():
        pytest.skip("../shared/data is not here")
    [given_case] = [each for each in json.loads(CRITICAL_PATHS.read_text())["cases"] if each["case"] == case]
    ids = insert_jaeger(store, given_case["trace"], 0xABCDEF)
    [root] = [span for span in given_case["trace"]["spans"] if not span["references"]]
    answer = trace(store, f"{0xABCDEF:032x}")
    check_laws(answer)
    found = [(int(p.span_id, 16), ticks(p.start_ms), ticks(p.end_ms)) for p in answer.critical_path]
    expected = [
        (ids[each["spanID"]], each["sectionStart"] - root["startTime"], each["sectionEnd"] - root["startTime"])
        for each in given_case["expected_sections"]
    ]
    assert found == sorted(expected, key=lambda piece: piece[1])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "path"),
    [
        # worked out by hand from the file's starts and durations
        ("testTraceNormal", [(5, 0, 820), (4, 820, 1200), (2, 1200, 2059), (3, 2059, 2080), (2, 2080, 2840),
                             (1, 2840, 2892), (2, 2892, 2939), (4, 2939, 3319), (5, 3319, 4902)]),
        ("traceWithOverlappingChildren", [(1, 0, 3), (2, 3, 36)]),
    ],
)  # fmt: skip
def test_jaegers_example_traces(store, name, path):
    if not SHARED.exists():
        pytest.skip("../shared/data is not here")
    given_trace = json.loads((SHARED / "jaeger_ui" / f"{name}.json").read_text())
    insert_jaeger(store, given_trace, 0xABCDEF)
    answer = trace(store, f"{0xABCDEF:032x}")
    check_laws(answer)
    found = [(int(p.span_id, 16), ticks(p.start_ms), ticks(p.end_ms)) for p in answer.critical_path]
    assert found == path


@pytest.mark.shared_data
def test_a_consumer_that_follows_is_shown_after_the_request_and_not_on_its_path(store):
    if not SHARED.exists():
        pytest.skip("../shared/data is not here")
    given_trace = json.loads((SHARED / "jaeger_ui" / "testTrace.json").read_text())
    ids = insert_jaeger(store, given_trace, 0xABCDEF)
    answer = trace(store, f"{0xABCDEF:032x}")
    check_laws(answer)
    [follower] = [span for span in answer.spans if int(span.span_id, 16) == ids["span-7"]]
    assert (follower.is_waited_for, follower.path_ms, follower.start_ms, follower.end_ms) == (False, 0, 800, 1000)
    assert answer.end_ms == 1000
    assert answer.requests[0].duration_ms == 390


@pytest.mark.shared_data
def test_jaegers_stored_traces_have_their_facts(store):
    files = sorted((SHARED / "jaeger_integration" / "traces").glob("*.json"))
    if not files:
        pytest.skip("../shared/data is not here")
    facts = json.loads((SHARED / "expected" / "trace_facts.json").read_text())
    of_trace = Counter()
    import_files(files, StoreTarget(store))
    for path in files:
        for resource in json.loads(path.read_text())["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                of_trace.update(span["traceId"].lower() for span in scope["spans"])
    assert sum(of_trace.values()) == sum(
        fact["spans"] for name, fact in facts.items() if name.startswith("jaeger_integration/traces")
    )
    for trace_id, count in of_trace.items():
        answer = trace(store, trace_id)
        check_laws(answer)
        assert answer.span_count == count


@pytest.mark.shared_data
def test_a_trace_of_two_orphans_with_one_id(store):
    path = SHARED / "jaeger_ui" / "otlp2jaeger-in.json"
    if not path.exists():
        pytest.skip("../shared/data is not here")
    import_files([path], StoreTarget(store))
    [span, *_] = json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    answer = trace(store, span["traceId"])
    check_laws(answer)
    assert (answer.without_root, answer.orphans, len(answer.requests)) == (True, 1, 1)


def test_the_recorded_demo_adds_up(store):
    import_files([SAMPLE], StoreTarget(store))
    found = store.rows("SELECT DISTINCT trace_id_hex FROM spans ORDER BY cityHash64(trace_id) LIMIT 25")
    for (trace_id,) in found:
        answer = trace(store, str(trace_id))
        check_laws(answer)
        stages = {stage.stage for asked in answer.requests for stage in asked.stages}
        assert {"queue", "compute"} <= stages
        assert {span.service for span in answer.spans if span.is_request} != set()


# --- laws -------------------------------------------------------------------------------------------------------------


@given(messy_spans, st.integers(1, 8))
@settings(deadline=None, max_examples=300)
def test_any_forest_is_read_in_order_and_its_paths_equal_a_walk_tick_by_tick(spans, limit):
    spans = sorted((span for span in spans if span.trace == 1), key=lambda span: (span.id, span.order))
    if not spans:
        return
    table = columns(spans)
    account = account_for(table)
    above = brute_force.parent_of(spans)
    entries = brute_force.requests(spans, 0, 10**6, brute_force.Filters())
    assert sorted(spans[row].unique for row in account.entry) == sorted(span.unique for span in entries)
    for number, row in enumerate(account.entry):
        mine = account.piece_request == number
        held = Counter()
        for span, length in zip(account.piece_span[mine], (account.piece_end - account.piece_begin)[mine], strict=True):
            held[spans[span]] += int(length)
        assert held == {span: t for span, t in brute_force.path_ticks(spans[row], spans, above).items() if t}

    # the order: parents first, what is below a span directly behind it, siblings by time
    order = account.tree.order.tolist()
    assert sorted(order) == list(range(len(spans)))
    placed = account.start_ns(table)
    behind = {row: [] for row in [NO_PARENT, *order]}
    for row in order:
        behind[account.parent[row]].append(row)
    walked: list[int] = []

    def walk(row: int) -> None:
        walked.append(row)
        for child in behind[row]:
            walk(child)

    for row in behind[NO_PARENT]:
        walk(row)
    assert walked == order
    assert all(placed[a] <= placed[b] for rows in behind.values() for a, b in itertools.pairwise(rows))

    # places: each child where the accounting puts it in its parent, whose own place it follows
    for row, span in enumerate(spans):
        shifts = {id(child): by for child, by in brute_force.placed(span, spans, above)}
        for child in behind[row]:
            expected = account.tree.moved_ns[row] + shifts.get(id(spans[child]), 0)
            assert account.tree.moved_ns[child] == expected

    # who belongs to no request, and who is lost
    assert outside(account) == sum(
        not any(brute_force.is_below(span, entry, above) for entry in entries) for span in spans
    )
    orphans, cycles = without_parent(table, account.parent)
    ids = {span.id for span in spans}
    assert int((orphans | cycles).sum()) == sum(above[span] is None and span.parent != 0 for span in spans)
    assert all(spans[row].parent not in ids for row in np.flatnonzero(orphans))
    assert all(spans[row].parent in ids for row in np.flatnonzero(cycles))

    # folding
    worth = np.bincount(account.piece_span, account.piece_end - account.piece_begin, len(spans)).astype(np.int64)
    folded = fold(account.tree, account.parent, (worth,), limit)
    shown = set(folded.shown.tolist())
    assert len(shown) == min(limit, len(spans))
    assert [row for row in order if row in shown] == folded.shown.tolist()
    best = max(range(len(spans)), key=lambda row: (worth[row], -order.index(row)))
    assert best in shown
    for row in shown:
        up = account.parent[row]
        while up != NO_PARENT and up not in shown:
            up = account.parent[up]
        assert folded.above[row] == up
    anchored = sum(1 for row in range(len(spans)) if row not in shown and folded.above[row] != NO_PARENT)
    assert folded.hidden.sum() == anchored


@pytest.mark.parametrize("shape", ["chain", "star", "roots"])
def test_100_000_spans_take_seconds_whatever_their_shape(shape):
    count = 100_000
    ids = np.arange(1, count + 1, dtype=np.uint64)
    parent = {"chain": ids - 1, "star": np.where(ids == 1, 0, 1), "roots": np.zeros(count)}[shape].astype(np.uint64)
    start = np.arange(count, dtype=np.int64) * 10
    length = (
        np.where(ids == 1, 10 * count, 10)
        if shape == "star"
        else 10 * count - start
        if shape == "chain"
        else start * 0 + 9
    )
    template = columns([Span(1, 1)])
    spans = type(template)(
        trace=np.zeros(count, dtype=np.int64), span_id=ids, parent_id=parent, start_ns=start,
        duration_ns=length.astype(np.int64), host=np.zeros(count, dtype=np.int64),
        half=np.ones(count, dtype=np.int64), blocks=np.ones(count, dtype=np.bool_),
    )  # fmt: skip
    started = time.process_time()
    account = account_for(spans)
    path = np.bincount(account.piece_span, account.piece_end - account.piece_begin, count).astype(np.int64)
    folded = fold(account.tree, account.parent, (path, spans.duration_ns), 60)
    assert time.process_time() - started < 20  # measured: 1 to 3 s
    assert len(folded.shown) == 60
    assert outside(account) == 0
    assert path.sum() == spans.duration_ns[account.entry].sum()


# --- what is in the answer --------------------------------------------------------------------------------------------


def test_a_server_on_another_host_leaves_the_network_to_its_client(store):
    brute_force.insert(store, [
        Span(5, 1, 0, 0, 1000, stage="compute", host="a"),
        Span(5, 2, 1, 100, 800, kind=3, stage="network", host="a"),
        Span(5, 3, 2, 70_000, 500, kind=2, stage="compute", service="back", host="b"),  # a clock 69.9 ms ahead
        Span(5, 4, 3, 70_100, 200, stage="gpu_kernel", service="back", host="b"),
    ])  # fmt: skip
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    client, server, kernel = answer.spans[1:]
    assert (client.self_ms, client.duration_ms - server.duration_ms) == (0.3, pytest.approx(0.3))
    # the smallest shift that puts the server into its client: to the client's end
    assert (server.start_ms, server.end_ms, server.moved_ms) == (0.4, 0.9, -69.6)
    assert (kernel.start_ms, kernel.moved_ms) == (0.5, -69.6)
    assert server.start_ns == BASE_NS + 70_000 * TICK_NS  # as it was sent
    assert [(m.host, m.spans, m.least_ms, m.most_ms) for m in answer.moved] == [("b", 2, -69.6, -69.6)]
    [asked] = answer.requests
    assert {s.stage: s.contribution_ms for s in asked.stages} == {"compute": 0.5, "network": 0.3, "gpu_kernel": 0.2}
    assert (asked.unaccounted_ms, asked.unaccounted) == (0, ())


def test_gaps_are_times_on_the_path_without_a_stage_and_join_across_spans(store):
    brute_force.insert(store, [
        Span(5, 1, 0, 0, 100),
        Span(5, 2, 1, 10, 20, stage="queue"),
        Span(5, 3, 1, 40, 40),
        Span(5, 4, 3, 50, 10, stage="compute"),
        Span(5, 5, 1, 12, 5),  # beside the queue: not on the path
    ])  # fmt: skip
    [asked] = trace(store, f"{5:032x}").requests
    assert [(ticks(gap.start_ms), ticks(gap.end_ms)) for gap in asked.unaccounted] == [(0, 10), (30, 50), (60, 100)]
    assert [(s.stage, ticks(s.contribution_ms), s.share) for s in asked.stages] == [
        ("queue", 20, pytest.approx(0.2)), ("compute", 10, pytest.approx(0.1)),
    ]  # fmt: skip


def test_several_roots_are_several_requests_in_the_order_of_time(store):
    brute_force.insert(store, [
        Span(5, 9, 0, 100, 50, stage="b"), Span(5, 2, 0, 300, 10, error=True), Span(5, 3, 2, 301, 5, stage="a"),
        Span(5, 4, 77, 0, 5),
    ])  # fmt: skip
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    assert [(int(r.span_id, 16), ticks(r.start_ms), r.failed) for r in answer.requests] == [
        (9, 0, False),
        (2, 200, True),
    ]
    assert ids_of(answer) == [4, 9, 2, 3]
    assert answer.begin_ms == -0.1
    assert (answer.orphans, answer.outside, answer.without_root) == (1, 1, False)
    assert [ticks(piece.start_ms) for piece in answer.critical_path] == [0, 200, 201, 206]


def test_a_cycle_is_cut_above_its_first_span_and_says_so(store):
    brute_force.insert(store, [Span(5, 1, 3, 10, 50), Span(5, 2, 1, 20, 20), Span(5, 3, 2, 25, 5)])
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    assert ids_of(answer) == [1, 2, 3]
    assert [span.in_cycle for span in answer.spans] == [True, False, False]
    assert (answer.cycles, answer.orphans, answer.without_root, answer.outside) == (1, 0, True, 0)


def test_a_span_stored_twice_is_told_and_counts_once(store):
    brute_force.insert(store, [Span(5, 1, 0, 0, 100), *[Span(5, 2, 1, 10, 50, stage="compute")] * 2])
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    assert (answer.repeated, [span.is_repeated for span in answer.spans]) == (1, [False, False, True])
    assert answer.requests[0].stages[0].contribution_ms == 0.05


def test_two_halves_of_a_zipkin_span_are_no_repetition(store):
    brute_force.insert(store, [Span(5, 1, 0, 0, 100, kind=3), Span(5, 1, 0, 20, 50, kind=2, host="h2", service="back")])
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    assert (answer.repeated, len(answer.requests)) == (0, 1)
    assert [(span.kind, span.depth, ticks(span.self_ms)) for span in answer.spans] == [
        ("CLIENT", 0, 50),
        ("SERVER", 1, 50),
    ]


def test_a_request_that_enters_below_another_lies_where_its_span_is_placed(store):
    brute_force.insert(store, [
        Span(5, 9, 0, 0, 1000),
        Span(5, 1, 9, 100, 800, kind=3),
        Span(5, 1, 0, 70_000, 500, kind=2, host="h2"),  # the other half lost its parent on the way
    ])  # fmt: skip
    answer = trace(store, f"{5:032x}")
    assert [(ticks(asked.start_ms), ticks(asked.duration_ms)) for asked in answer.requests] == [(0, 1000), (400, 500)]
    inner = answer.requests[1]
    assert [(ticks(piece.start_ms), ticks(piece.end_ms)) for piece in inner.critical_path] == [(400, 900)]
    assert [(ticks(gap.start_ms), ticks(gap.end_ms)) for gap in inner.unaccounted] == [(400, 900)]


def test_events_move_with_their_span(store):
    caller, callee = (brute_force.fields(span) for span in (Span(5, 1, 0, 0, 1000), Span(5, 2, 1, 70_000, 500)))
    callee["events"] = [{"name": "e", "time_unix_nano": BASE_NS + 70_100 * TICK_NS}]
    insert_fields(store, [caller], {"service.name": "s", "host.name": "a"})
    insert_fields(store, [callee], {"service.name": "s", "host.name": "b"})
    [event] = trace(store, f"{5:032x}").spans[1].events
    assert (event.time_ns, event.offset_ms) == (BASE_NS + 70_100 * TICK_NS, 0.6)


def test_a_request_of_no_length_and_alone(store):
    brute_force.insert(store, [Span(5, 1, 0, 0, 0)])
    answer = trace(store, f"{5:032x}")
    check_laws(answer)
    assert (answer.requests[0].duration_ms, answer.critical_path, answer.unaccounted) == (0, (), ())


def test_attributes_events_and_links_come_as_they_were_sent(store):
    fields = brute_force.fields(Span(5, 1, 0, 0, 100, kind=2, error=True, attributes=(
        ("tokens", 12), ("ratio", float("nan")), ("raw", b"\x00\xff"), ("ok", True), ("sizes", [1, 2]), ("name", "ü"),
    )))  # fmt: skip
    fields["status"] = {"code": 2, "message": "out of memory"}
    moment = BASE_NS + 30 * TICK_NS
    fields["events"] = [{
        "name": "retry", "time_unix_nano": moment, "attributes": [{"key": "n", "value": {"int_value": 3}}],
    }]  # fmt: skip
    fields["links"] = [{"trace_id": bytes(15) + b"\x07", "span_id": bytes(7) + b"\x08"}]
    insert_fields(store, [fields], {"service.name": "s", "host.name": "h", "service.version": "2"})
    answer = trace(store, f"{5:032x}")
    [span] = json.loads(json.dumps(answer.to_json(), allow_nan=False))["spans"]
    assert span["attributes"] == {
        "tokens": 12, "ratio": "nan", "raw": {"$bytes": "AP8="}, "ok": True, "sizes": [1, 2], "name": "ü",
    }  # fmt: skip
    assert span["events"] == [{"name": "retry", "time_ns": moment, "offset_ms": 0.03, "attributes": {"n": 3}}]
    assert span["links"] == [{"trace_id": f"{7:032x}", "span_id": f"{8:016x}", "attributes": {}}]
    named = ("kind", "status", "status_message", "service", "version", "host", "parent_span_id", "is_request")
    assert [span[name] for name in named] == ["SERVER", "ERROR", "out of memory", "s", "2", "h", "", True]


def test_a_limit_keeps_those_with_most_time_and_all_figures_of_the_whole(store):
    spans = [Span(5, 1, 0, 0, 1000)]
    spans += [Span(5, n, 1, n * 10, 2 + n % 7, stage="compute", attributes=(("n", n),)) for n in range(2, 90)]
    brute_force.insert(store, spans)
    whole, some = trace(store, f"{5:032x}"), trace(store, f"{5:032x}", limit=10)
    check_laws(whole)
    assert len(some.spans) == 10
    assert (some.requests, some.span_count, some.end_ms) == (whole.requests, whole.span_count, whole.end_ms)
    assert (some.spans[0].left_out, some.to_json()["left_out"]) == (79, 79)
    assert {ticks(span.path_ms) for span in some.spans[1:]} == {8}
    for span in some.spans[1:]:
        assert span.attributes["n"] == int(span.span_id, 16)
        [same] = [each for each in whole.spans if each.span_id == span.span_id]
        assert (span.start_ms, span.self_ms, span.path) == (same.start_ms, same.self_ms, same.path)


def test_a_span_deeper_than_the_limit_is_shown_without_what_lies_between():
    spans = [Span(1, n, n - 1, 0, 100 - n) for n in range(1, 50)] + [Span(1, 50, 49, 0, 51)]
    table = columns(spans)
    account = account_for(table)
    path = np.bincount(account.piece_span, account.piece_end - account.piece_begin, 50).astype(np.int64)
    folded = fold(tree_of(table, account.parent), account.parent, (path,), 3)
    assert len(folded.shown) == 3
    assert 49 in folded.shown  # which has nearly all of the path


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["4bf92f3577b34da6a3ce929d0e0e4736", "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
     " 4bf92f3577b34da6 ", "4bf92f", "4BF92F35-77", "0x4bf92f"],
)  # fmt: skip
def test_an_id_may_be_in_capitals_with_dashes_or_short(store, text):
    number = int("4bf92f3577b34da6a3ce929d0e0e4736", 16)
    brute_force.insert(store, [Span(number, 1), Span(number + 2**120, 1), Span(7, 1)])
    assert trace(store, text).trace_id == f"{number:x}"


@pytest.mark.parametrize("text", ["3577b34da6a3ce92", "3577B34D-A6A3CE92", "00003577b34da6a3ce92", "0000"])
def test_an_id_of_64_bits_is_found_behind_its_zeros(store, text):
    number = int("3577b34da6a3ce92", 16)
    brute_force.insert(store, [Span(number, 1), Span(2**127 + 5, 1)])
    if text == "00003577b34da6a3ce92":  # 20 digits are no 64 bits, and nothing begins so
        with pytest.raises(NoSpansError, match="no trace id begins with 00003577b34da6a3ce92"):
            trace(store, text)
        return
    assert trace(store, text).trace_id == f"{number:032x}"


def test_several_traces_that_begin_alike_are_named(store):
    brute_force.insert(store, [Span(0xABCD << 112 | n, 1) for n in range(9)])
    with pytest.raises(QuestionError, match=r"abcd could be any of 9: abcd0+, (abcd0+\d, ){4}…; give more digits"):
        trace(store, "ABCD")


def test_what_is_not_there_is_said_with_what_is(store):
    with pytest.raises(NoSpansError, match="holds no spans at all"):
        trace(store, "abcd")
    brute_force.insert(store, [Span(5, 1)])
    with pytest.raises(NoSpansError, match=f"no trace id begins with abcd .*; the latest there are {5:032x}"):
        trace(store, "abcd")
    with pytest.raises(NoSpansError, match=f"no trace {6:032x} in .*; the latest there are {5:032x}"):
        trace(store, f"{6:032x}")


@pytest.mark.parametrize("text", ["", "abc", "xyzw", "a" * 33, "'; DROP TABLE spans", "%", "abcd*"])
def test_what_is_no_id_is_refused_before_the_store_is_asked(text):
    with pytest.raises(QuestionError, match="trace id"):
        parse_trace_id(text)


def test_a_limit_below_one_is_refused(store):
    with pytest.raises(QuestionError, match="limit of 0"):
        trace(store, "abcd", limit=0)


def test_a_trace_passes_the_sql_port_and_is_the_same_there(store, collector):
    number = 0x7ACE << 112
    spans = [Span(number, 1, 0, 0, 90, kind=3), Span(number, 2, 1, 5, 50, stage="queue", attributes=(("n", 1),))]
    fields = [brute_force.fields(span) for span in spans]
    fields[1]["events"] = [{"name": "e", "time_unix_nano": BASE_NS}]
    fields[1]["links"] = [{"trace_id": bytes(15) + b"\x07", "span_id": bytes(7) + b"\x08"}]
    insert_fields(store, fields, {"service.name": "traced"})
    assert collector.post(request(fields, {"service.name": "traced"}).SerializeToString()).status_code == 200
    with connect(collector.store) as remote:
        eventually(lambda: "traced" in choices(remote, whole_time(store))["service"], "spans are loaded")
        for text in (f"{number:032x}", "7ACE"):
            assert trace(remote, text) == trace(store, text)
            assert trace(remote, text, limit=1) == trace(store, text, limit=1)
        with pytest.raises(NoSpansError):
            trace(remote, "7ace1")
