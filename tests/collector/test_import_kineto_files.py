"""PyTorch profiles (Kineto) as files: without GPU work, their clock, their document, and what is recognised as one."""

import json

import pytest
from testkit.importing import DATA
from testkit.kineto import (
    BASE_NS,
    annotation,
    event,
    kernel,
    launch,
    operator,
    parents,
    profile,
    read_profile,
    stages,
    us,
)

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing import kineto
from tailsight_collector.importing.known import format_of
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.source import file_source

START_NS = 1_791_000_000 * 10**9


@pytest.fixture
def read(tmp_path):
    """What is made of a profile with these events."""
    return lambda *events, options=None, **around: read_profile(tmp_path, profile(*events, **around), options)


# --- files without GPU work -----------------------------------------------------------------------------------------


def test_of_a_file_without_gpu_work_the_outermost_operators_are_compute(read):
    found = read(
        annotation("request", 0, 100),
        operator("aten::linear", 10, 20),
        operator("aten::addmm", 12, 10),
        annotation("loss", 40, 20),
        operator("aten::mse_loss", 45, 5),
        operator("before it", 200, 5),
    )
    assert parents(found) == {"request": "", "aten::linear": "request", "loss": "request", "aten::mse_loss": "loss"}
    assert stages(found)["aten::linear"] == "compute"
    assert found.report.notes == {
        "cpu_op events (PyTorch's operators) inside other ones, left out": 1,
        "cpu_op events outside every request, left out": 1,
    }


def test_an_operator_with_an_annotation_in_it_gives_its_place_to_its_parts(read):
    found = read(
        annotation("request", 0, 100), operator("whole", 10, 50), annotation("part", 20, 20),
        operator("in the part", 25, 5), operator("beside it", 45, 5),
    )  # fmt: skip
    assert parents(found) == {"request": "", "part": "request", "in the part": "part", "beside it": "request"}


def test_a_file_with_nothing_but_operators_is_one_request(read):
    found = read(operator("aten::linear", 10, 20), operator("aten::addmm", 12, 10), operator("aten::relu", 40, 5))
    assert parents(found) == {"torch.profile": "", "aten::linear": "torch.profile", "aten::relu": "torch.profile"}
    assert us(found.named("torch.profile")) == (10, 45)


# --- times ----------------------------------------------------------------------------------------------------------


def test_no_nanosecond_is_lost_where_a_double_would_lose_one(tmp_path):
    text = json.dumps(profile(annotation("a", "TS", "DUR"), baseTimeNanoseconds=None))
    text = text.replace('"TS"', "1790000000123456.789").replace('"DUR"', "123456789012.345")
    [span] = read_profile(tmp_path, text).spans
    assert span.start_time_unix_nano == 1_790_000_000_123_456_789
    assert span.end_time_unix_nano - span.start_time_unix_nano == 123_456_789_012_345
    [same] = read_profile(tmp_path, profile(annotation("a", "1790000000123456.789", 1), baseTimeNanoseconds=None)).spans
    assert same.start_time_unix_nano == span.start_time_unix_nano


