"""Profiles that mean harm, are damaged, or are as odd as chance makes them: a refusal with its reason, never a wrong span."""

import gzip
import json
import random
from bisect import bisect_left

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from testkit.importing import Read, plain
from testkit.kineto import BASE_NS, annotation, event, kernel, launch, operator, profile, read_profile

from tailsight_collector.errors import BadRequestError, UnreadableFileError
from tailsight_collector.importer import import_files
from tailsight_collector.importing import kineto_requests
from tailsight_collector.importing.kineto_intervals import AMBIGUOUS, NONE, Timeline

GOOD = (annotation("a", 0, 10), launch(1, 1), kernel("k", 2, 3, 1))
TEXT = json.dumps(profile(*GOOD))


class Nowhere:
    """A target that takes batches and counts their spans."""

    spans = 0

    def send(self, batches, on_sent):
        for batch in batches:
            self.spans += batch.spans
            on_sent(batch.spans, False)


# --- one event at fault ---------------------------------------------------------------------------------------------

FAULTS = {
    "ts is NaN": ({"ts": float("nan")}, "its ts is no finite number"),
    "ts is infinite": ({"ts": float("inf")}, "its ts is no finite number"),
    "ts is missing": ({"ts": None}, "it has no ts"),
    "ts is negative": ({"ts": -1}, "its ts is negative"),
    "ts is true": ({"ts": True}, "its ts is no number"),
    "ts is a list": ({"ts": [1]}, "its ts is no number"),
    "ts is text": ({"ts": "soon"}, "its ts is no number"),
    "ts is too large": ({"ts": 10**30}, "its ts is beyond 64 bits of nanoseconds"),
    "dur is negative": ({"dur": -0.001}, "its dur is negative"),
    "dur is missing": ({"dur": None}, "it has no dur"),
    "dur overflows": ({"dur": 18446744073709551.615}, "its dur is beyond 64 bits of nanoseconds"),
    "it ends too late": ({"ts": 9e15, "dur": 9e15}, "it ends beyond 64 bits of nanoseconds"),
    "name is missing": ({"name": None}, "its name is no text"),
    "name is a number": ({"name": 5}, "its name is no text"),
    "pid is a list": ({"pid": []}, "its pid is neither a number nor a text"),
    "tid is missing": ({"tid": None}, "its tid is neither a number nor a text"),
    "args are a list": ({"args": [1]}, "its args are no object"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("what", range(3), ids=["annotation", "launch", "kernel"])
def test_an_event_that_cannot_be_is_refused_and_those_around_it_are_kept(tmp_path, fault, what):
    change, reason = FAULTS[fault]
    found = read_profile(tmp_path, profile(*GOOD, {**GOOD[what], **change}))
    assert found.refused == {reason: 1}
    assert found.report.refused[reason].first.startswith("traceEvents[3]")
    assert [span.name for span in found.spans] == ["a", "cudaLaunchKernel", "k"]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("7", "it is no object"),
        ("[]", "it is no object"),
        ('{"ph": "X", "cat": "kernel", "ts": 1, "ts": 2}', "a key stands in it twice"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ('{"ph": "X", "ts": ' + "9" * 5000 + "}", "it holds a number with too many digits"),
        ('{"ph": "X", "ts": 1e' + "9" * 40 + "}", "it holds a number with too many digits"),
    ],
    ids=["number", "list", "key twice", "deep", "digits", "exponent"],
)
def test_what_is_no_event_is_refused(tmp_path, odd, reason):
    found = read_profile(tmp_path, TEXT.replace('"traceEvents": [', f'"traceEvents": [{odd}, '))
    assert (found.refused, len(found.spans)) == ({reason: 1}, 3)


def test_arguments_that_stand_twice_do_not_cost_the_event(tmp_path):
    found = read_profile(tmp_path, TEXT.replace('"correlation": 1}', '"correlation": 1, "x": 1, "x": 2}'))
    assert (found.refused, plain(found.named("k").attributes)["torch.x"]) == ({}, 2)


def test_gpu_work_whose_start_the_driver_did_not_say_is_refused(tmp_path):
    found = read_profile(tmp_path, profile(*GOOD, launch(5, 2), kernel("zero", 0, 5, 2)))
    assert found.refused == {"it has no start: ts is 0 in a file whose zero is another": 1}
    assert [span.name for span in found.spans] == ["a", "cudaLaunchKernel", "k"]


@pytest.mark.parametrize("correlation", [None, 0, -1, "1", 1.5, [], True, 2**80], ids=repr)
def test_a_correlation_that_is_none_links_nothing(tmp_path, correlation):
    found = read_profile(
        tmp_path, profile(annotation("a", 0, 10), launch(1, correlation), kernel("k", 2, 3, correlation))
    )
    assert [span.name for span in found.spans if span.links] == ([] if correlation is not True else ["k"])


def test_two_calls_of_one_correlation_are_told_apart(tmp_path):
    found = read_profile(tmp_path, profile(*GOOD, launch(7, 1, name="again")))
    assert [span.name for span in found.spans] == ["a", "cudaLaunchKernel", "k"]
    assert found.report.notes["calls into the runtime that started no GPU work, left out"] == 1


def test_names_and_arguments_may_be_huge(tmp_path):
    long = "k" * 3_000_000
    args = {f"argument {n}": n for n in range(500)}
    found = read_profile(tmp_path, profile(annotation(long, 0, 10), launch(1, 1), kernel(long, 2, 3, 1, **args)))
    assert all(len(span.name) <= 1024 * 1024 + 1 for span in found.spans)
    assert len(plain(found.spans[-1].attributes)) < 80
    assert not found.refused


def test_text_that_is_no_text_is_made_one(tmp_path):
    found = read_profile(tmp_path, profile(annotation("a\ud800b", 0, 10), launch(1, 1), kernel("\udfff", 2, 3, 1)))
    assert [span.name for span in found.spans] == ["a\ufffdb", "cudaLaunchKernel", "\ufffd"]


def test_more_annotations_than_can_be_open_are_refused(tmp_path):
    too_many = kineto_requests.MOST_OPEN + 5
    found = read_profile(tmp_path, profile(*(annotation("a", n, 5000 - 2 * n) for n in range(too_many))))
    assert found.refused == {"more than 1,000 annotations are open at once on its thread": 5}
    assert len(found.spans) == kineto_requests.MOST_OPEN


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        ({"baseTimeNanoseconds": "yesterday"}, "baseTimeNanoseconds"),
        ({"baseTimeNanoseconds": -5}, "baseTimeNanoseconds"),
        ({"baseTimeNanoseconds": 10**19}, "baseTimeNanoseconds"),
        ({"distributedInfo": [1]}, "distributedInfo"),
        ({"traceEvents": {}}, "traceEvents is no list"),
        ({"traceEvents": None}, "no traceEvents"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_understood_says_why(tmp_path, around, reason):
    with pytest.raises(BadRequestError, match=reason):
        read_profile(tmp_path, profile(*GOOD, **around))


@pytest.mark.parametrize(
    "devices", [5, [5], [{}], [{"id": "0", "name": "x"}], [{"id": 0, "name": 5}], [{"id": 0, "name": ""}]], ids=repr
)
def test_devices_without_a_name_are_no_hardware(tmp_path, devices):
    found = read_profile(tmp_path, profile(*GOOD, deviceProperties=devices))
    assert "tailsight.hardware" not in plain(found.named("k").attributes)


# --- broken files ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_off_adds_nothing(tmp_path):
    for at in range(60, len(TEXT)):  # from where it is known to be Kineto's
        path = tmp_path / "cut.json"
        path.write_text(TEXT[:at])
        target = Nowhere()
        with pytest.raises(UnreadableFileError):
            import_files([path], target)
        assert target.spans == 0


def test_a_second_document_is_refused(tmp_path):
    with pytest.raises(BadRequestError, match="a second document"):
        read_profile(tmp_path, TEXT + TEXT)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_packed_profile_is_read_and_a_damaged_one_refused(tmp_path, pack):
    path = tmp_path / "profile"
    packed = pack(TEXT.encode())
    path.write_bytes(packed)
    assert len(Read(path).spans) == 3
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UnreadableFileError):
        import_files([path], Nowhere())


# --- anything at all ------------------------------------------------------------------------------------------------

microseconds = st.integers(1, 60)
lengths = st.integers(0, 40)
threads = st.integers(1, 3)
annotations = st.builds(
    lambda name, ts, dur, tid: annotation(name, ts, dur, tid=tid),
    st.sampled_from(["ProfilerStep#1", "ProfilerStep#2", "forward", "backward", "request"]), microseconds, lengths, threads,
)  # fmt: skip
launches = st.builds(
    lambda ts, c, dur, tid: launch(ts, c, dur, tid=tid), microseconds, st.integers(1, 8), lengths, threads
)
kernels = st.builds(lambda ts, dur, c: kernel("k", ts, dur, c), microseconds, lengths, st.integers(1, 10))
operators = st.builds(lambda ts, dur, tid: operator("op", ts, dur, tid=tid), microseconds, lengths, threads)
profiles = st.lists(st.one_of(annotations, launches, kernels, operators), min_size=1, max_size=30)


def tree(found: Read) -> list[tuple]:
    """What a profile became, whatever the ids: each span with its parent and its link."""
    by_id = {span.span_id: span for span in found.spans}
    assert len(by_id) == len(found.spans), "ids must be unique"

    def said(span_id: bytes, trace_id: bytes) -> tuple:
        if not span_id:
            return ()
        assert by_id[span_id].trace_id == trace_id
        return by_id[span_id].name, by_id[span_id].start_time_unix_nano, by_id[span_id].end_time_unix_nano

    return sorted(
        (
            span.trace_id, span.name, span.start_time_unix_nano, span.end_time_unix_nano,
            said(span.parent_span_id, span.trace_id), *(said(link.span_id, link.trace_id) for link in span.links),
        )
        for span in found.spans
    )  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profiles)
