"""The Perfetto/Chrome trace of `tailsight export`, read with nothing but the Trace Event Format's own rules."""

import itertools
import json
from collections import defaultdict
from decimal import Decimal
from random import Random

import pytest
from testkit.exporting import export, put
from testkit.importing import DATA
from testkit.otlp import any_value, request, span, span_id, trace_id

from tailsight_collector.importer import read_requests

BASE_NS = 1_790_000_000_000_000_007
PHASES = {"X", "M", "i", "s", "f"}


def timeline(store, tmp_path):
    """The events of the exported file, times as whole nanoseconds since 1970."""
    path = export(store, "perfetto", tmp_path / "trace.json")
    document = json.loads(path.read_text(), parse_float=Decimal, parse_constant=pytest.fail)
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    base_ns = int(document["otherData"]["base_time_unix_ns"])
    events = document["traceEvents"]
    assert {event["ph"] for event in events} <= PHASES
    for event in events:
        for name in ("ts", "dur"):
            if name in event:
                exact = event[name] * 1000
                assert exact == int(exact)
                assert float(event[name]) * 1000 == pytest.approx(float(exact), abs=0.4), "exact to the ns as a double"
                event[name] = int(exact) + (base_ns if name == "ts" else 0)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
    return events


def slices(events):
    return [event for event in events if event["ph"] == "X"]


def nested(events):
    """(child, what a viewer draws it in) of each slice, by time alone; overlaps that are no nesting fail."""
    found = []
    lanes = defaultdict(list)
    for number, event in enumerate(slices(events)):
        lanes[event["pid"], event["tid"]].append((event["ts"], -event["dur"], number, event))
    for lane in lanes.values():
        stack = []
        for start_ns, minus_dur, _, event in sorted(lane, key=lambda each: each[:3]):
            while stack and stack[-1]["ts"] + stack[-1]["dur"] <= start_ns:
                stack.pop()
            if stack:
                assert start_ns - minus_dur <= stack[-1]["ts"] + stack[-1]["dur"], "overlaps without nesting"
                found.append((event, stack[-1]))
            stack.append(event)
    return found


def names(events, what):
    return {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == what}


def one(number, parent=0, start=0, duration=10, trace=1, **changes):
    """A span by numbers; times are microseconds after BASE_NS."""
    start_ns = BASE_NS + start * 1000
    return span(
        trace_id=trace_id(trace), span_id=span_id(number), parent_span_id=span_id(parent) if parent else b"", name=f"s{number}",
        start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + duration * 1000, **changes,
    )  # fmt: skip


def on_thread(number):
    return {"attributes": {"thread.id": number}}


def test_every_span_is_a_slice_at_its_time(store, tmp_path):
    put(store, request([one(n, start=n * 1001, duration=n) for n in range(1, 50)]))
    found = slices(timeline(store, tmp_path))
    assert [(each["name"], each["ts"], each["dur"]) for each in found] == [
        (f"s{n}", BASE_NS + n * 1_001_000, n * 1000) for n in range(1, 50)
    ]
    assert found[0]["args"]["start_unix_ns"] == str(BASE_NS + 1_001_000)


def test_a_call_lies_in_its_caller_and_tasks_of_one_thread_do_not(store, tmp_path):
    calls = [one(1, 0, 0, 100, **on_thread(7)), one(2, 1, 10, 50, **on_thread(7)), one(3, 2, 20, 5, **on_thread(7))]
    # another task's request lies within the first one by time, and overlaps a third
    tasks = [one(11, 0, 30, 10, trace=2, **on_thread(7)), one(21, 0, 35, 100, trace=3, **on_thread(7))]
    put(store, request(calls + tasks, {"service.name": "ranker", "host.name": "h1", "process.pid": 5}))
    events = timeline(store, tmp_path)
    assert {(child["name"], parent["name"]) for child, parent in nested(events)} == {("s2", "s1"), ("s3", "s2")}
    assert set(names(events, "process_name").values()) == {"ranker (h1 pid 5)"}
    assert set(names(events, "thread_name").values()) == {"thread 7", "thread 7 · 2", "thread 7 · 3"}
    ranks = {each["tid"]: each["args"]["sort_index"] for each in events if each["name"] == "thread_sort_index"}
    assert sorted(ranks.values()) == [0, 1, 2]


def test_siblings_that_overlap_lie_beside_each_other(store, tmp_path):
    put(store, request([one(1, 0, 0, 100), one(2, 1, 10, 50), one(3, 1, 20, 60), one(4, 1, 61, 10)]))
    events = timeline(store, tmp_path)
    inside = {(child["name"], parent["name"]) for child, parent in nested(events)}
    assert inside == {("s2", "s1"), ("s4", "s1")}
    assert len(slices(events)) == 4