@pytest.mark.parametrize("base", ["before", "after", "none"])
def test_the_zero_of_the_clock_may_stand_anywhere(tmp_path, base):
    events = [annotation("a", 1.5 if base != "none" else BASE_NS // 1000, 1)]
    around = {"schemaVersion": 1, "deviceProperties": []}
    before = {"baseTimeNanoseconds": BASE_NS} if base == "before" else {}
    after = {"baseTimeNanoseconds": BASE_NS} if base == "after" else {}
    [span] = read_profile(tmp_path, {**around, **before, "traceEvents": events, **after}).spans
    assert span.start_time_unix_nano == BASE_NS + (1500 if base != "none" else 0)


@pytest.mark.parametrize("base", [None, 0])
def test_without_a_zero_of_the_day_it_asks_for_start(read, base):
    events = annotation("a", 500.5, 1), launch(501, 1), kernel("k", 502, 1, 1)
    with pytest.raises(BadRequestError, match="--start"):
        read(*events, baseTimeNanoseconds=base)
    found = read(*events, baseTimeNanoseconds=base, options=Options(start_ns=START_NS))
    assert found.named("a").start_time_unix_nano == START_NS
    assert found.named("k").start_time_unix_nano == START_NS + 1500


def test_start_is_for_files_without_a_clock_only(read):
    found = read(annotation("a", 5, 1), options=Options(start_ns=START_NS))
    assert us(found.named("a")) == (5, 6)


# --- the document ---------------------------------------------------------------------------------------------------


def test_a_bare_list_of_events_is_read(tmp_path):
    ts = BASE_NS // 1000
    found = read_profile(tmp_path, [annotation("a", ts, 10), launch(ts + 1, 1), kernel("k", ts + 4, 1, 1)])
    assert (found.format, parents(found)) == ("kineto", {"a": "", "cudaLaunchKernel": "a", "k": "a"})


def test_events_may_stand_in_two_lists(tmp_path):
    first, second = (json.dumps([annotation("a", n, 5), launch(n + 1, n), kernel("k", n + 2, 1, n)]) for n in (10, 20))
    text = json.dumps(profile()).replace('"traceEvents": []', f'"traceEvents": {first}, "traceEvents": {second}')
    found = read_profile(tmp_path, text)
    assert len({(span.trace_id, span.span_id) for span in found.spans}) == len(found.spans) == 6


def test_categories_of_older_versions_are_known(read):
    found = read(
        annotation("a", 0, 10),
        event("Runtime", "cudaLaunchKernel", 1, 1, correlation=1),
        event("Kernel", "k", 2, 1, pid=0, tid="stream 7", device=0, stream=7, correlation=1),
        event("Operator", "aten::add", 0, 5),
        event("Operator", "ProfilerStep#4", 20, 5),
    )
    assert parents(found) == {"a": "", "cudaLaunchKernel": "a", "k": "a", "ProfilerStep": ""}


def test_gpu_work_that_begins_before_its_launch_does_is_kept_and_said(read):
    found = read(annotation("a", 0, 10), launch(5, 1), kernel("k", 4, 10, 1))
    assert us(found.named("k")) == (4, 14)
    assert found.report.notes["GPU work that begins before its launch does: the clocks disagree; kept as it is"] == 1


def test_what_has_no_place_among_spans_is_counted(read):
    others = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}},
        {"ph": "s", "cat": "ac2g", "id": 1, "ts": 1}, {"ph": "f", "cat": "ac2g", "id": 1, "ts": 1, "bp": "e"},
        {"ph": "C", "name": "memory", "ts": 1, "args": {"bytes": 1}}, {"ph": "i", "name": "mark", "ts": 1},
        {"ph": "B", "name": "x", "ts": 1}, {"ph": 7}, {"ph": "X", "cat": "python_function", "name": "f"},
        {"ph": "X", "cat": ["kernel"]}, {"ph": "X", "cat": "gpu_user_annotation"}, {"ph": "X", "cat": "cuda_sync"},
    ]  # fmt: skip
    found = read(annotation("a", 0, 10), launch(1, 8), *others)
    assert (found.report.read, found.report.kept, found.refused) == (13, 1, {})
    assert sorted(found.report.notes.values()) == [1, 1, 1, 1, 1, 1, 1, 1, 2, 2]


def test_ranks_that_step_at_the_same_time_are_different_requests(read):
    step = annotation("ProfilerStep#1", 0, 10)
    ids = {read(step, distributedInfo={"rank": rank, "world_size": 2}).spans[0].trace_id for rank in (0, 1)}
    assert len(ids) == 2
    found = read(step, distributedInfo={"rank": 1, "world_size": 2, "backend": "nccl"})
    assert found.resources[0]["torch.distributed.rank"] == 1


def test_the_same_file_gives_the_same_bytes(tmp_path):
    document = profile(annotation("a", 0, 10), launch(1, 1), kernel("k", 2, 30, 1), kernel("l", 2, 30, 9))
    first, second = (read_profile(tmp_path, document) for _ in range(2))
    assert [each.SerializeToString(deterministic=True) for each in first.requests] == [
        each.SerializeToString(deterministic=True) for each in second.requests
    ]


@pytest.mark.parametrize(
    "head",
    [
        b'[{"ph": "X", "name": "f", "cat": "FEE", "ts": 1, "dur": 1, "pid": 1, "tid": 1}]',
        b'{"traceEvents": [{"ph": "X", "name": "queue", "cat": "queue", "ts": 1, "dur": 1}]}',
        b'{"traceEvents": [{"ph": "X", "name": "a stage of ours", "cat": "kernel", "ts": 1, "dur": 1}]}',
        b'{"traceEvents": []}',
        b'{"schemaVersion": 1, "resourceSpans": []}',
        b'{"text": "\\"cat\\": \\"kernel\\""}',
        b'{"traceEvents"',
        b"",
    ],
    ids=["viztracer", "other chrome trace", "tailsight export", "no events", "schema only", "text", "cut off", "empty"],
)
def test_other_chrome_traces_are_not_taken_for_kineto(head):
    assert not kineto.recognises(head)


@pytest.mark.parametrize(
    "head",
    [
        json.dumps(profile(annotation("a", 0, 1)))[:60].encode(),
        b'{"schemaVersion": 1, "distributedInfo": {"rank": 0}, "traceEvents": [',
        b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "aten::empty"',
        b'[{"ph": "X", "name": "k", "cat" : "cuda_runtime"',
        b'{"schemaVersion": 1, "traceEvents": [{"name": "k", "cat": "Kernel"',
        b'\xef\xbb\xbf\n{ "schemaVersion":1,"deviceProperties":[',
    ],
    ids=["device properties", "distributed info", "operator", "list", "older version", "byte order mark"],
)
def test_its_own_files_are_known_by_their_beginning(head):
    found = format_of(head)
    assert found is not None
    assert found.name == "kineto"


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
def test_no_other_real_file_is_taken_for_kineto():
    for path in sorted(DATA.rglob("*")):
        if path.is_file() and path.parent.name != "kineto_hta":
            assert not kineto.recognises(file_source(path).head), path.name
