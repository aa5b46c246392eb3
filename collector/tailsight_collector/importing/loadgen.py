"""MLPerf LoadGen's trace (`mlperf_log_trace.json`, written with LogSettings.enable_trace): each sample is a request.

An event a line. LoadGen does not escape text in it ("key":""sut_name""), so the file as a whole is no JSON; the lines
that matter are. Names: mlcommons/inference, loadgen/logging.cc and loadgen.cc; tried with 6.0.17.

    Sample (b and e, id = sample_seq)   ts: when it was scheduled, µs since the trace's origin; complete_ns: its latency
    Token (b and e)                     the same until the first token; in the Server scenario instead
    Token_Latency (C)                   issue to first token of the sample that was scheduled at the same ts
    otherData.ts                        the origin: Unix time in µs, where LoadGen's clock is the system's

    Sample         scheduled … complete
      queue        scheduled … issued: how late LoadGen was. MLPerf's latency has it, the system under test never saw it
      prefill      issued … first token (with the system's own queue), where the trace has it
      decode       first token … complete

Where the file does not say when it was (cut off, or a clock that counts from the machine's start), `--start` is the
time of the earliest sample. The detail log and the summary have no single sample (loadgen_detail.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight.attributes import PROCESS_PID, SERVICE_NAME, STAGE, TIME_TO_FIRST_CHUNK
from tailsight_collector.errors import BadRequestError, UnknownFormatError
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import derived_span_id, derived_trace_id
from tailsight_collector.importing.loadgen_detail import is_detail_log, what_it_has
from tailsight_collector.importing.records import UnfitError, short
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import put
from tailsight_collector.receive.checks import YEAR_2000_NS

SCOPE = "loadgen"
SERVICE = "mlperf-loadgen"
DEFINITION = "tailsight.definition"
DEFINITIONS = {
    "queue": "queue: from the scheduled time to the issue, in the load generator",
    "prefill": "prefill: from the issue to the first token, with the queue of the system under test",
    "decode": "decode: from the first token to the last",
}
NO_START = (
    "LoadGen's trace does not say when it was (it is cut off, or its clock counts from the machine's start): give "
    "--start, the time of its earliest sample, as in --start 2026-11-23T08:30:00Z"
)
NO_SAMPLES = (
    "this trace of LoadGen has no sample (events called Sample): the test did not get so far, or this version of "
    "LoadGen writes none in this scenario"
)
US_NS = 1_000
MAX_LINE_BYTES = 1 << 20
# Samples that have begun, or whose first token has come, and that have not ended; more than that is no test.
MAX_OPEN = 1_000_000
# An end is written with three decimals of a microsecond, a latency in nanoseconds.
ROUNDING_NS = 1_000
_HEAD = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"traceEvents"\s*:\s*\[')
_NAMES = re.compile(rb'"name"\s*:\s*"(?:GenerateLoadableSets|GenerateQueries|SampleLoop|IssueQuery|IOThreadLoop)"')
_WANTED = re.compile(rb'\{\s*"name"\s*:\s*"(?:Sample|Token|Token_Latency)"')
_SAMPLE_BEGINS = re.compile(rb'\{\s*"name"\s*:\s*"Sample"[^{]*"ph"\s*:\s*"b"[^{]*"ts"\s*:\s*([0-9.]{1,40})')
_ORIGIN = re.compile(rb'\s*"ts"\s*:\s*([0-9.]{1,40})\s*,?\s*')


def recognises(head: bytes) -> bool:
    """Whether this is LoadGen's trace, or its detail log or summary (which are refused, and say what is needed)."""
    return is_detail_log(head) or (_HEAD.match(head) is not None and _NAMES.search(head) is not None)


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Find out when it was, then make a request of each sample."""
    report.unit = "samples"
    with source.open() as stream:
        if is_detail_log(source.head):
            raise UnknownFormatError(f"{source.name}: {what_it_has(stream)}")
        origin_ns, first_ns = _beforehand(stream)
    if first_ns is None:
        raise BadRequestError(NO_SAMPLES)
    says_when = origin_ns is not None
    if origin_ns is None:
        if options.start_ns is None:
            raise BadRequestError(NO_START)
        origin_ns = options.start_ns - first_ns
    made = _Samples(origin_ns, report)
    bundle = Bundle()
    with source.open() as stream:
        for number, line in _lines(stream):
            if _WANTED.match(line):
                made.take(bundle, line, f"line {number:,}")
                if bundle.is_full:
                    yield bundle.take()
    made.refuse_open()
    if not says_when:
        report.note("samples whose start is counted from --start", made.kept)
    if not bundle.is_empty:
        yield bundle.take()


def _beforehand(stream: BinaryIO) -> tuple[int | None, int | None]:
    """Return the Unix time of the trace's origin, where it says one, and the earliest sample since it, both in ns."""
    origin_ns: int | None = None
    first_ns: int | None = None
    for _, line in _lines(stream):
        if found := _SAMPLE_BEGINS.match(line):
            at_ns = _ns(found)
            if at_ns is not None and (first_ns is None or at_ns < first_ns):
                first_ns = at_ns
        elif found := _ORIGIN.fullmatch(line):
            origin_ns = _ns(found)
    return (origin_ns if origin_ns is not None and origin_ns >= YEAR_2000_NS else None), first_ns