def test_whatever_the_events_every_span_has_its_place(tmp_path, events):
    found = read_profile(tmp_path, profile(*events))
    assert not found.refused
    tree(found)
    gpu = [span for span in found.spans if "gpu.op" in plain(span.attributes)]
    assert len(gpu) == sum(each["cat"] == "kernel" for each in events)
    roots = {span.trace_id: span for span in found.spans if not span.parent_span_id}
    assert set(roots) == {span.trace_id for span in found.spans}
    assert len(roots) == sum(not span.parent_span_id for span in found.spans), "a trace has one root"
    assert {span.name for span in roots.values()} <= {"ProfilerStep", "forward", "backward", "request", "torch.profile"}
    for span in gpu:
        assert span.end_time_unix_nano <= roots[span.trace_id].end_time_unix_nano
    known = {each["args"]["correlation"] for each in events if each["cat"] == "cuda_runtime"}
    assert sum(bool(span.links) for span in gpu) == sum(
        each["cat"] == "kernel" and each["args"]["correlation"] in known for each in events
    )
    assert all(ends_in_a_root(found, span.span_id) for span in found.spans)


def ends_in_a_root(found: Read, span_id: bytes) -> bool:
    parents = {span.span_id: span.parent_span_id for span in found.spans}
    for _ in parents:
        span_id = parents[span_id]
        if not span_id:
            return True
    return False


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(annotations, kernels), min_size=1, max_size=15, unique_by=json.dumps),
    st.lists(launches, max_size=8, unique_by=lambda each: each["args"]["correlation"]),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_events_is_of_no_consequence(tmp_path, events, calls, chance: random.Random):
    unique = list({(e["cat"], e["ts"], e["dur"], e["tid"]): e for e in [*events, *calls]}.values())
    shuffled = list(unique)
    chance.shuffle(shuffled)
    assert tree(read_profile(tmp_path, profile(*unique))) == tree(read_profile(tmp_path, profile(*shuffled)))


