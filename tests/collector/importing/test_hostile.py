"""Files that mean harm or are damaged: an error in one line or a refusal with its reason, never a wrong span, never much memory."""

import bz2
import gzip
import json
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from testkit.importing import DATA, Read

from tailsight_collector.errors import UnknownFormatError, UnreadableFileError
from tailsight_collector.importer import import_files, read_requests
from tailsight_collector.importing import source
from tailsight_collector.importing.known import FORMATS, format_of
from tailsight_collector.importing.registry import MAX_REASONS, Options, Report

START = Options(start_ns=1_790_000_000 * 10**9)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
US = 1_790_000_000_000_000
ZIPKIN = {"traceId": TRACE, "id": SPAN, "timestamp": US, "duration": 5, "localEndpoint": {"serviceName": "s"}}
JAEGER = {
    "traceID": TRACE, "spans": [{"traceID": TRACE, "spanID": SPAN, "operationName": "x", "startTime": US, "duration": 5, "processID": "p"}],
    "processes": {"p": {"serviceName": "s"}},
}  # fmt: skip
OTLP = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {"traceId": TRACE, "spanId": SPAN, "startTimeUnixNano": US * 1000, "endTimeUnixNano": US * 1000}
                    ]
                }
            ]
        }
    ]
}
TRITON = [
    {"id": 1, "model_name": "m"},
    *({"id": 1, "timestamps": [{"name": name, "ns": 5}]} for name in ("REQUEST_START", "REQUEST_END")),
]
LANGFUSE = {
    "trace": {"id": TRACE, "projectId": "p"},
    "observations": [
        {
            "id": SPAN,
            "traceId": TRACE,
            "startTime": "2026-11-23T00:00:00Z",
            "endTime": "2026-11-23T00:00:01Z",
            "name": "x",
            "type": "SPAN",
        }
    ],
}
OTEL_JS = [
    {
        "name": "x",
        "spanContext": {"traceId": TRACE, "spanId": SPAN},
        "startTime": [US // 10**6, 0],
        "endTime": [US // 10**6, 5],
    }
]
NEZHA = (
    "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n"
    f"{TRACE},{SPAN},root,pod,op,{US * 1000},{US * 1000 + 5},0\n"
)
DOCUMENTS = {
    "zipkin": [ZIPKIN],
    "jaeger": {"data": [JAEGER]},
    "otlp-json": OTLP,
    "triton": TRITON,
    "langfuse": LANGFUSE,
    "otel-js": OTEL_JS,
}


class Nowhere:
    """A target that must get nothing."""

    def send(self, batches, on_sent):
        raise AssertionError("something of a broken file was sent")


class Anywhere:
    def send(self, batches, on_sent):
        for batch in batches:
            on_sent(batch.spans, False)


def leaves(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def replaced(document, path, value):
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return copy


def read_all(path):
    """What a format makes of a file that may be anything; only an error of ours may come of it."""
    try:
        requests = list(read_requests(path, START))
    except UnreadableFileError as error:
        said = str(error)
    else:
        return requests
    assert "\n" not in said
    assert len(said) < 2000
    return None


WRONG = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    "",
    "x" * 300,
    "\ud800",
    [],
    {},
    [[]],
    {"a": {"b": []}},
    float("nan"),
    float("inf"),
    "9" * 5000,
)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_any_value_of_a_wrong_kind_anywhere_is_kept_right_or_refused(tmp_path, name, value):
    document = DOCUMENTS[name]
    for number, place in enumerate(leaves(document)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(replaced(document, place, value)))
        for request in read_all(path) or []:
            for of_resource in request.resource_spans:
                for scoped in of_resource.scope_spans:
                    for span in scoped.spans:
                        # one of a wrong length is stored as rejected, as from a live client
                        assert name == "triton" or span.trace_id.hex() == TRACE or len(span.trace_id) != 16
                        # a time that was spoilt refuses its span
                        assert span.start_time_unix_nano <= span.end_time_unix_nano or name == "otlp-json"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_ends_anywhere_is_an_error_and_adds_nothing(tmp_path, name):
    text = json.dumps(DOCUMENTS[name])
    path = tmp_path / "cut.json"
    for end in range(1, len(text)):
        path.write_text(text[:end])
        if name == "triton" and text[:end].rstrip(", ").endswith("}"):
            continue  # a server that was killed ends its file between two activities
        with pytest.raises(UnreadableFileError):
            import_files([path], Nowhere(), options=START)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_packed_file_that_is_cut_off_or_damaged_adds_nothing(tmp_path, kind):
    import random

    records = [{**ZIPKIN, "id": f"{number + 1:016x}", "n": random.Random(number).random()} for number in range(2000)]
    packed = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[kind](json.dumps(records).encode())
    path = tmp_path / "packed.json"
    for content in (packed[:-10], packed[: len(packed) // 2], packed[:1000] + b"\0" * 50 + packed[1050:]):
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match=r"damaged|not JSON|not UTF-8"):
            import_files([path], Nowhere())


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BOMB_BYTES", 8 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b'[{"traceId":"1","id":"1"},' + b" " * (64 << 20) + b"]"))
    with pytest.raises(UnreadableFileError, match="it unpacks to more than"):
        import_files([path], Nowhere())


def test_a_record_that_is_too_deep_or_too_long_leaves_the_others(tmp_path):
    deep = json.dumps(ZIPKIN)[:-1] + ', "tags": ' + '{"a":' * 3000 + "1" + "}" * 3000 + "}"
    digits = json.dumps(ZIPKIN)[:-1] + ', "n": ' + "1" * 6000 + "}"
    twice = json.dumps(ZIPKIN)[:-1] + ', "id": "1"}'
    path = tmp_path / "zipkin.json"
    path.write_text(f"[{json.dumps(ZIPKIN)}, {deep}, {digits}, {twice}, 7, null]")
    found = Read(path)
    assert [span.span_id.hex() for span in found.spans] == [SPAN]
    assert found.refused == {
        "it is nested too deeply": 1, "it holds a number with too many digits": 1, "a key stands in it twice": 1, "it is no object": 2,
    }  # fmt: skip
    assert found.report.refused["a key stands in it twice"].first == "[3]: 'id'"


def test_nan_is_no_time_and_may_be_a_value(tmp_path):
    path = tmp_path / "zipkin.json"
    path.write_text(
        json.dumps([{**ZIPKIN, "tags": {"n": float("nan")}}, {**ZIPKIN, "id": "1", "timestamp": float("nan")}])
    )
    found = Read(path)
    assert len(found.spans) == 1
    assert found.refused == {"its timestamp is no finite number": 1}


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"# A heading\ntext", "the text '# A heading'"),
        (b'{"menu": {"id": 1}, "other": 2}', "a JSON object with the keys menu, other"),
        (b"[1, 2]", "a JSON list without keys"),
        (b"PK\x03\x04rest", "a zip archive"),
        (bz2.compress(b"x"), "bzip2"),
        ("ä".encode("utf-16"), "UTF-16 text"),
        (b"\x00\x01\x02", "the bytes 00 01 02"),
        (b" \n", "only white space"),
    ],
    ids=["text", "object", "list", "zip", "bzip2", "utf-16", "bytes", "space"],
)
def test_a_file_of_no_known_format_says_what_it_is_and_what_is_wanted(tmp_path, content, seen):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnknownFormatError) as caught:
        import_files([path], Nowhere())
    assert f"it begins with {seen}, and that is none" in str(caught.value)
    for each in FORMATS:
        assert each.title in str(caught.value)


