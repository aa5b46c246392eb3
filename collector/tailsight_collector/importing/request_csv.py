"""CSVs of requests, a row a request, whose columns the user names with `--map` (request_csv_mapping.py).

    request          its start, its duration
      <stage> …      phases, end to end from the start in the order of the mapping; what they do not explain stays
                     unaccounted

Fields are divided by comma, semicolon or tab. A row without a start, a duration or the right number of fields is
refused. Phases that are no durations, or that are together longer than the request, are left out, all of them: the
request stays. Longer by no more than what rounding of the numbers explains, the last is cut.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight_collector.errors import BadRequestError, UnknownFormatError
from tailsight_collector.importing import nezha
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.csv_rows import rows
from tailsight_collector.importing.records import UnfitError
from tailsight_collector.importing.registry import HEAD_BYTES, Format, Options, Report, Source
from tailsight_collector.importing.request_csv_example import SHOWN_COLUMNS, advice, shortened
from tailsight_collector.importing.request_csv_mapping import Clock, Mapping, mapping_of
from tailsight_collector.importing.request_csv_row import Rows

FORMAT_NAME = "request-csv"
DELIMITERS = (",", ";", "\t")
LOOKED_AT_ROWS = 5
_NO_CSV = ("{", "[", "<", "#", ":::")


def recognises(head: bytes) -> bool:
    """Whether this is text whose first line names two columns or more, and one of the next rows has as many fields."""
    return _beginning(head) is not None and not nezha.recognises(head)


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Read rows one after the other."""
    report.unit = "rows"
    beginning = _beginning(source.head)
    if beginning is None:
        raise BadRequestError("it is no CSV any more")
    delimiter, header, first = beginning
    if not options.mapping:
        raise UnknownFormatError(f"{source.name}: {advice([cell.strip() for cell in header], first)}")
    mapping = mapping_of(options.mapping)
    names = _names(mapping, options.mapping, header)
    if mapping.start.clock is Clock.OFFSET and options.start_ns is None:
        raise BadRequestError(
            f"its {shortened(mapping.start.column)} counts from a moment that is not in the file: give that moment "
            "with --start, as in --start 2026-11-23T08:30:00Z"
        )
    made = Rows(mapping, names, options.start_ns or 0, report)
    bundle = Bundle()
    with source.open() as stream:
        for place, row in rows(stream, report, delimiter):
            try:
                report.kept += made.add(bundle, row, place)
            except UnfitError as error:
                report.refuse(error.reason, f"{place}: {error.detail}" if error.detail else place)
                continue
            if bundle.is_full:
                yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _names(mapping: Mapping, items: Sequence[str], header: Sequence[str]) -> dict[str, str]:
    """Return the file's own spelling of each column, which may have spaces around it."""
    names: dict[str, str] = {}
    twice = set()
    for raw in header:
        if raw.strip() in names:
            twice.add(raw.strip())
        names[raw.strip()] = raw
    for column in sorted(mapping.columns):
        if column in twice:
            raise BadRequestError(f"two of its columns are called {column!r}: name one of them differently")
        if column not in names:
            near = get_close_matches(column, names, 1, 0.5)
            hint = f" (is it {near[0]!r}?)" if near else ""
            shown = ", ".join(shortened(each) for each in list(names)[:SHOWN_COLUMNS])
            raise BadRequestError(
                f"it has no column {column!r}{hint}, which --map {shortened(mapping.field_of(column, items))} names; "
                f"its columns are {shown}"
            )
    return {column: raw for column, raw in names.items() if column not in twice}


def _beginning(head: bytes) -> tuple[str, list[str], list[str]] | None:
    """Return the delimiter, the first line's cells and the first row that fits them, where this begins as a CSV."""
    lines = _lines(head)
    if not lines or lines[0].lstrip().startswith(_NO_CSV):
        return None
    found: tuple[str, list[str], list[str]] | None = None
    for delimiter in DELIMITERS:
        try:
            parsed = [row for row in islice(csv.reader(lines, delimiter=delimiter), LOOKED_AT_ROWS + 1) if row]
        except csv.Error:
            continue
        if not parsed or sum(bool(cell.strip()) for cell in parsed[0]) < 2:
            continue
        fitting = [row for row in parsed[1:] if len(row) == len(parsed[0])]
        if (fitting or len(parsed) == 1) and (found is None or len(parsed[0]) > len(found[1])):
            found = delimiter, parsed[0], fitting[0] if fitting else []
    return found


def _lines(head: bytes) -> list[str]:
    """Return whole lines of a beginning; none where it is no text, or where not even the first line is whole."""
    whole, newline, _ = head.rpartition(b"\n")
    lines = (head if len(head) < HEAD_BYTES else whole).split(b"\n")[: 20 * LOOKED_AT_ROWS]
    try:
        first = lines[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        return []
    if not newline or b"\0" in head:
        return []
    # what is no text further down is found, and its line said, where all of it is read
    return [f"{line}\n" for line in (first, *(line.decode("utf-8", "replace") for line in lines[1:]))]


FORMAT = Format(name=FORMAT_NAME, title="CSV of requests (with --map)", recognises=recognises, read=read)
