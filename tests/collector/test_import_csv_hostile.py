"""Any text as a CSV of requests: an answer or one error, each row counted once, nothing out of place, little memory."""

import csv
import io
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailsight_collector.errors import BadRequestError, CollectorError
from tailsight_collector.importing import csv_rows, request_csv
from tailsight_collector.importing.registry import HEAD_BYTES, Options, Report
from tailsight_collector.importing.request_csv_mapping import MappingError, items_of, mapping_of

START_NS = 1_790_000_000 * 10**9
MAPPED = Options(
    start_ns=START_NS,
    mapping=items_of(["offset_ms=t,duration_ms=d,stage.a_ms=a,stage.b_us=b,trace_id=i,error=e,service=s,attr=*"]),
)
HEADER = ["t", "d", "a", "b", "i", "e", "s", "x"]
NUMBERS = st.one_of(
    st.integers(-5, 10**7).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.decimals(min_value=0, max_value=1000, places=3).map(str),
    st.sampled_from(
        ["", " 5 ", "1e3", "1e-400", "9" * 50, "1_000", "+7", "0x10", "٣", "5,5", "1e999999999", "-0", "sNaN"]
    ),
)
CELLS = st.one_of(
    NUMBERS, st.text(max_size=12), st.sampled_from(['"', '""', "\r", "a\nb", "\ufeff", "\ud7ff", "0" * 32])
)


class Bytes:
    """A file in memory."""

    name = "requests.csv"

    def __init__(self, data: bytes) -> None:
        self.head = data[:HEAD_BYTES]
        self._data = data

    def open(self) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, options: Options = MAPPED):
    """Give the report and the spans."""
    report = Report()
    requests = list(request_csv.read(Bytes(data), options, report))
    return report, [
        span for each in requests for rs in each.resource_spans for ss in rs.scope_spans for span in ss.spans
    ]


def check(report: Report, spans) -> None:
    """Each row is kept once or refused once; phases lie in their request, one behind the other."""
    roots = {span.span_id: span for span in spans if not span.parent_span_id}
    assert report.read == len(roots) + report.refused_records
    assert report.kept == len(spans) == len({(span.trace_id, span.span_id) for span in spans})
    assert all(refusal.first.startswith("line ") for refusal in report.refused.values())
    ends = {span_id: root.start_time_unix_nano for span_id, root in roots.items()}
    for span in spans:
        assert len(span.trace_id) == 16
        assert any(span.trace_id)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            assert span.trace_id == roots[span.parent_span_id].trace_id
            assert span.start_time_unix_nano == ends[span.parent_span_id]
            ends[span.parent_span_id] = span.end_time_unix_nano
            assert span.end_time_unix_nano <= roots[span.parent_span_id].end_time_unix_nano


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=8, max_size=8) | st.lists(CELLS, max_size=10), max_size=12),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@example(rows=[["0", "10", "3.3", "6700", "", "", "", ""]], delimiter=",", end="\n")
@example(rows=[["0", "10", "3", "8000", "", "", "", ""]], delimiter=",", end="\n")
def test_a_row_is_kept_once_or_refused_once(rows, delimiter, end):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([HEADER, ["0", *["1"] * 7], *rows])
    try:
        report, spans = read(text.getvalue().encode("utf-8", "surrogatepass"))
    except CollectorError:
        return
    check(report, spans)
    lines = [f"{line}\n" for line in text.getvalue().split("\n")]
    assert report.read == sum(bool(row) for row in csv.reader(lines, delimiter=delimiter)) - 1


@settings(max_examples=400, deadline=None)
@given(text=st.text(alphabet=st.sampled_from('tdab,;\t\n\r"0123.5-Ze \ufeffé'), max_size=200))
@example("t,d\n0,1")
@example('t,d,"a\n0,1,2\n')
@example("t,d,d\n0,1,2\n")
def test_any_text_ends_in_an_answer_or_in_one_error(text):
    mapped = Options(start_ns=START_NS, mapping=("offset_ms=t", "duration_ms=d"))
    for options in (mapped, Options()):
        data = text.encode()
        if not request_csv.recognises(data):
            continue
        try:
            check(*read(data, options))
        except CollectorError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_recognising_never_raises(data):
    assert request_csv.recognises(data) in (True, False)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(alphabet=string.ascii_lowercase + '=,."_*', max_size=20)
        | st.builds("{}={}".format, st.sampled_from(["start", "duration_ms", "end", "stage.a_ms", "attr", "attr.k"]), st.text(max_size=5)),
        max_size=5,
    )
)  # fmt: skip
def test_any_mapping_is_read_or_refused_in_one_line(texts):
    found, said = None, ""
    try:
        found = mapping_of(items_of(texts))
    except MappingError as error:
        said = str(error)
    assert "\n" not in said
    assert found is None or (found.end is None) != (found.duration is None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('t,d,x\n1,1,"' + "a\n" * 3_000_000, "longer than 4,194,304 bytes: is a quote not closed|no CSV: field larger than"),
        ("t,d,x\n" + "1,1,1\n" * 9 + '1,1,"' + '\n","' * 2_000_000, "longer than 4,194,304 bytes: is a quote not closed"),
        ("t,d\n1," + "1" * 2_000_000, "line 2 is longer than 1,048,576 bytes"),
        ("t,d\n1,1\n\xff,1\n", "line 3 is not UTF-8"),
    ],
    ids=["quote", "fields", "line", "bytes"],
)  # fmt: skip
def test_what_would_need_much_memory_or_is_no_text_ends_the_file(text, says):
    with pytest.raises(BadRequestError, match=says):
        read(text.encode("latin-1"), Options(start_ns=START_NS, mapping=("offset_ms=t", "duration_ms=d")))


def test_requests_are_handed_on_while_a_file_is_read():
    class Endless(io.RawIOBase):
        """Rows without an end; how many were asked for."""

        rows = -1

        def readline(self, size: int | None = -1, /) -> bytes:
            self.rows += 1
            return b"1,1\n" if self.rows else b"t,d\n"

    stream = Endless()
    source = Bytes(b"t,d\n1,1\n")
    source.open = lambda: stream
    reading = request_csv.read(source, Options(start_ns=START_NS, mapping=("offset_ms=t", "duration_ms=d")), Report())
    for number in range(1, 6):
        next(reading)
        assert stream.rows == 1_000 * number


def test_limits_are_the_ones_that_the_document_says():
    assert (csv_rows.MAX_LINE_BYTES, csv_rows.MAX_ROW_BYTES) == (1 << 20, 4 << 20)
