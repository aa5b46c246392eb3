"""Files that are odd without being broken: ids and times at their limits, other signals, and work that grows with a square."""

import gzip
import io
import json
import os
import time
from contextlib import ExitStack
from functools import partial

import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.importing import Read, plain, read_json

from tailsight_collector.errors import UnknownFormatError, UnreadableFileError
from tailsight_collector.importer import StoreTarget, import_files, import_sources
from tailsight_collector.importing import source as source_module
from tailsight_collector.importing import spool
from tailsight_collector.importing.json_reader import JsonReader
from tailsight_collector.importing.known import format_of
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.shape import in_words
from tailsight_collector.importing.source import file_source, stdin_source
from tailsight_collector.receive.checks import check

US = 1_790_000_000_000_000
NS = US * 1_000
SPAN = {
    "traceId": "0" * 31 + "1",
    "spanId": "0" * 15 + "2",
    "name": "x",
    "startTimeUnixNano": str(NS),
    "endTimeUnixNano": str(NS + 5),
}


def otlp(**changes) -> dict:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | changes]}]}]}


def zipkin(**changes) -> dict:
    return {"traceId": "1", "id": "2", "timestamp": US, "duration": 5} | changes


def jaeger(**changes) -> dict:
    span = {"traceID": "1", "spanID": "2", "operationName": "a", "startTime": US, "duration": 5, "processID": "p1"}
    return {"data": [{"traceID": "1", "spans": [span | changes], "processes": {"p1": {"serviceName": "s"}}}]}


def otel_js(**changes) -> dict:
    times = {"startTime": [US // 10**6, 0], "endTime": [US // 10**6, 5]}
    return {"name": "x", "spanContext": {"traceId": "1", "spanId": "2"}, **times} | changes


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        [zipkin(parentId="0" * 16)],
        [zipkin(parentId="")],
        [zipkin(parentId=None)],
        jaeger(parentSpanID="0"),
        jaeger(references=[{"refType": "CHILD_OF", "traceID": "1", "spanID": "0" * 16}]),
        [otel_js(parentSpanId="0" * 16)],
    ],
    ids=["zipkin", "zipkin, empty", "zipkin, null", "jaeger", "jaeger's reference", "otel js"],
)
def test_a_parent_of_zeros_is_none(tmp_path, document):
    found = read_json(tmp_path, document)
    assert (found.refused, [span.parent_span_id for span in found.spans]) == ({}, [b""])


@pytest.mark.parametrize(
    "document",
    [[zipkin(traceId="ABCDEF0123456789", id="ABCDEF")], jaeger(traceID="ABCDEF0123456789", spanID="ABCDEF")],
    ids=["zipkin", "jaeger"],
)
def test_upper_case_and_short_ids_are_the_same_padded(tmp_path, document):
    [span] = read_json(tmp_path, document).spans
    assert (span.trace_id.hex(), span.span_id.hex()) == ("0" * 16 + "abcdef0123456789", "0" * 10 + "abcdef")


@pytest.mark.parametrize(
    "document",
    [[zipkin(traceId="0" * 32)], [zipkin(id="0" * 16)], jaeger(traceID="0"), jaeger(spanID="0" * 16)],
    ids=["zipkin's trace", "zipkin's span", "jaeger's trace", "jaeger's span"],
)
def test_an_id_of_zeros_is_refused(tmp_path, document):
    found = read_json(tmp_path, document)
    assert found.spans == []
    assert [reason.endswith("is all zeros") for reason in found.refused] == [True]


def test_ids_of_otlp_that_are_none_are_rejected_as_from_live_clients(tmp_path, store):
    """64 bits where OTLP has 128, and zeros: never filled up, never stored as spans."""
    path = tmp_path / "ids.json"
    lines = [otlp(traceId="0" * 15 + "1"), otlp(traceId="0" * 32), otlp(parentSpanId="0" * 16)]
    path.write_text("\n".join(map(json.dumps, lines)))
    imported = import_files([path], StoreTarget(store))
    assert (imported.accepted_spans, imported.rejected.total()) == (1, 2)
    assert store.rows("SELECT count() FROM spans") == [(1,)]


