"""Read the spans of chosen traces a page at a time: memory depends neither on how many there are nor how large."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tailsight_analysis.exporting.choosing import Chosen
from tailsight_analysis.exporting.stored import (
    StoredAttributes,
    StoredEvent,
    StoredLink,
    StoredScope,
    StoredSpan,
)
from tailsight_analysis.queries import query
from tailsight_storage import Store

# Of one question: so many ids fit into an HTTP address.
PIECE_TRACES = 1_000
PIECE_SPANS = 20_000
_PAGE_BYTES = 32 * 1024**2
_FIRST_PAGE, _LEAST_PAGE, _MOST_PAGE = 500, 1, 20_000
_MOST_SHARED = 10_000
_FIRST = StoredSpan._fields[: StoredSpan._fields.index("attributes")]


class Page(NamedTuple):
    """Some spans, trace after trace, each trace in the order of its starts; a trace may go on in the next page.

    `repeated`: how many are left out because they equal another, which had arrived before. No span of a later page
    starts before `after_ns`.
    """

    spans: list[StoredSpan]
    repeated: int
    after_ns: int


def read_spans(store: Store, chosen: Chosen) -> Iterator[Page]:
    """Read all spans of the traces, each once: those that arrived twice differ in nothing but the time of arrival.

    Two spans with one id that differ in anything else are both there.
    """
    reader = _Reader(store)
    begin = 0
    while begin < len(chosen):
        end = _end_of_piece(chosen.spans, begin)
        next_ns = int(chosen.first_ns[end]) if end < len(chosen) else None
        yield from reader.piece(chosen, begin, end, next_ns)
        begin = end


def _end_of_piece(spans: Any, begin: int) -> int:
    end, count = begin, 0
    while end < len(spans) and end - begin < PIECE_TRACES:
        count += int(spans[end])
        if count > PIECE_SPANS and end > begin:
            break
        end += 1
    return end


class _Reader:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = _FIRST_PAGE
        self._shared: dict[str, Any] = {}

    def piece(self, chosen: Chosen, begin: int, end: int, next_ns: int | None) -> Iterator[Page]:
        """Read some traces, a page at a time."""
        first_ns = int(chosen.first_ns[begin])
        bound = {
            "ids": chosen.hex_ids(begin, end),
            "first_ns": first_ns,
            "last_ns": int(chosen.last_ns[begin:end].max()),
        }
        after = ("", 0, "")
        while True:
            asked = self._rows
            rows = self._store.ask(
                query("export_spans"), **bound, after_trace=after[0], after_ns=after[1], after_span=after[2], rows=asked
            )
            if not rows:
                return
            # the database's order and more, for the same answer each time: of equal ones the first to arrive
            spans = sorted(map(self._span, rows), key=_order)
            last = spans[-1]
            after = (last.trace_id, last.start_ns, last.span_id)
            is_last = len(rows) < asked
            if is_last:
                after_ns = last.start_ns if next_ns is None else next_ns
            else:  # of one trace spans come in their order; of several, not
                after_ns = last.start_ns if end - begin == 1 else first_ns
            kept = list(_once(spans))
            yield Page(kept, len(spans) - len(kept), min(after_ns, next_ns) if next_ns is not None else after_ns)
            if is_last:
                return
            bytes_a_span = max(1.0, sum(span.size_bytes for span in spans) / len(spans))
            self._rows = int(min(_MOST_PAGE, max(_LEAST_PAGE, _PAGE_BYTES / bytes_a_span), 4 * asked))

    def _span(self, row: dict[str, Any]) -> StoredSpan:
        return StoredSpan._make((
            *(row[name] for name in _FIRST),
            StoredAttributes._make(map(tuple, json.loads(row["attributes"]))),
            self._same(row["resource"], _resource),
            self._same(row["scope"], _scope),
            _events(row["event_times"], row["events"]) if row["events"] else (),
            _links(row["links"]) if row["links"] else (),
            row["size_bytes"],
        ))  # fmt: skip

    def _same(self, text: str, read: Callable[[str], Any]) -> Any:
        """Read what many spans share once."""
        if (known := self._shared.get(text)) is None:
            if len(self._shared) >= _MOST_SHARED:
                self._shared.clear()
            known = self._shared[text] = read(text)
        return known


def _resource(text: str) -> StoredAttributes:
    return StoredAttributes._make(map(tuple, json.loads(text)))


def _scope(text: str) -> StoredScope:
    [name], [version], keys, texts = json.loads(text)
    return StoredScope(name, version, StoredAttributes(tuple(keys), tuple(texts)))


def _events(times_ns: Sequence[int], text: str) -> tuple[StoredEvent, ...]:
    [names], *maps = json.loads(text)
    return tuple(map(StoredEvent, times_ns, names, _each(maps)))


def _links(text: str) -> tuple[StoredLink, ...]:
    [trace_ids], [span_ids], *maps = json.loads(text)
    return tuple(map(StoredLink, trace_ids, span_ids, _each(maps)))


def _each(maps: list[list[list[str]]]) -> Iterator[StoredAttributes]:
    for parts in zip(*maps, strict=True):
        yield StoredAttributes._make(map(tuple, parts))


def _order(span: StoredSpan) -> tuple[Any, ...]:
    return span.trace_id, span.start_ns, span.span_id, span.kind, span.service, span.name, span.received_ms


def _once(spans: Sequence[StoredSpan]) -> Iterator[StoredSpan]:
    """Leave out what equals a span before it. Those with one trace, start and id stand together, in one page."""
    seen: list[StoredSpan] = []
    for span in spans:
        if seen and (span.span_id, span.start_ns, span.trace_id) == (
            seen[0].span_id, seen[0].start_ns, seen[0].trace_id,
        ):  # fmt: skip
            if any(_equal(span, other) for other in seen):
                continue
            seen.append(span)
        else:
            seen = [span]
        yield span


def _equal(one: StoredSpan, other: StoredSpan) -> bool:
    return one.content == other.content
