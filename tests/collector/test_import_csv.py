"""CSVs of requests: what a mapping makes of rows, and which rows are refused and why."""

import pytest
from testkit.importing import Read, plain
from testkit.request_csv import HEADER, START, START_NS, TRACE, lengths, places, read, roots

from tailsight_collector.importing.ids import TRACE_ID_BYTES

MS = 10**6


def test_a_row_is_a_request_with_its_phases_end_to_end(tmp_path):
    found = read(tmp_path, f"{HEADER}\n{START},10.5,2,3.25,gpu-1,{TRACE},812\n")
    [root] = roots(found)
    assert found.format == "request-csv"
    assert (root.name, root.kind, root.trace_id.hex()) == ("request", root.SPAN_KIND_SERVER, TRACE)
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (START_NS, START_NS + 10_500_000)
    assert lengths(found, root) == [("queue", 0, 2 * MS), ("prefill", 2 * MS, 3_250_000)]
    assert [plain(span.attributes) for span in found.spans] == [
        {"n": 812},
        {"tailsight.stage": "queue"},
        {"tailsight.stage": "prefill"},
    ]
    assert found.resources == [{"service.name": "gpu-1"}] * 3
    assert {span.trace_id.hex() for span in found.spans} == {TRACE}
    assert (found.report.unit, found.report.read, found.report.kept, found.refused) == ("rows", 1, 3, {})


def test_phases_stand_in_the_order_of_the_mapping_and_not_of_the_columns(tmp_path):
    found = read(
        tmp_path, "b,a,d,at\n1,2,9,0\n", "offset_s=at,duration_ms=d,stage.a_ms=a,stage.b_ms=b", start_ns=START_NS
    )
    [root] = roots(found)
    assert lengths(found, root) == [("a", 0, 2 * MS), ("b", 2 * MS, MS)]


