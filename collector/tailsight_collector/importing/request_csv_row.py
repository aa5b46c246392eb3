"""One row of a request CSV as spans."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight.attributes import MODEL, SERVICE_NAME, STAGE
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import TRACE_ID_BYTES, derived_span_id, derived_trace_id
from tailsight_collector.importing.records import UnfitError, short
from tailsight_collector.importing.registry import Report
from tailsight_collector.importing.request_csv_example import shortened
from tailsight_collector.importing.request_csv_mapping import Clock, Mapping, TimeColumn
from tailsight_collector.importing.times import TimeError, iso_ns, scaled_ns
from tailsight_collector.importing.values import clean, put

SCOPE = "request-csv"
NAME = "request"
NO_SERVICE = "unknown_service"  # as OpenTelemetry's SDKs call it
REQUEST_ID = "request.id"
FROM_START = "rows whose start is counted from --start"
OTHER_IDS = "ids that are no trace ids, kept as request.id"
LONG_PHASES = "rows whose phases are longer than the request together: kept without their phases"
WRONG_PHASES = "rows with a phase that is no duration: kept without their phases"
CUT_PHASES = "rows whose last phase was cut by what rounding had made too much"
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{16}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}", re.ASCII)
_WITHOUT_ZONE = re.compile(r"[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?\Z", re.ASCII | re.IGNORECASE)
_FRACTION = re.compile(r":\d\d[.,](\d+)")
_NO_ERROR = frozenset({"", "0", "false", "no", "none", "null", "nan", "ok", "success"})
_ONLY_TRUE = frozenset({"1", "true", "yes"})


class Rows:
    """Makes the spans of rows. `names`: a column's name → as the file's first line spells it."""

    def __init__(self, mapping: Mapping, names: dict[str, str], from_ns: int, report: Report) -> None:
        self._mapping = mapping
        self._names = names
        self._from_ns = from_ns
        self._report = report
        attributes = list(mapping.attributes)
        if mapping.others_are_attributes:
            attributes += [(column, column) for column in names if column and column not in mapping.columns]
        self._attributes = [(key, names[column]) for key, column in attributes]

    def add(self, bundle: Bundle, row: dict[str, str], place: str) -> int:
        """Add a row's spans and say how many; raises UnfitError where it is no request."""
        start_ns = self._time(row, self._mapping.start)
        end_ns = self._end(row, start_ns)
        base = derived_trace_id(SCOPE, start_ns, place, "\0".join(row.values()))
        given = self._single(row, "trace_id")
        trace_id = _trace_id(given) or base
        span = bundle.span(self._labels(row), SCOPE)
        span.trace_id, span.span_id = trace_id, derived_span_id(base, "request")
        span.name = clean(self._single(row, "name") or NAME)
        span.kind = Span.SPAN_KIND_SERVER
        span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
        self._describe(span, row, "" if trace_id != base else given)
        bundle.filled(span)
        if self._mapping.start.clock is Clock.OFFSET:
            self._report.note(FROM_START)
        return 1 + self._add_phases(bundle, row, span, base)

    def _end(self, row: dict[str, str], start_ns: int) -> int:
        if self._mapping.end is not None:
            end_ns = self._time(row, self._mapping.end)
            if end_ns < start_ns:
                raise UnfitError("it ends before it starts")
            return end_ns
        column, unit_ns = self._mapping.duration or ("", 1)
        return start_ns + _number_ns(self._value(row, column), unit_ns, shortened(column))

    def _time(self, row: dict[str, str], wanted: TimeColumn) -> int:
        value = self._value(row, wanted.column)
        if wanted.clock in (Clock.EPOCH, Clock.OFFSET):
            since_ns = self._from_ns if wanted.clock is Clock.OFFSET else 0
            return since_ns + _number_ns(value, wanted.unit_ns, shortened(wanted.column))
        try:
            if wanted.clock is Clock.UTC and _WITHOUT_ZONE.search(value):
                value += "Z"
            return iso_ns(value, shortened(wanted.column))
        except TimeError as error:
            raise UnfitError(str(error), short(value) if value else "") from None

    def _value(self, row: dict[str, str], column: str) -> str:
        return row.get(self._names[column], "").strip()

    def _single(self, row: dict[str, str], name: str) -> str:
        column = self._mapping.single.get(name)
        return "" if column is None else self._value(row, column)

    def _labels(self, row: dict[str, str]) -> dict[str, object]:
        labels: dict[str, object] = {SERVICE_NAME: NO_SERVICE}
        for key, column in self._mapping.labels:
            if value := self._value(row, column):
                labels[key] = value
        return labels

    def _describe(self, span: Span, row: dict[str, str], other_id: str) -> None:
        if other_id:
            self._report.note(OTHER_IDS)
        put(span.attributes, REQUEST_ID, self._single(row, "request_id") or other_id or None)
        put(span.attributes, MODEL, self._single(row, "model") or None)
        for key, raw in self._attributes:
            if value := row.get(raw, "").strip():
                put(span.attributes, key, typed(value))
        error = self._single(row, "error")
        if error.lower() not in _NO_ERROR:
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = "" if error.lower() in _ONLY_TRUE else clean(error)

    def _add_phases(self, bundle: Bundle, row: dict[str, str], request: Span, base: bytes) -> int:
        lengths = self._phase_lengths(row, request.end_time_unix_nano - request.start_time_unix_nano)
        at_ns = request.start_time_unix_nano
        for number, (stage, length_ns) in enumerate(lengths):
            span = bundle.span(self._labels(row), SCOPE)
            span.trace_id, span.parent_span_id = request.trace_id, request.span_id
            span.span_id = derived_span_id(base, "phase", number)
            span.name = clean(stage)
            span.kind = Span.SPAN_KIND_INTERNAL
            span.start_time_unix_nano = at_ns
            at_ns = min(at_ns + length_ns, request.end_time_unix_nano)
            span.end_time_unix_nano = at_ns
            put(span.attributes, STAGE, stage)
            put(span.attributes, MODEL, self._single(row, "model") or None)
            bundle.filled(span)
        return len(lengths)

    def _phase_lengths(self, row: dict[str, str], duration_ns: int) -> list[tuple[str, int]]:
        """Return the phases that the row has; none of them where they do not fit."""
        found = []
        for phase in self._mapping.phases:
            value = self._value(row, phase.column)
            if not value:
                continue
            try:
                found.append((phase.stage, scaled_ns(value, phase.unit_ns, phase.column)))
            except TimeError:
                self._report.note(WRONG_PHASES)
                return []
        excess_ns = sum(length_ns for _, length_ns in found) - duration_ns
        if excess_ns > 0:
            if excess_ns > self._rounding_ns(row):
                self._report.note(LONG_PHASES)
                return []
            self._report.note(CUT_PHASES)
        return found

    def _rounding_ns(self, row: dict[str, str]) -> int:
        """Say how much too long phases can come out only because each number is rounded to its last digit."""
        numbers = [(self._value(row, phase.column), phase.unit_ns) for phase in self._mapping.phases]
        if self._mapping.duration is not None:
            column, unit_ns = self._mapping.duration
            numbers.append((self._value(row, column), unit_ns))
        else:
            for each in (self._mapping.start, self._mapping.end):
                if each is not None:
                    value = self._value(row, each.column)
                    is_iso = each.clock in (Clock.ISO, Clock.UTC)
                    numbers.append((_seconds(value) if is_iso else value, 10**9 if is_iso else each.unit_ns))
        return sum(_half_a_digit_ns(value, unit_ns) for value, unit_ns in numbers if value)


def typed(text: str) -> int | float | str:
    """Return a number where its text is the one way to write it, so that nothing of an id or a version is lost."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def _trace_id(text: str) -> bytes:
    """Return a trace id of exactly 32 or 16 hexadecimal digits; empty where it is another kind of id."""
    if not _TRACE_ID.fullmatch(text):
        return b""
    value = bytes.fromhex(text).rjust(TRACE_ID_BYTES, b"\0")
    return value if any(value) else b""


def _number_ns(value: str, unit_ns: int, what: str) -> int:
    try:
        return scaled_ns(value or None, unit_ns, what)
    except TimeError as error:
        raise UnfitError(str(error), short(value) if value else "") from None


def _seconds(value: str) -> str:
    found = _FRACTION.search(value)
    return f"0.{found[1]}" if found else "0"


def _half_a_digit_ns(text: str, unit_ns: int) -> int:
    try:
        exponent = Decimal(text).as_tuple().exponent
    except InvalidOperation:
        return 0
    if not isinstance(exponent, int):
        return 0
    # and a nanosecond that was cut off
    return int(unit_ns * Decimal(10) ** max(min(exponent, 18), -18) / 2) + 1
