"""MLPerf LoadGen's files: samples of its trace as requests, against what LoadGen itself said of the test; logs refused."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.importing import DATA, Read, plain
from testkit.loadgen import (
    DETAIL,
    MAX_FIRST_TOKEN_NS,
    MAX_LATENCY_NS,
    MEAN_FIRST_TOKEN_NS,
    MEAN_LATENCY_NS,
    MIN_FIRST_TOKEN_NS,
    MIN_LATENCY_NS,
    ORIGIN_NS,
    SAMPLES,
    TRACE,
)

from tailsight_collector.errors import BadRequestError, CollectorError, UnknownFormatError
from tailsight_collector.importer import StoreTarget, import_files, read_requests
from tailsight_collector.importing import loadgen
from tailsight_collector.importing.registry import HEAD_BYTES, Options, Report

needs_data = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
START_NS = 1_790_000_000 * 10**9
# as LoadGen writes samples where it writes no counters (Offline, SingleStream): tokens have ids, times are their own
TOKENS_WITH_IDS = """\
{"traceEvents":[
{"name":"GenerateQueries","ph":"X","pid":7,"tid":7,"ts":31.277,"dur":7.301,"args":{}},
{"name":"Token","cat":"default","ph":"b","pid":7,"id":1,"ts":59.099,"args":{"sample_seq":1,"query_seq":0,"sample_idx":30,"issue_start_ns":170,"complete_ns":122428}},
{"name":"Token","cat":"default","ph":"e", "pid":7,"id":1,"ts":181.527},
{"name":"Sample","cat":"default","ph":"b","pid":7,"id":1,"ts":59.099,"args":{"sample_seq":1,"query_seq":0,"sample_idx":30,"issue_start_ns":170,"complete_ns":131443}},
{"name":"Sample","cat":"default","ph":"e", "pid":7,"id":1,"ts":190.542},
"""


def read(tmp_path: Path, text: str, start_ns: int | None = None) -> Read:
    path = tmp_path / "mlperf_log_trace.json"
    path.write_text(text)
    return Read(path, Options(start_ns=start_ns))


def roots(found: Read):
    return [span for span in found.spans if not span.parent_span_id]


def lengths_ns(spans) -> list[int]:
    return [span.end_time_unix_nano - span.start_time_unix_nano for span in spans]


def without_origin(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith('"ts"'))


def test_the_latencies_are_those_that_loadgen_reported(tmp_path):
    found = read(tmp_path, TRACE)
    latencies = lengths_ns(roots(found))
    assert (min(latencies), sum(latencies) // 4, max(latencies)) == (MIN_LATENCY_NS, MEAN_LATENCY_NS, MAX_LATENCY_NS)
    first = [round(plain(root.attributes)["gen_ai.response.time_to_first_chunk"] * 1e9) for root in roots(found)]
    assert (min(first), sum(first) // 4, max(first)) == (MIN_FIRST_TOKEN_NS, MEAN_FIRST_TOKEN_NS, MAX_FIRST_TOKEN_NS)
    assert (found.format, found.report.unit, found.report.read, found.refused) == ("loadgen", "samples", 4, {})
    assert found.report.kept == len(found.spans) == 16
    assert found.report.notes == {}


def test_a_sample_begins_when_it_was_scheduled_and_its_phases_are_end_to_end(tmp_path):
    found = read(tmp_path, TRACE)
    assert {plain(root.attributes)["mlperf.sample_seq"] for root in roots(found)} == set(SAMPLES)
    for root in roots(found):
        scheduled, issued, first_token, complete = SAMPLES[plain(root.attributes)["mlperf.sample_seq"]]
        assert root.start_time_unix_nano == ORIGIN_NS + scheduled
        phases = [span for span in found.spans if span.parent_span_id == root.span_id]
        ends = [span.end_time_unix_nano - root.start_time_unix_nano for span in phases]
        starts = [span.start_time_unix_nano - root.start_time_unix_nano for span in phases]
        assert [plain(span.attributes)["tailsight.stage"] for span in phases] == ["queue", "prefill", "decode"]
        assert (starts, ends) == ([0, issued, first_token], [issued, first_token, complete])
        assert {span.trace_id for span in phases} == {root.trace_id}
    said = {plain(span.attributes)["tailsight.definition"] for span in found.spans if span.name == "queue"}
    assert said == {"queue: from the scheduled time to the issue, in the load generator"}
    assert found.resources[0] == {"service.name": "mlperf-loadgen", "process.pid": 25120}


def test_tokens_are_found_by_the_samples_id_too(tmp_path):
    found = read(tmp_path, TOKENS_WITH_IDS, START_NS)
    [root] = roots(found)
    assert lengths_ns(found.spans) == [131_443, 170, 122_428 - 170, 131_443 - 122_428]
    assert plain(root.attributes)["mlperf.sample_idx"] == 30


def test_a_trace_that_is_cut_off_needs_to_be_told_when_it_was(tmp_path):
    with pytest.raises(
        BadRequestError, match=r"does not say when it was .* give --start, the time of its earliest sample"
    ):
        read(tmp_path, without_origin(TRACE))
    found = read(tmp_path, without_origin(TRACE), START_NS)
    assert min(root.start_time_unix_nano for root in roots(found)) == START_NS
    assert found.report.notes == {"samples whose start is counted from --start": 4}


def test_a_clock_that_counts_from_the_machines_start_says_no_time(tmp_path):
    steady = TRACE.replace('"ts":1795401834466237.750', '"ts":864000000000.250')
    with pytest.raises(BadRequestError, match="give --start"):
        read(tmp_path, steady)
    assert min(root.start_time_unix_nano for root in roots(read(tmp_path, steady, START_NS))) == START_NS


def test_its_own_time_counts_where_it_has_one(tmp_path):
    assert min(root.start_time_unix_nano for root in roots(read(tmp_path, TRACE, START_NS))) == ORIGIN_NS + 72_348


def changed(line_has: str, old: str, new: str) -> str:
    return "\n".join(line.replace(old, new) if line_has in line else line for line in TRACE.split("\n"))


@pytest.mark.parametrize(
    ("text", "reason", "kept"),
    [
        (changed('"id":2,', '"ph":"b"', '"ph":"n"'), "an end without a beginning", 3),
        (changed('"ph":"e", "pid":25120,"id":2', "387713.121", "1387713.121"), "its end and its complete_ns disagree", 3),
        (changed('"id":2,', '"sample_seq":2', '"sample_seq":-2'), "its sample_seq is no number", 3),
        (changed('"id":2,', '"issue_start_ns":7835743', '"issue_start_ns":9000000000'), "it is complete before it is issued", 3),
        (changed('"id":2,', '"query_seq":2', '"query_seq":""x""'), "its line is no JSON", 3),
        (changed('"id":2,', '"ts":27653.993', '"ts":-1.0'), "its ts is negative", 3),
    ],
    ids=["no end", "disagrees", "no number", "issued late", "no json", "negative"],
)  # fmt: skip
def test_a_sample_that_cannot_be_is_refused_with_its_line(tmp_path, text, reason, kept):
    found = read(tmp_path, text)
    assert reason in found.refused
    assert len(roots(found)) == kept
    assert found.report.read == kept + found.report.refused_records
    assert all(refusal.first.startswith("line ") for refusal in found.report.refused.values())


def test_a_sample_without_an_end_is_refused(tmp_path):
    text = "\n".join(line for line in TRACE.split("\n") if not ('"ph":"e"' in line and '"id":2' in line))
    found = read(tmp_path, text)
    assert (found.refused, len(roots(found))) == ({"it has no end": 1}, 3)


def test_samples_of_one_moment_are_not_given_each_others_first_token(tmp_path):
    lines = TRACE.split("\n")
    token = next(line for line in lines if "Token_Latency" in line and '"ts":72.348' in line)
    found = read(tmp_path, TRACE.replace(token, f"{token}\n{token}"))
    counts = [len([span for span in found.spans if span.trace_id == root.trace_id]) for root in roots(found)]
    assert sorted(counts) == [2, 4, 4, 4]


def test_a_trace_without_samples_says_so(tmp_path):
    text = "\n".join(line for line in TRACE.split("\n") if '"Sample"' not in line)
    with pytest.raises(BadRequestError, match="this trace of LoadGen has no sample"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            DETAIL,
            "results of a whole test (Server, of 2025-07-31T09:43:18Z, 24,576 queries, VALID) without its samples: import",
        ),
        (DETAIL.split("\n")[0], "of a whole test (without a result) without its samples"),
        ("=====\nMLPerf Results Summary\n=====\nSUT name : x\n", "it is LoadGen's summary of a test, without its single samples"),
    ],
    ids=["detail", "cut off", "summary"],
)  # fmt: skip
def test_logs_without_samples_are_refused_and_name_the_file_that_has_them(tmp_path, text, says):
    path = tmp_path / "mlperf_log_detail.txt"
    path.write_text(text)
    with pytest.raises(UnknownFormatError) as caught:
        list(read_requests(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "LogSettings.enable_trace" in str(caught.value)


def test_of_a_folder_of_a_test_the_trace_is_taken_and_the_logs_are_skipped(tmp_path, store):
    for name, text in (("trace.json", TRACE), ("detail.txt", DETAIL), ("summary.txt", "=\nMLPerf Results Summary\n")):
        (tmp_path / name).write_text(text)
    imported = import_files(sorted(tmp_path.glob("*.*")), StoreTarget(store))
    assert (imported.files, len(imported.skipped), imported.failed) == (1, 2, [])
    assert store.rows("SELECT stage, count() FROM spans GROUP BY stage ORDER BY stage") == [
        ("", 4), ("decode", 4), ("prefill", 4), ("queue", 4),
    ]  # fmt: skip


@pytest.mark.shared_data
@needs_data
@pytest.mark.parametrize(
    ("scenario", "queries"),
    [("Interactive", "24,576 queries"), ("Server", "73,728 queries"), ("Offline", "1 query of 245,760 samples")],
    ids=["interactive", "server", "offline"],
)
def test_real_detail_logs_have_results_only_and_say_which(scenario, queries):
    name = f"8xMI300X_2xEPYC_9575F__llama2-70b-99__{scenario}__detail.txt.gz"
    with pytest.raises(UnknownFormatError, match=f"detail log, .*2025-07-31T.*{queries}, VALID"):
        list(read_requests(DATA / "mlperf" / name))


class Bytes:
    """A file in memory."""

    name = "trace"

    def __init__(self, data: bytes) -> None:
        self.head = data[:HEAD_BYTES]
        self._data = data

    def open(self) -> io.BytesIO:
        return io.BytesIO(self._data)


LINES = TRACE.encode().split(b"\n")


@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(0, len(LINES) - 1),
    what=st.sampled_from(["drop", "twice", "cut", "noise", "swap"]),
    noise=st.binary(max_size=40),
    where=st.integers(0, 200),
)
def test_damage_anywhere_is_refused_and_never_crashes(at, what, noise, where):
    lines = list(LINES)
    if what == "drop":
        del lines[at]
    elif what == "twice":
        lines.insert(at, lines[at])
    elif what == "cut":
        lines = [*lines[:at], lines[at][:where]]
    elif what == "noise":
        lines[at] = lines[at][:where] + noise + lines[at][where:]
    else:
        lines[at], lines[-at] = lines[-at], lines[at]
    source = Bytes(b"\n".join(lines))
    report = Report()
    try:
        requests = list(loadgen.read(source, Options(start_ns=START_NS), report))
    except CollectorError:
        return
    made = [span for each in requests for rs in each.resource_spans for ss in rs.scope_spans for span in ss.spans]
    kept = [span for span in made if not span.parent_span_id]
    assert report.read == len(kept) + report.refused_records
    assert report.kept == len(made)
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in made)


def test_it_is_recognised_by_its_own_events_and_no_other_chrome_trace_is():
    assert loadgen.recognises(TRACE.encode())
    assert not loadgen.recognises(json.dumps({"traceEvents": [{"name": "alpha", "ph": "B", "ts": 0}]}).encode())
    assert not loadgen.recognises(json.dumps({"schemaVersion": 1, "traceEvents": [{"cat": "kernel"}]}).encode())