def brute_force(rows: list[tuple[int, int, int]], time_ns: int) -> int:
    open_rows = [row for row, (start, end, _) in enumerate(rows) if start <= time_ns < end]
    if not open_rows:
        return NONE
    if len({rows[row][2] for row in open_rows}) > 1:
        return AMBIGUOUS
    return max(open_rows, key=lambda row: (rows[row][0], -rows[row][1], row))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12), st.integers(0, 2)), max_size=12))
def test_a_timeline_is_what_a_look_at_all_intervals_gives(intervals):
    rows = [(start, start + length, group) for start, length, group in intervals]
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], -rows[row][1], row))
    timeline = Timeline(order, *(list(column) for column in zip(*rows, strict=True)) if rows else ([], [], []))
    for time_ns in range(-1, 35):
        assert timeline.at(time_ns) == brute_force(rows, time_ns)
    ends = sorted(time_ns for start, end, _ in rows if start < end for time_ns in (start, end))
    for start in range(0, 30, 3):
        within = bisect_left(ends, start + 5) - bisect_left(ends, start + 1)
        assert within == 0 or not timeline.is_steady(start, start + 5)


def test_a_million_correlations_of_which_each_is_one_of_its_own(tmp_path):
    """In small: what is kept of an event are a few numbers; docs/import.md has the memory of large files."""
    calls = [launch(n, n + 1) for n in range(3000)]
    work = [kernel("k", n + 5, 1, n + 1) for n in range(3000)]
    found = read_profile(tmp_path, profile(annotation("a", 0, 10_000), *calls, *reversed(work)))
    launched = {span.span_id: span for span in found.spans if span.name == "cudaLaunchKernel"}
    delays = {
        span.start_time_unix_nano - launched[span.links[0].span_id].start_time_unix_nano
        for span in found.spans
        if span.links
    }
    assert (len(found.spans), delays) == (6001, {5000})
    assert all(request.ByteSize() < 2_000_000 for request in found.requests)
    assert found.spans[0].start_time_unix_nano == BASE_NS


def test_an_operator_event_costs_nothing_where_there_is_gpu_work(tmp_path):
    found = read_profile(tmp_path, profile(*GOOD, *(event("cpu_op", "op", n, 1) for n in range(50))))
    assert found.report.notes["cpu_op events (PyTorch's operators), left out: there is GPU work"] == 50
    assert len(found.spans) == 3
