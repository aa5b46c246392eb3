"""CSV read row by row, with an end to how long a line may be."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, Self

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.registry import Report

MAX_LINE_BYTES = 1024 * 1024
# Quoted fields may hold line ends; a quote that is never closed must not swallow the file.
MAX_ROW_BYTES = 4 * MAX_LINE_BYTES
# Python's own limit of 128 KiB a field is for the whole process, and a prompt can be longer.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))


def header_of(head: bytes) -> list[str]:
    """Return the columns that the first line of a file's beginning names; none where it is no text."""
    line = head.split(b"\n", 1)[0]
    try:
        return next(csv.reader([line.decode("utf-8-sig").rstrip("\r")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def rows(stream: BinaryIO, report: Report, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, values by column) for each row; one with another number of fields is refused.

    The place is the row's first line. Raises BadRequestError where a line is longer than MAX_LINE_BYTES or is no
    UTF-8, or a row longer than MAX_ROW_BYTES.
    """
    lines = _Lines(stream)
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        columns = next((values for values in reader if values), [])
        lines.row_begins()
        for values in reader:
            place = f"line {lines.row_begins():,}"
            if not values:
                continue
            report.read += 1
            if len(values) != len(columns):
                report.refuse("it has another number of fields than the first line", f"{place}: {len(values)}")
            else:
                yield place, dict(zip(columns, values, strict=True))
    except csv.Error as error:
        raise BadRequestError(f"line {reader.line_num:,} is no CSV: {error}") from None


class _Lines:
    """The lines of a file as text, counted."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._first = 1
        self._row_bytes = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._row_bytes += len(line)
        if len(line) > MAX_LINE_BYTES:
            raise BadRequestError(f"line {self._number:,} is longer than {MAX_LINE_BYTES:,} bytes")
        if self._row_bytes > MAX_ROW_BYTES:
            raise BadRequestError(
                f"the row that begins at line {self._first:,} is longer than {MAX_ROW_BYTES:,} bytes: is a quote not "
                "closed?"
            )
        try:
            return line.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadRequestError(
                f"line {self._number:,} is not UTF-8: convert the file, with iconv -f WINDOWS-1252 -t UTF-8 for one"
            ) from None

    def row_begins(self) -> int:
        """Begin another row; returns the first line of the one that ends here."""
        first, self._first, self._row_bytes = self._first, self._number + 1, 0
        return first