def _ns(found: re.Match[bytes]) -> int | None:
    try:
        return scaled_ns(found[1].decode(), US_NS, "ts")
    except TimeError:
        return None


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise BadRequestError(f"line {number:,} is longer than {MAX_LINE_BYTES:,} bytes; LoadGen's are short")
        yield number, line.lstrip()


@dataclass(slots=True)
class _Begun:
    """A sample whose end has not come. `start_ns` counts from the origin, the others from the start."""

    place: str
    start_ns: int
    issued_ns: int
    length_ns: int
    process: object
    numbers: dict[str, int]


class _LooseError(UnfitError):
    """An event of no sample that is known: it counts as one of its own."""


class _Samples:
    """Makes requests of events, in the order in which samples end."""

    def __init__(self, origin_ns: int, report: Report) -> None:
        self.kept = 0
        self._origin_ns = origin_ns
        self._report = report
        self._begun: dict[int, _Begun] = {}
        self._tokens: dict[int, int] = {}  # sample_seq → from the start to the first token
        self._tokens_at: dict[int, int | None] = {}  # start → the same; None where several samples start then

    def take(self, bundle: Bundle, line: bytes, place: str) -> None:
        """Take one event, and add the request that ends with it."""
        is_sample = b'"Sample"' in line[:40]
        try:
            event = _event(line)
            if event.get("name") == "Token_Latency":
                self._first_token_at(event)
            elif not is_sample:
                self._first_token_of(event)
            elif event.get("ph") == "b":
                self._report.read += 1
                self._begin(event, place)
            else:
                self._end(bundle, event)
        except (UnfitError, TimeError) as error:
            if not is_sample:
                self._report.note("first tokens that cannot be read, left out")
                return
            self._report.read += isinstance(error, _LooseError)
            reason, detail = (error.reason, error.detail) if isinstance(error, UnfitError) else (str(error), "")
            self._report.refuse(reason, f"{place}: {detail}" if detail else place)
        if len(self._begun) + len(self._tokens) + len(self._tokens_at) > MAX_OPEN:
            raise BadRequestError(f"{place}: more than {MAX_OPEN:,} samples have begun and not ended")

    def refuse_open(self) -> None:
        """Refuse the samples that have no end."""
        for begun in self._begun.values():
            self._report.refuse("it has no end", begun.place)

    def _begin(self, event: dict[str, Any], place: str) -> None:
        args = _args(event)
        begun = _Begun(
            place,
            start_ns=scaled_ns(event.get("ts"), US_NS, "ts"),
            issued_ns=scaled_ns(args.get("issue_start_ns"), 1, "issue_start_ns"),
            length_ns=scaled_ns(args.get("complete_ns"), 1, "complete_ns"),
            process=event.get("pid"),
            numbers={key: _number(args, key) for key in ("sample_seq", "query_seq", "sample_idx")},
        )
        if begun.issued_ns > begun.length_ns:
            raise UnfitError("it is complete before it is issued")
        number = _number(event, "id")
        if number in self._begun:
            self._report.refuse("it has no end", self._begun[number].place)
        self._begun[number] = begun

    def _end(self, bundle: Bundle, event: dict[str, Any]) -> None:
        number = event.get("id")
        if event.get("ph") != "e" or isinstance(number, bool) or not isinstance(number, int):
            raise _LooseError("an end without a beginning")
        begun = self._begun.pop(number, None)
        if begun is None:
            raise _LooseError("an end without a beginning")
        length_ns = scaled_ns(event.get("ts"), US_NS, "ts") - begun.start_ns
        if abs(length_ns - begun.length_ns) > ROUNDING_NS:
            # so it was in LoadGen before 1.0, whose ts counts nanoseconds
            self._report.refuse("its end and its complete_ns disagree", begun.place)
            return
        self._add(bundle, begun)

    def _first_token_at(self, event: dict[str, Any]) -> None:
        args = _args(event)
        after_ns = scaled_ns(args.get("issue_delay"), 1, "issue_delay") + scaled_ns(
            args.get("issue_to_done"), 1, "issue_to_done"
        )
        start_ns = scaled_ns(event.get("ts"), US_NS, "ts")
        self._tokens_at[start_ns] = None if start_ns in self._tokens_at else after_ns

    def _first_token_of(self, event: dict[str, Any]) -> None:
        if event.get("ph") == "b":
            self._tokens[_number(event, "id")] = scaled_ns(_args(event).get("complete_ns"), 1, "complete_ns")

    def _add(self, bundle: Bundle, begun: _Begun) -> None:
        numbers = begun.numbers
        start_ns = self._origin_ns + begun.start_ns
        first_token_ns = self._tokens.pop(numbers["sample_seq"], self._tokens_at.pop(begun.start_ns, None))
        trace_id = derived_trace_id(SCOPE, start_ns, begun.length_ns, *numbers.values())
        request = self._span(bundle, begun, trace_id, "Sample", (0, begun.length_ns))
        request.kind = Span.SPAN_KIND_SERVER
        for key, number in numbers.items():
            put(request.attributes, f"mlperf.{key}", number)
        phases = [("queue", 0, begun.issued_ns)] if begun.issued_ns else []
        if first_token_ns is not None and begun.issued_ns <= first_token_ns <= begun.length_ns:
            put(request.attributes, TIME_TO_FIRST_CHUNK, first_token_ns / 1e9)
            put(request.attributes, DEFINITION, "time_to_first_chunk: from the scheduled time")
            phases += [("prefill", begun.issued_ns, first_token_ns), ("decode", first_token_ns, begun.length_ns)]
        bundle.filled(request)
        for stage, from_ns, until_ns in phases:
            span = self._span(bundle, begun, trace_id, stage, (from_ns, until_ns))
            span.parent_span_id = request.span_id
            put(span.attributes, STAGE, stage)
            put(span.attributes, DEFINITION, DEFINITIONS[stage])
            bundle.filled(span)
        self._report.kept += 1 + len(phases)
        self.kept += 1

    def _span(self, bundle: Bundle, begun: _Begun, trace_id: bytes, name: str, at_ns: tuple[int, int]) -> Span:
        process = begun.process if isinstance(begun.process, int) else None
        span = bundle.span({SERVICE_NAME: SERVICE, PROCESS_PID: process}, SCOPE)
        span.trace_id, span.span_id = trace_id, derived_span_id(trace_id, name)
        span.name, span.kind = name, Span.SPAN_KIND_INTERNAL
        span.start_time_unix_nano = self._origin_ns + begun.start_ns + at_ns[0]
        span.end_time_unix_nano = self._origin_ns + begun.start_ns + at_ns[1]
        return span


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line.strip().removesuffix(b","), parse_float=str)
    except (ValueError, RecursionError) as error:
        raise _LooseError("its line is no JSON", short(str(error))) from None
    if not isinstance(event, dict):
        raise _LooseError("its line is no object")
    return event


def _args(event: dict[str, Any]) -> dict[str, Any]:
    args = event.get("args")
    if not isinstance(args, dict):
        raise UnfitError("its args are no object")
    return args


def _number(values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise UnfitError(f"its {key} is no number", short(value))
    return value


FORMAT = Format(name="loadgen", title="MLPerf LoadGen's trace", recognises=recognises, read=read)
