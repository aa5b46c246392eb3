"""CSV read row by row, with an end to how long a line may be."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.registry import Report

MAX_LINE_BYTES = 1024 * 1024


def header_of(head: bytes) -> list[str]:
    """Return the columns that the first line of a file's beginning names; none where it is no text."""
    line = head.split(b"\n", 1)[0]
    try:
        return next(csv.reader([line.decode("utf-8-sig").rstrip("\r")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def rows(stream: BinaryIO, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, values by column) for each row; one with another number of fields is refused.

    Raises BadRequestError where a line is longer than MAX_LINE_BYTES or is no UTF-8.
    """
    reader = csv.reader(_lines(stream))
    try:
        columns = next(reader, [])
        for values in reader:
            if not values:
                continue
            report.read += 1
            place = f"line {reader.line_num:,}"
            if len(values) != len(columns):
                report.refuse("it has another number of fields than the first line", f"{place}: {len(values)}")
            else:
                yield place, dict(zip(columns, values, strict=True))
    except csv.Error as error:
        raise BadRequestError(f"line {reader.line_num:,} is no CSV: {error}") from None


def _lines(stream: BinaryIO) -> Iterator[str]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise BadRequestError(f"line {number:,} is longer than {MAX_LINE_BYTES:,} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadRequestError(f"line {number:,} is not UTF-8") from None