@pytest.mark.parametrize(
    ("field", "value", "expected_ns"),
    [
        ("start", "2026-11-23T09:30:00+01:00", START_NS),
        ("start", "2026-11-23 08:30:00.123456789Z", START_NS + 123_456_789),
        ("start", "2026-11-23 08:30:00.5+00", START_NS + 500 * MS),
        ("start", "2026-11-23 10:30:00+0200", START_NS),
        ("start", "2026-11-23 08:30:00 UTC", START_NS),
        ("start_utc", "2026-11-23 08:30:00.1234567", START_NS + 123_456_700),
        ("start_utc", "2026-11-23T09:30:00+01:00", START_NS),
        ("start_s", f"{START_NS // 10**9}.000000001", START_NS + 1),
        ("start_ms", str(START_NS // MS), START_NS),
        ("start_us", f"{START_NS // 1000}.25", START_NS + 250),
        ("start_ns", str(START_NS + 7), START_NS + 7),
        ("offset_s", "1.5", START_NS + 1_500_000_000),
        ("offset_ms", "0", START_NS),
    ],
    ids=[
        "zone",
        "nanoseconds",
        "PostgreSQL",
        "basic zone",
        "BigQuery",
        "utc",
        "utc with a zone",
        "s",
        "ms",
        "us",
        "ns",
        "offset in s",
        "offset in ms",
    ],
)
def test_a_start_is_read_exactly(tmp_path, field, value, expected_ns):
    found = read(tmp_path, f"t,d\n{value},5\n", f"{field}=t,duration_us=d", start_ns=START_NS)
    [root] = found.spans
    assert root.start_time_unix_nano == expected_ns
    assert root.end_time_unix_nano - expected_ns == 5_000
    assert found.report.notes == ({"rows whose start is counted from --start": 1} if "offset" in field else {})


def test_an_end_serves_as_well_as_a_duration(tmp_path):
    found = read(
        tmp_path, "t,e\n2026-11-23T08:30:00Z,1795422600.25\n2026-11-23T08:30:01Z,1795422600\n", "start=t,end_s=e"
    )
    assert [span.end_time_unix_nano - span.start_time_unix_nano for span in found.spans] == [250 * MS]
    assert places(found) == {"it ends before it starts": "line 3"}


@pytest.mark.parametrize(
    ("row", "reason", "place"),
    [
        (f"{START},,1,1,s,{TRACE},1", "it has no latency", "line 3"),
        (f"{START},fast,1,1,s,{TRACE},1", "its latency is no number", "line 3: 'fast'"),
        (f"{START},-1,1,1,s,{TRACE},1", "its latency is negative", "line 3: '-1'"),
        (f"{START},nan,1,1,s,{TRACE},1", "its latency is no finite number", "line 3: 'nan'"),
        (f"{START},1e30,1,1,s,{TRACE},1", "its latency is beyond 64 bits of nanoseconds", "line 3: '1e30'"),
        (f",5,1,1,s,{TRACE},1", "it has no at", "line 3"),
        (f"2026-11-23T08:30:00,5,1,1,s,{TRACE},1", "its at does not say in which time zone it is", "line 3: '2026-11-23T08:30:00'"),
        (f"yesterday,5,1,1,s,{TRACE},1", "its at is no time as in 2026-11-23T08:30:00.123Z", "line 3: 'yesterday'"),
        (f"1969-12-31T23:59:59Z,5,1,1,s,{TRACE},1", "its at is before 1970", "line 3: '1969-12-31T23:59:59Z'"),
        (f"{START},5,1", "it has another number of fields than the first line", "line 3: 3"),
    ],
    ids=["no duration", "text", "negative", "nan", "huge", "no start", "no zone", "no time", "before 1970", "fields"],
)  # fmt: skip
def test_a_row_that_is_no_request_is_refused_with_its_line(tmp_path, row, reason, place):
    good = f"{START},5,1,1,s,{TRACE},1"
    found = read(tmp_path, f"{HEADER}\n{good}\n{row}\n{good}\n")
    assert places(found) == {reason: place}
    assert (found.report.read, len(roots(found))) == (3, 2)


def test_the_line_of_a_row_is_where_it_begins(tmp_path):
    found = read(
        tmp_path,
        't,d,note\n"2026-11-23T08:30:00Z",1,"two\nlines"\nx,2,"three\n\nlines"\ny,3,a\n',
        "start=t,duration_s=d",
    )
    assert places(found) == {"its t is no time as in 2026-11-23T08:30:00.123Z": "line 4: 'x'"}
    assert found.refused == {"its t is no time as in 2026-11-23T08:30:00.123Z": 2}


def phases_of(tmp_path, latency: str, *phases: str) -> Read:
    names = [f"p{number}" for number in range(len(phases))]
    text = f"t,d,{','.join(names)}\n{START},{latency},{','.join(phases)}\n"
    return read(tmp_path, text, f"start=t,duration_ms=d,{','.join(f'stage.{name}_ms={name}' for name in names)}")


def test_phases_longer_than_the_request_are_left_out_and_the_request_stays(tmp_path):
    found = phases_of(tmp_path, "10.0", "6.0", "4.2")
    assert len(found.spans) == 1
    assert found.report.notes == {
        "rows whose phases are longer than the request together: kept without their phases": 1
    }


def test_what_rounding_makes_too_much_is_cut_from_the_last_phase(tmp_path):
    # each of the three numbers may be wrong by 0.05 ms
    found = phases_of(tmp_path, "10.0", "6.0", "4.1")
    [root] = roots(found)
    assert lengths(found, root) == [("p0", 0, 6 * MS), ("p1", 6 * MS, 4 * MS)]
    assert found.report.notes == {"rows whose last phase was cut by what rounding had made too much": 1}


def test_a_phase_that_is_empty_did_not_happen_and_one_of_no_length_did(tmp_path):
    found = phases_of(tmp_path, "10", "", "0", "4")
    [root] = roots(found)
    assert lengths(found, root) == [("p1", 0, 0), ("p2", 0, 4 * MS)]


@pytest.mark.parametrize("wrong", ["n/a", "-1", "inf"])
def test_a_phase_that_is_no_duration_takes_the_others_with_it(tmp_path, wrong):
    found = phases_of(tmp_path, "10", "1", wrong, "2")
    assert len(found.spans) == 1
    assert found.report.notes == {"rows with a phase that is no duration: kept without their phases": 1}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), TRACE),
        ("b7ad6b7169203331", "0000000000000000b7ad6b7169203331"),
        ("7", None),
        ("deadbeef", None),
        ("550e8400-e29b-41d4-a716-446655440000", None),
        ("req-1", None),
        ("0" * 32, None),
        (f"{TRACE}0", None),
    ],
    ids=["hex", "upper", "64 bits", "number", "short hex", "uuid", "word", "zeros", "too long"],
)
def test_an_id_that_is_no_trace_id_is_kept_as_it_is_beside_a_derived_one(tmp_path, given, kept):
    found = read(tmp_path, f"t,d,id\n{START},1,{given}\n", "start=t,duration_ms=d,trace_id=id")
    [root] = found.spans
    assert len(root.trace_id) == TRACE_ID_BYTES
    assert plain(root.attributes) == ({} if kept else {"request.id": given})
    assert (root.trace_id.hex() == kept) == (kept is not None)
    assert found.report.notes == ({} if kept else {"ids that are no trace ids, kept as request.id": 1})