def test_a_parent_of_the_same_time_comes_first(store, tmp_path):
    ids = [9, 3, 7, 1]  # each the child of the one before
    put(store, request([one(n, parent, 5, 10) for parent, n in zip([0, *ids], ids, strict=False)]))
    events = timeline(store, tmp_path)
    assert [each["name"] for each in slices(events)] == ["s9", "s3", "s7", "s1"]
    assert len({each["tid"] for each in slices(events)}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_ever_nested_in_anything_but_its_parent(store, tmp_path, seed, monkeypatch):
    monkeypatch.setattr("tailsight_analysis.exporting.reading.PIECE_SPANS", 40)
    random = Random(seed)
    spans = [
        one(
            100 * trace + number,
            100 * trace + random.randrange(1, 12) if number > 1 else 0,
            random.randrange(0, 3000),
            random.choice([0, 1, 10, 500, 4000]),
            trace=trace,
            **on_thread(random.randrange(3)),
        )
        for trace in range(1, 40)
        for number in range(1, random.randrange(2, 12))
    ]
    put(store, request(spans))
    events = timeline(store, tmp_path)
    assert len(slices(events)) == len(spans)
    pairs = nested(events)
    assert pairs
    for child, parent in pairs:
        assert child["args"]["trace_id"] == parent["args"]["trace_id"]
        assert child["args"]["parent_span_id"] == parent["args"]["span_id"]
    starts = [each["ts"] for each in slices(events)]
    assert starts == sorted(starts)


def test_kernels_lie_on_the_stream_of_their_device(store, tmp_path):
    kernels = [
        one(n, 1, n * 10, 5, attributes={"tailsight.stage": "gpu_kernel", "gpu.stream": stream, "gpu.index": 0, "tailsight.hardware": "H100"})
        for n, stream in zip(range(2, 6), itertools.cycle([7, 20]), strict=False)
    ]  # fmt: skip
    put(store, request([one(1, 0, 0, 100, **on_thread(3)), *kernels]))
    events = timeline(store, tmp_path)
    assert set(names(events, "thread_name").values()) == {"thread 3", "GPU 0 stream 7 (H100)", "GPU 0 stream 20 (H100)"}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["launched before", "launched after"])
def test_links_are_arrows_between_two_slices(store, tmp_path, order):
    launch, kernel = one(1, 0, 10 * order[0], 5, trace=1), one(2, 0, 10 * order[1], 5, trace=2)
    message = request([launch, kernel, one(3, 0, 50, 5, trace=3)])
    spans = message.resource_spans[0].scope_spans[0].spans
    spans[1].links.add(trace_id=trace_id(1), span_id=span_id(1))
    spans[2].links.add(trace_id=trace_id(99), span_id=span_id(1))  # not in the export: no arrow
    put(store, message)
    events = timeline(store, tmp_path)
    begin, end = (event for event in events if event["ph"] in "sf")
    assert (begin["ph"], end["ph"], begin["id"]) == ("s", "f", end["id"])
    assert end["bp"] == "e"
    assert begin["ts"] < end["ts"]
    by_place = {(each["pid"], each["tid"], each["ts"]): each["name"] for each in slices(events)}
    assert {by_place[each["pid"], each["tid"], each["ts"]] for each in (begin, end)} == {"s1", "s2"}


def test_attributes_and_events_are_there_and_nothing_is_no_json(store, tmp_path):
    message = request([one(1, attributes={"nan": float("nan"), "bytes": b"\xff", "n": 1, "control": "\x00\u2028"})])
    event = (
        message.resource_spans[0].scope_spans[0].spans[0].events.add(time_unix_nano=BASE_NS + 1500, name="first token")
    )
    event.attributes.add(key="tokens", value=any_value(1))
    message.resource_spans[0].scope_spans[0].spans[0].events.add(time_unix_nano=5, name="in 1970")
    put(store, message)
    events = timeline(store, tmp_path)
    [only] = slices(events)
    assert only["args"]["events_elsewhere"] == [{"name": "in 1970", "time_unix_ns": "5"}]
    assert only["args"]["attributes"] == {"nan": "nan", "bytes": {"$bytes": "/w=="}, "n": 1, "control": "\x00\u2028"}
    [instant] = [each for each in events if each["ph"] == "i"]
    assert (instant["name"], instant["ts"], instant["args"]) == ("first token", BASE_NS + 1500, {"tokens": 1})
    assert (instant["pid"], instant["tid"]) == (only["pid"], only["tid"])


def test_equal_ids_in_two_services_are_two_processes(store, tmp_path):
    for service in ("a", "b"):
        put(store, request([one(1), one(2, 1, 2, 3)], {"service.name": service}))
    events = timeline(store, tmp_path)
    assert sorted(names(events, "process_name").values()) == ["a", "b"]
    assert len(slices(events)) == 4
    assert len(nested(events)) == 2


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_kernels_of_a_real_profile_lie_on_their_streams_with_arrows_from_their_launches(store, tmp_path):
    name = "kineto_hta/critical_path_simple_add_benchmark_result_493459_1694039959_trace.json.gz"
    put(store, *read_requests(DATA / name))
    events = timeline(store, tmp_path)
    [(kernels, links, spans)] = store.rows(
        "SELECT countIf(stage = 'gpu_kernel'), sum(length(links.span_id)), count() FROM spans"
    )
    of_lane = names(events, "thread_name")
    on_gpu = [each for each in slices(events) if of_lane[each["pid"], each["tid"]].startswith("GPU 0 stream ")]
    assert len(slices(events)) == spans
    assert len(on_gpu) == kernels > 0
    assert sum(each["ph"] == "s" for each in events) == links > 0
    for child, parent in nested(events):
        assert child["args"]["parent_span_id"] == parent["args"]["span_id"]
