"""What a CSV of requests without a mapping is told, and what a wrong mapping is."""

import shlex
from pathlib import Path

import pytest
from testkit.importing import plain
from testkit.request_csv import START, options, read

from tailsight_collector.errors import BadRequestError, UnknownFormatError, UnreadableFileError
from tailsight_collector.importer import read_requests
from tailsight_collector.importing.request_csv_mapping import MappingError, items_of, mapping_of


def unmapped(tmp_path: Path, text: str) -> str:
    path = tmp_path / "requests.csv"
    path.write_text(text)
    with pytest.raises(UnknownFormatError) as caught:
        list(read_requests(path))
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_csv_without_a_mapping_is_told_its_columns_and_an_example(tmp_path):
    text = f"arrived_at,latency,queue_time,req_id,model_server,n_in\n{START},5,1,x,gpu-1,812\n"
    assert unmapped(tmp_path, text) == (
        "it is a CSV with the columns arrived_at, latency, queue_time, req_id, model_server, n_in; say with --map which "
        "of them is what, for example --map start=arrived_at,duration_ms=latency,stage.queue_ms=queue_time,"
        "trace_id=req_id,service=model_server,attr.n_in=n_in; all fields are in docs/import.md"
    )


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("ts,elapsed_us\n1795422600123,7\n", "start_ms=ts,duration_us=elapsed_us;"),
        ("Timestamp,Elapsed time (s)\n0.5,7\n", "'offset_s=Timestamp,duration_s=Elapsed time (s)' --start 2026-"),
        ("t;e2e latency, mean\n2026-11-23 08:00:00;7\n", "'start_utc=t,\"duration_ms=e2e latency, mean\"';"),
        (
            "a,b\n1,2\n",
            "start=COLUMN,duration_ms=COLUMN,attr.a=a,attr.b=b (no column looks like a start or a duration,",
        ),
        ("time,latency\n", "start=time,duration_ms=latency;"),
    ],
    ids=["epoch", "offset", "quoted", "nothing", "header only"],
)
def test_the_example_is_made_of_the_files_own_columns(tmp_path, text, example):
    assert f"for example --map {example}" in unmapped(tmp_path, text)


def test_an_example_that_has_both_can_be_used_as_it_is(tmp_path):
    said = unmapped(tmp_path, 't;"e2e latency, mean (ms)";queue s\n2026-11-23 08:00:00;7;0.002\n')
    [text] = shlex.split(said.partition("for example --map ")[2].partition("; all fields")[0])
    found = read(tmp_path, (tmp_path / "requests.csv").read_bytes(), text)
    assert [span.name for span in found.spans] == ["request", "queue"]
    assert found.refused == {}


def test_columns_that_are_not_there_or_there_twice_are_named(tmp_path):
    with pytest.raises(
        BadRequestError, match=r"no column 'latncy' \(is it 'latency'\?\), which --map duration_ms=latncy"
    ):
        read(tmp_path, f"at,latency\n{START},1\n", "start=at,duration_ms=latncy")
    with pytest.raises(BadRequestError, match="two of its columns are called 'latency'"):
        read(tmp_path, f"at,latency,latency\n{START},1,2\n", "start=at,duration_ms=latency")


def test_an_offset_needs_the_moment_that_it_counts_from(tmp_path):
    with pytest.raises(BadRequestError, match="its at counts from a moment that is not in the file: give that moment"):
        read(tmp_path, "at,d\n1,1\n", "offset_ms=at,duration_ms=d")


def test_a_file_of_which_nothing_can_be_kept_is_an_error(tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("at,d\n1,1\n2,1\n")
    with pytest.raises(UnreadableFileError, match=r"none of its 2 rows can be kept: its at is no time .*line 2: '1'"):
        list(read_requests(path, options("start=at,duration_ms=d")))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["start=a"], "--map names no duration or end, only start: a request needs a start (start, "),
        (["duration_ms=a"], "--map names no start, only duration_ms"),
        (["start=a,start_ms=b,duration_ms=c"], "--map names start and start_ms: which of them is the start? Name one"),
        (["start=a,duration_ms=b,end=c"], "names end and duration_ms: which of them is the duration or end?"),
        (["start=a,start=b"], "--map names start twice, as 'a' and 'b'"),
        (["start"], "--map 'start' is no FIELD=COLUMN, as in start=arrived_at"),
        (["start="], "--map 'start=' is no FIELD=COLUMN"),
        ([""], "--map '' says nothing; write FIELD=COLUMN"),
        (["duration=a"], "duration does not say its unit: duration_ns, duration_us, duration_ms or duration_s"),
        (["stage.queue=a"], "stage.queue does not say its unit: stage.queue_ns"),
        (["latency_ms=a"], "latency_ms is no field"),
        (["servise=a"], "servise is no field; is it service?"),
        (["attr=a"], "attr is for all columns that are not named (attr=*)"),
        (['"start=a'], "quote as in CSV"),
        (["no.toml"], "--map no.toml cannot be read: No such file or directory"),
    ],
    ids=["no duration", "no start", "two starts", "two ends", "twice", "no equals", "no column", "empty", "no unit",
         "phase without unit", "no field", "near", "attr", "quote", "no file"],
)  # fmt: skip
def test_a_wrong_mapping_says_what_and_what_to_write(texts, says):
    with pytest.raises(MappingError) as caught:
        mapping_of(items_of(texts))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mapping_can_be_a_toml_file(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(
        'start = "arrived, at"\nduration_ms = "d"\n[stage]\nqueue_ms = "q"\nprefill_ms = "p"\n'
        '[attr]\ngen_ai.usage.input_tokens = "n"\n'
    )
    found = read(tmp_path, f'"arrived, at",d,q,p,n\n{START},9,1,2,3\n', str(path))
    assert [(span.name, plain(span.attributes)) for span in found.spans] == [
        ("request", {"gen_ai.usage.input_tokens": 3}),
        ("queue", {"tailsight.stage": "queue"}),
        ("prefill", {"tailsight.stage": "prefill"}),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [("start = 1", 'start is no text; write start = "COLUMN"'), ("start = ", "is no TOML"), ("\xff", "is no TOML")],
    ids=["number", "broken", "bytes"],
)
def test_a_toml_file_that_is_no_mapping_is_said(tmp_path, text, says):
    path = tmp_path / "map.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MappingError, match=r"map\.toml") as caught:
        items_of([str(path)])
    assert says in str(caught.value)