def test_rows_with_the_same_id_are_requests_of_their_own_and_a_file_is_read_the_same_again(tmp_path):
    text = f"t,d,id\n{START},1,7\n{START},1,7\n{START},1,\n"
    found, again = (read(tmp_path, text, "start=t,duration_ms=d,request_id=id") for _ in range(2))
    assert len({span.trace_id for span in found.spans}) == 3
    assert [plain(span.attributes) for span in found.spans] == [{"request.id": "7"}, {"request.id": "7"}, {}]
    assert [each.SerializeToString() for each in found.requests] == [
        each.SerializeToString() for each in again.requests
    ]


def test_requests_of_one_trace_keep_span_ids_apart(tmp_path):
    found = read(tmp_path, f"t,d,id\n{START},1,{TRACE}\n{START},1,{TRACE}\n", "start=t,duration_ms=d,trace_id=id")
    assert len({span.span_id for span in found.spans}) == 2


def test_labels_name_model_and_errors_have_fields_of_their_own(tmp_path):
    text = (
        "t,d,svc,run,hw,v,host,reg,env,op,model,err\n"
        f"{START},1,ranker,night,H100,2.1,n1,eu,prod,rank,llama,timeout\n"
        f"{START},1,,,,,,,,,,0\n{START},1,,,,,,,,,,TRUE\n"
    )
    found = read(
        tmp_path,
        text,
        "start=t,duration_ms=d,service=svc,run=run,hardware=hw,version=v,host=host,region=reg,environment=env",
        "name=op,model=model,error=err",
    )
    first, second, third = found.spans
    assert found.resources[0] == {
        "service.name": "ranker", "tailsight.run": "night", "tailsight.hardware": "H100", "service.version": "2.1",
        "host.name": "n1", "cloud.region": "eu", "deployment.environment.name": "prod",
    }  # fmt: skip
    assert found.resources[1:] == [{"service.name": "unknown_service"}] * 2
    assert (first.name, plain(first.attributes)) == ("rank", {"tailsight.model": "llama"})
    codes = [(span.status.code, span.status.message) for span in (first, second, third)]
    assert codes == [(2, "timeout"), (0, ""), (2, "")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("812", 812), ("-3", -3), ("0.25", 0.25), ("007", "007"), ("1e5", "1e5"), ("2.10", "2.10"), ("1" * 30, "1" * 30), ("a b", "a b")],
    ids=["integer", "negative", "fraction", "zeros", "exponent", "version", "long", "text"],
)  # fmt: skip
def test_an_attribute_is_a_number_only_where_nothing_is_lost(tmp_path, text, value):
    found = read(tmp_path, f"t,d,x\n{START},1,{text}\n", "start=t,duration_ms=d,attr.x=x")
    assert plain(found.spans[0].attributes) == {"x": value}


def test_a_prompt_may_be_long(tmp_path):
    prompt = "a, b\n" * 100_000
    found = read(
        tmp_path, f't,d,prompt\n{START},1,"{prompt}"\n{START},1,x\n', "start=t,duration_ms=d,attr.prompt=prompt"
    )
    assert [len(str(plain(span.attributes)["prompt"])) for span in found.spans] == [len(prompt.strip()), 1]


def test_lines_before_the_columns_may_be_empty(tmp_path):
    found = read(tmp_path, f"\n\r\nt,d\n\n{START},1\nx,1\n", "start=t,duration_ms=d")
    assert len(found.spans) == 1
    assert places(found) == {"its t is no time as in 2026-11-23T08:30:00.123Z": "line 6: 'x'"}


def test_all_other_columns_can_be_attributes(tmp_path):
    found = read(tmp_path, f"t,d, a ,b\n{START},1,x,\n", "start=t,duration_ms=d,attr=*")
    assert plain(found.spans[0].attributes) == {"a": "x"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_delimiters_line_ends_and_byte_order_marks(tmp_path, delimiter, end, mark):
    rows = [["at", "latency", "note"], [START, "1.5", f'"a{delimiter}b, ""c"""']]
    text = end.join(delimiter.join(row) for row in rows)
    found = read(tmp_path, mark + text.encode(), "start=at,duration_ms=latency,attr.note=note")
    [root] = found.spans
    assert root.end_time_unix_nano == START_NS + 1_500_000
    assert plain(root.attributes) == {"note": f'a{delimiter}b, "c"'}