def test_a_parent_that_is_not_there_stays_the_parent(tmp_path):
    references = [{"refType": "CHILD_OF", "traceID": "1", "spanID": "abc"}]
    [span] = read_json(tmp_path, jaeger(references=references)).spans
    assert (span.parent_span_id.hex(), list(span.links)) == ("0000000000000abc", [])


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_in_another_unit_are_no_spans_and_no_other_times(tmp_path, store):
    """Seconds where nanoseconds or microseconds are meant lie in 1970; nobody guesses what was meant."""
    (tmp_path / "a.json").write_text(
        json.dumps(otlp(startTimeUnixNano=str(NS // 10**9), endTimeUnixNano=str(NS // 10**9 + 1)))
    )
    (tmp_path / "b.json").write_text(json.dumps([zipkin(timestamp=US // 10**6)]))
    (tmp_path / "c.json").write_text(json.dumps(otlp(startTimeUnixNano=str(2**63 - 9), endTimeUnixNano=str(2**63 - 5))))
    imported = import_files(sorted(tmp_path.glob("*.json")), StoreTarget(store))
    assert (imported.spans, imported.accepted_spans, imported.rejected.total()) == (3, 0, 3)
    assert store.rows("SELECT count() FROM spans") == [(0,)]
    assert store.rows("SELECT count() FROM rejected_spans") == [(3,)]


@pytest.mark.parametrize("year", [2263, 9999])
def test_a_year_beyond_what_nanoseconds_can_say_refuses_its_record(tmp_path, year):
    observation = {"id": "a", "traceId": "1", "type": "SPAN", "startTime": f"{year}-01-01T00:00:00Z"}
    document = {
        "trace": {"id": "1", "projectId": "p"},
        "observations": [observation | {"endTime": f"{year}-01-02T00:00:00Z"}],
    }
    assert read_json(tmp_path, document).refused == {"its startTime is beyond 64 bits of nanoseconds": 1}


# --- what stands before, beside or around -----------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["resourceMetrics", "resourceLogs"])
def test_other_signals_in_the_file_are_left_out(tmp_path, other):
    """OpenTelemetry's file exporter writes all signals into one file, in any order."""
    lines = [{other: []}, otlp(), {other: [{"resource": {}}]}]
    found = read_json(tmp_path, "\n".join(map(json.dumps, lines)))
    assert (found.format, len(found.spans)) == ("otlp-json", 1)
    assert found.report.notes == {"JSON documents without resourceSpans, left out": 2}


@pytest.mark.parametrize(
    ("prefix", "is_read"),
    [(b"\xef\xbb\xbf", True), (b" \r\n\t" * 50, True), (b"\x00", False), (b")]}'\n", False), (b"// spans\n", False), (b"[]\n", False)],
    ids=["byte order mark", "white space", "NUL", "against hijacking", "comment", "empty list"],
)  # fmt: skip
def test_what_stands_before_a_document_is_skipped_or_told(tmp_path, prefix, is_read):
    path = tmp_path / "spans.json"
    path.write_bytes(prefix + json.dumps(otlp()).encode())
    if is_read:
        assert len(Read(path).spans) == 1
    else:
        with pytest.raises(UnknownFormatError, match="that is none of the formats that can be read"):
            import_files([path], None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(otlp()).encode("utf-16"), "UTF-16 text"),
        (b"\x1f\x8b\x08\x00", "a gzip file inside the packed one"),
        (b"\x28\xb5\x2f\xfd\x00", "a zstd file inside the packed one"),
    ],
    ids=["utf-16", "gzip", "zstd"],
)
def test_what_a_file_is_instead_is_named(content, said):
    assert format_of(content) is None
    assert said in in_words(content)


def test_a_pipe_is_told_how_it_can_be_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UnreadableFileError, match=f"it is no file; `tailsight import - < {path}` reads a pipe"):
        import_files([path], None)


class FullFile:
    """A temporary file on a disk that is full."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, _: bytes) -> int:
        with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123 - the device
            return file.write(b"x")


NO_ROOM = r"no room in /.* for what is read \(No space left on device\): TMPDIR"


def test_a_full_temporary_folder_is_named_and_not_the_users_file(tmp_path, monkeypatch):
    path = tmp_path / "spans.json"
    path.write_text(json.dumps(otlp()))
    monkeypatch.setattr(spool.tempfile, "SpooledTemporaryFile", FullFile)
    with pytest.raises(UnreadableFileError, match=NO_ROOM):
        import_files([path], None)


def test_a_full_temporary_folder_is_named_where_stdin_is_kept_too(monkeypatch):
    monkeypatch.setattr(source_module.tempfile, "TemporaryFile", FullFile)
    kept = stdin_source(io.BytesIO(b"[]"))
    with pytest.raises(UnreadableFileError, match=NO_ROOM):
        kept.__enter__()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gz", "zst"])
@pytest.mark.parametrize("is_stdin", [False, True], ids=["file", "stdin"])
def test_a_bomb_ends_where_it_can_be_no_trace_any_more(tmp_path, monkeypatch, pack, is_stdin):
    monkeypatch.setattr(source_module, "BOMB_BYTES", 8 << 20)
    packed = pack(b'[{"traceId":"1","id":"1"},' + b" " * (48 << 20) + b"]")
    path = tmp_path / "bomb"
    path.write_bytes(packed)
    with ExitStack() as stack:
        opened = (
            partial(stack.enter_context, stdin_source(io.BytesIO(packed))) if is_stdin else partial(file_source, path)
        )
        with pytest.raises(UnreadableFileError, match=r"it unpacks to more than \d+ MiB, over 500 times its size"):
            import_sources([opened], None)


def test_progress_is_told_from_nothing_to_all(tmp_path, store):
    """Bytes while a file is read, also where it is read twice, and then spans."""
    path = tmp_path / "spans.json"
    path.write_text(json.dumps([zipkin(id=f"{number + 1:x}", tags={"a": "x" * 500}) for number in range(2_000)]))
    told = []
    import_sources([partial(file_source, path)], StoreTarget(store), on_progress=lambda *each: told.append(each))
    for what, total in ((f"reading {path}", path.stat().st_size), (f"storing {path}", 2_000)):
        done = [each[1] for each in told if each[0] == what]
        assert (done, done[-1]) == (sorted(done), total)
        assert {each[2] for each in told if each[0] == what} == {total}


# --- work -------------------------------------------------------------------------------------------------------------


def cpu_s(tmp_path, document, options: Options | None = None) -> float:
    path = tmp_path / "work.json"
    path.write_text(json.dumps(document))
    began_s = time.process_time()
    Read(path, options)
    return time.process_time() - began_s


def test_many_processes_are_read_in_one_go(tmp_path):
    """Four times as many take four times as long, and not sixteen times."""

    def document(count):
        found = jaeger()
        found["data"][0]["processes"] |= {f"q{number}": {"serviceName": "s"} for number in range(count)}
        return found

    small, large = (min(cpu_s(tmp_path, document(count)) for _ in range(2)) for count in (5_000, 20_000))
    assert large < 8 * small + 0.2


def test_an_ensembles_times_are_looked_at_once(tmp_path):
    """However many models ask for them: 300 models of one ensemble with 20,000 timestamps."""
    stamps = [{"name": "REQUEST_START", "ns": 5 + number} for number in range(20_000)] + [
        {"name": "REQUEST_END", "ns": 90_000}
    ]

    def document(models):
        records = [{"id": 1, "model_name": "ensemble"}, {"id": 1, "timestamps": stamps}]
        for number in range(2, 2 + models):
            times = [{"name": "REQUEST_START", "ns": 6}, {"name": "REQUEST_END", "ns": 9}]
            records += [{"id": number, "model_name": "m", "parent_id": 1}, {"id": number, "timestamps": times}]
        return records

    few, many = (cpu_s(tmp_path, document(models), Options(start_ns=NS)) for models in (1, 300))
    assert many < 5 * few + 0.2
    found = read_json(tmp_path, document(3), Options(start_ns=NS))
    root = found.named("ensemble")
    assert {span.parent_span_id for span in found.spans if span.name == "m"} == {root.span_id}
    assert plain(root.attributes)["triton.model_name"] == "ensemble"


def test_a_process_of_many_tags_is_read_once_and_not_for_each_span(tmp_path):
    def document(spans):
        found = jaeger()
        trace = found["data"][0]
        trace["processes"]["p1"]["tags"] = [{"key": f"k{number}", "value": number} for number in range(5_000)]
        trace["spans"] = [trace["spans"][0] | {"spanID": f"{number + 1:x}"} for number in range(spans)]
        return found

    few, many = (cpu_s(tmp_path, document(spans)) for spans in (1, 300))
    assert many < 5 * few + 0.2


# --- resources that many spans share ------------------------------------------------------------------------------------


class Taking:
    """Takes batches as a collector does: one that it would refuse is an error here."""

    def __init__(self) -> None:
        self.batches = []

    def send(self, batches, on_sent):
        for batch in batches:
            check(ExportTraceServiceRequest.FromString(batch.body), time.time_ns())
            self.batches.append(batch)
            on_sent(batch.spans, False)


@pytest.mark.parametrize("wide_bytes", [100_000, 900_000])
def test_a_resource_that_many_spans_share_makes_no_request_that_is_refused_and_stands_once_in_each(
    tmp_path, wide_bytes
):
    """The store keeps it with every span, so that there is a limit; and before every span it would be a bomb."""
    document = jaeger()
    trace = document["data"][0]
    trace["processes"]["p1"]["tags"] = [{"key": "wide", "type": "string", "value": "w" * wide_bytes}]
    trace["spans"] = [trace["spans"][0] | {"spanID": f"{number + 1:x}"} for number in range(4_000)]
    path = tmp_path / "wide.json"
    path.write_text(json.dumps(document))
    taking = Taking()
    assert import_files([path], taking).accepted_spans == sum(batch.spans for batch in taking.batches) == 4_000
    assert sum(len(batch.body) for batch in taking.batches) < 100 * wide_bytes


def test_a_request_that_would_unfold_too_far_is_taken_apart(tmp_path):
    """Of OTLP a file may have one request with all spans, which no client would send at once."""
    wide = {"attributes": [{"key": "wide", "value": {"stringValue": "w" * 50_000}}]}
    spans = [SPAN | {"spanId": f"{number + 1:016x}"} for number in range(8_000)]
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"resourceSpans": [{"resource": wide, "scopeSpans": [{"spans": spans}]}]}))
    taking = Taking()
    assert import_files([path], taking).accepted_spans == sum(batch.spans for batch in taking.batches) == 8_000


def test_one_wrong_span_beside_many_leaves_them_and_their_resource_is_read_once(tmp_path):
    """It was read anew, and kept anew, for each of them: 2,000 spans of a resource of 2 MB took 8 GB."""
    wide = {"attributes": [{"key": "wide", "value": {"stringValue": "w" * 1_000_000}}]}
    spans = [SPAN | {"spanId": f"{number + 1:016x}"} for number in range(300)]
    spans[7] |= {"spanId": "no hex"}
    document = {
        "resourceSpans": [{"resource": wide, "scopeSpans": [{"spans": spans}, {"spans": "none"}, {"spans": spans[:7]}]}]
    }
    found = read_json(tmp_path, document)
    assert (len(found.spans), found.refused) == (306, {"a span's spanId cannot be read": 1})
    assert sum(len(each.resource_spans) for each in found.requests) == 2
    assert "scopeSpans[0].spans[7]" in found.report.refused["a span's spanId cannot be read"].first


def test_what_spans_share_may_be_wrong_as_a_whole(tmp_path):
    document = {"resourceSpans": [{"resource": 5, "scopeSpans": [{"spans": [SPAN, SPAN]}]}, *otlp()["resourceSpans"]]}
    found = read_json(tmp_path, document)
    assert (len(found.spans), sum(found.refused.values()), found.report.read) == (1, 2, 3)


@pytest.mark.parametrize("where", ["resource", "scope"])
def test_a_resource_that_is_larger_than_a_record_may_be_is_refused_and_the_others_are_read(
    tmp_path, monkeypatch, where
):
    monkeypatch.setattr(
        JsonReader.__init__, "__kwdefaults__", JsonReader.__init__.__kwdefaults__ | {"max_value_chars": 50_000}
    )
    wide = {"attributes": [{"key": "wide", "value": {"stringValue": "w" * 100_000}}]}
    scope = {"scope": {"name": "s", **wide}} if where == "scope" else {}
    element = {"resource": wide if where == "resource" else {}, "scopeSpans": [{**scope, "spans": [SPAN]}]}
    found = read_json(tmp_path, {"resourceSpans": [element, *otlp()["resourceSpans"]]})
    assert len(found.spans) == 1
    assert found.refused == {"what a resource's spans share is larger than a record may be": 1}
