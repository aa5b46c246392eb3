"""Records of a JSON list, one at a time, with those refused that cannot be decoded or are ambiguous."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from tailsight_collector.importing.json_reader import JsonReader, RecordError
from tailsight_collector.importing.registry import Report


class UnfitError(Exception):
    """A record that cannot be kept. `reason` is one of few texts; `detail` may have the value."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def objects(
    reader: JsonReader,
    place: str,
    report: Report | None,
    *,
    may_be_cut_off: bool = False,
    once: Container[str] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for each item of the list that comes next; without a report it counts and refuses silently.

    An object in which a key stands twice is refused: which of the two is meant nobody knows. `once`: one of these keys.
    """
    report = report or Report()
    for index in reader.items(may_be_cut_off=may_be_cut_off):
        yield from one_object(reader, f"{place}[{index}]", report, once)


def one_object(
    reader: JsonReader, at: str, report: Report, once: Container[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for what comes next, if it is one that can be decoded; it is counted in any case."""
    report.read += 1
    try:
        value = reader.value()
    except RecordError as error:
        report.refuse(f"it {error}", at)
        return
    if not isinstance(value, dict):
        report.refuse("it is no object", f"{at}: {short(value)}")
    elif reader.duplicate is not None and (once is None or reader.duplicate in once):
        report.refuse("a key stands in it twice", f"{at}: {short(reader.duplicate)}")
    else:
        yield at, value


def short(value: object) -> str:
    """Show a value in a message."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a very large number"
    return text if len(text) <= 60 else text[:57] + "…"


def text_of(value: object, what: str, *, default: str | None = None) -> str:
    """Return a text; raises UnfitError where it is none."""
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise UnfitError(f"its {what} is no text", short(value))
    return value


def list_of(value: object, what: str) -> list[Any]:
    """Return a list, empty where there is none; raises UnfitError where it is something else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnfitError(f"its {what} are no list", short(value))
    return value


def dict_of(value: object, what: str) -> dict[str, Any]:
    """Return an object, empty where there is none; raises UnfitError where it is something else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnfitError(f"its {what} are no object", short(value))
    return value