@pytest.mark.parametrize("filling", [b" ", b'\\"', b'"\\"', b"[", b'{"a":', b",", b"1"], ids=range(7))
def test_looking_at_a_beginning_takes_no_time(filling):
    head = b'{"a": "' + filling * (65_000 // len(filling))
    began = time.process_time()
    format_of(head)
    assert time.process_time() - began < 2


def test_an_empty_file_is_told(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(UnreadableFileError, match="the file is empty"):
        import_files([tmp_path / "empty"], Nowhere())


def test_reasons_are_few_however_many_a_file_has():
    report = Report()
    for number in range(10 * MAX_REASONS):
        report.refuse(f"reason {number}", "here")
    assert len(report.refused) <= MAX_REASONS + 1
    assert report.refused_records == 10 * MAX_REASONS


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,y", "it has another number of fields than the first line"),
        (f"{TRACE},{SPAN},root,pod,op,1,nan,0", "its EndTimeUnixNano is no finite number"),
        (f"{TRACE},{SPAN},root,pod,op,9,5,0", "it ends before it starts"),
        (f"{TRACE},{SPAN},,pod,op,1,5,0", "its ParentID is missing or no text"),
    ],
    ids=["fields", "nan", "backwards", "no parent"],
)
def test_a_row_that_is_wrong_is_refused_with_its_line(tmp_path, line, reason):
    path = tmp_path / "nezha.csv"
    path.write_text(f"{NEZHA}{line}\n")
    found = Read(path)
    assert (len(found.spans), found.refused) == (1, {reason: 1})
    assert found.report.refused[reason].first.startswith("line 3")


def test_a_line_without_end_is_an_error(tmp_path):
    path = tmp_path / "nezha.csv"
    path.write_text(NEZHA + "x" * (2 << 20))
    with pytest.raises(UnreadableFileError, match="line 3 is longer than 1,048,576 bytes"):
        import_files([path], Nowhere())


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
@example(b"\n\x00\n")
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x0a")
def test_any_bytes_end_in_an_answer_or_in_one_error(tmp_path, content):
    path = tmp_path / "any"
    path.write_bytes(content)
    read_all(path)


SEEDS = [json.dumps(each).encode() for each in DOCUMENTS.values()] + [NEZHA.encode()]


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SEEDS), st.data())
def test_any_change_of_a_good_file_ends_in_an_answer_or_in_one_error(tmp_path, seed, data):
    content = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / "changed"
    path.write_bytes(content)
    read_all(path)


@pytest.mark.parametrize("seed", SEEDS, ids=[*DOCUMENTS, "nezha"])
def test_recognising_never_raises_wherever_the_beginning_ends(seed):
    whole = format_of(seed)
    for end in range(len(seed)):
        assert format_of(seed[:end]) in (None, whole)


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
def test_a_delimited_file_that_is_cut_off_says_where(tmp_path):
    whole = (DATA / "otlp_pb" / "example_trace.pb").read_bytes()
    from tailsight_collector.keep.records import encode_varint

    path = tmp_path / "cut.otlp"
    path.write_bytes((encode_varint(len(whole)) + whole) * 3)
    assert len(Read(path).spans) == 15
    path.write_bytes(((encode_varint(len(whole)) + whole) * 3)[:-7])
    with pytest.raises(UnreadableFileError, match=r"the message at byte 1,220 is cut off"):
        import_files([path], Nowhere())


def test_errors_name_the_file(tmp_path):
    missing = Path(tmp_path / "missing.json")
    with pytest.raises(UnreadableFileError, match=str(missing)):
        import_files([missing], Anywhere())
    with pytest.raises(UnreadableFileError, match="it is no file"):
        import_files([tmp_path], Anywhere())
