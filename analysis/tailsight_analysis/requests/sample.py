"""Fetch the requests that are looked at span by span, and all spans of their traces, as columns for `accounting`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.errors import AnalysisError
from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Bools, Floats, Ints, Spans
from tailsight_storage import Store

MAX_REQUESTS = 20_000  # of a uniform sample; a quarter of it of each class where classes are compared
MAX_SPANS = 5_000_000  # of both together: about 1 GB while they are accounted
TAIL, TYPICAL = 1, 2
_HIGHEST_KEY = 2**64 - 2048  # the highest that a float holds


@dataclass(frozen=True, slots=True)
class Cuts:
    """Which durations make a request one of the tail or typical, in nanoseconds, and how many of each are stored.

    By default all requests are in the tail: a uniform sample of them. `at_most` is how many are enough of each.
    """

    tail_requests: int
    tail_from_ns: int = 0
    typical_requests: int = 0
    typical_from_ns: int = 1
    typical_to_ns: int = 0
    at_most: int | None = None

    def parameters(self) -> dict[str, int | str]:
        """Bind sql/sampled.sql."""
        most = min(MAX_REQUESTS // 4 if self.typical_requests else MAX_REQUESTS, self.at_most or MAX_REQUESTS)
        tail_key, typical_key = _key_limit(self.tail_requests, most), _key_limit(self.typical_requests, most)
        return {
            "every_trace": 0,
            "tail_from_ns": self.tail_from_ns,
            "tail_key": tail_key,
            "typical_from_ns": self.typical_from_ns,
            "typical_to_ns": self.typical_to_ns,
            "typical_key": typical_key,
            "last_id": f"{max(tail_key, typical_key):016x}" + "f" * 16,
            "max_requests": most,
        }


@dataclass(frozen=True, slots=True)
class Picked:
    """How many requests of a class were picked, before any were left out for having too many spans.

    `weight` is for how many they stand together, `heaviest` the greatest weight of a single one.
    """

    requests: int
    weight: float
    heaviest: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Spans of the sampled requests' traces, and the requests, an entry each.

    Of spans: `group` numbers their groups, whose names are `groups`; `matches` says which match the filters themselves.
    Of requests: `entry` is the row of the entry span, `weight` for how many requests one stands, `in_tail` and
    `in_typical` are its classes, `trace_ids` has its trace in hex.
    """

    spans: Spans
    group: Ints
    groups: tuple[tuple[str, ...], ...]
    matches: Bools
    entry: Ints
    weight: Floats
    in_tail: Bools
    in_typical: Bools
    trace_ids: tuple[str, ...]
    tail: Picked
    typical: Picked


def fetch_sample(store: Store, parameters: dict[str, Any], by: Sequence[str], cuts: Cuts) -> Sample:
    """Fetch at most MAX_REQUESTS of each class with their traces' spans, grouped by the dimensions `by`.

    `parameters` are those of sql/requests.sql. Where the traces have more than MAX_SPANS, fewer requests are kept.
    """
    bound = parameters | cuts.parameters()
    requests = store.columns(query("sampled_requests"), **bound)
    rows = store.columns(query("sampled_spans"), **bound, by=list(by), max_spans=MAX_SPANS)
    traces, trace_of_row = _trace_codes(rows)
    if len(trace_of_row) == MAX_SPANS:  # the last trace may be cut off: leave it out
        traces = {key: code for key, code in traces.items() if code != trace_of_row[-1]}
        if not traces:
            raise AnalysisError(
                f"one trace has more than {MAX_SPANS:,} spans, too many to account for its time: narrow the question"
            )
        rows = {name: values[trace_of_row != trace_of_row[-1]] for name, values in rows.items()}
        trace_of_row = trace_of_row[trace_of_row != trace_of_row[-1]]
    spans = Spans(
        trace=trace_of_row,
        span_id=_column(rows, "span", np.uint64),
        parent_id=_column(rows, "parent", np.uint64),
        start_ns=_column(rows, "start_ns", np.int64),
        duration_ns=_column(rows, "duration_ns", np.int64),
        host=codes_of(_column(rows, "placed_on", np.object_))[0],
        half=_column(rows, "half", np.int64),
        blocks=_column(rows, "blocks", np.bool_),
    )
    group, groups = _group_codes(rows, by)
    is_class = _column(requests, "class", np.int64)
    weights = _column(requests, "weight", np.float64)
    entry, found = _entries(spans, requests, traces)
    return Sample(
        spans=spans,
        group=group,
        groups=groups,
        matches=_column(rows, "matches", np.bool_),
        entry=entry,
        weight=weights[found],
        in_tail=(is_class[found] & TAIL) > 0,
        in_typical=(is_class[found] & TYPICAL) > 0,
        trace_ids=_hex_ids(requests, found),
        tail=_picked(weights[(is_class & TAIL) > 0]),
        typical=_picked(weights[(is_class & TYPICAL) > 0]),
    )


def codes_of(texts: npt.NDArray[Any]) -> tuple[Ints, list[str]]:
    """Give numbers to the distinct texts in the order of their appearance."""
    given = texts.tolist()
    names = list(dict.fromkeys(given))
    number = {name: code for code, name in enumerate(names)}
    return np.fromiter(map(number.__getitem__, given), dtype=np.int64, count=len(given)), names


def _key_limit(requests: int, most: int) -> int:
    """Up to which key so many of the requests lie at least, but for bad luck; of some more the first are taken."""
    return round(_HIGHEST_KEY * min(1.0, (most + 4 * math.sqrt(most)) / max(1, requests)))


def _column(rows: dict[str, Any], name: str, dtype: Any) -> npt.NDArray[Any]:
    return np.asarray(rows.get(name, ()), dtype=dtype)


def _picked(weights: Floats) -> Picked:
    return Picked(len(weights), float(weights.sum()), float(weights.max(initial=1.0)))


def _trace_codes(rows: dict[str, Any]) -> tuple[dict[tuple[int, int], int], Ints]:
    """Give the traces numbers; rows of one trace stand together."""
    first, last = _column(rows, "trace_first", np.uint64), _column(rows, "trace_last", np.uint64)
    if len(first) == 0:
        return {}, np.empty(0, dtype=np.int64)
    fresh = np.append(True, (first[1:] != first[:-1]) | (last[1:] != last[:-1]))
    keys = zip(first[fresh].tolist(), last[fresh].tolist(), strict=True)
    return {key: code for code, key in enumerate(keys)}, np.cumsum(fresh) - 1


def _group_codes(rows: dict[str, Any], by: Sequence[str]) -> tuple[Ints, tuple[tuple[str, ...], ...]]:
    """Give numbers to the distinct combinations of the dimensions `by`."""
    columns = [codes_of(_column(rows, f"by_{name}", np.object_)) for name in by]
    group = np.zeros(len(rows.get("span", ())), dtype=np.int64)
    names: list[tuple[str, ...]] = [()]
    for codes, texts in columns:  # one dimension after the other, so that only combinations that occur get a number
        distinct, group = np.unique(group * len(texts) + codes, return_inverse=True)
        names = [(*names[pair // len(texts)], texts[pair % len(texts)]) for pair in distinct.tolist()]
    return group, tuple(names)


def _entries(spans: Spans, requests: dict[str, Any], traces: dict[tuple[int, int], int]) -> tuple[Ints, Ints]:
    """Find the requests' entry spans: their rows, and the numbers of the requests; others' traces were not fetched."""
    names = ("trace_first", "trace_last", "span_id", "start_ns", "duration_ns")
    columns = [_column(requests, name, np.uint64).tolist() for name in names]
    wanted = {
        (traces[first, last], span_id, start_ns, duration_ns): number
        for number, (first, last, span_id, start_ns, duration_ns) in enumerate(zip(*columns, strict=True))
        if (first, last) in traces
    }
    candidates = np.flatnonzero(np.isin(spans.span_id, np.array([key[1] for key in wanted], dtype=np.uint64)))
    keys = zip(
        *(values[candidates].tolist() for values in (spans.trace, spans.span_id, spans.start_ns, spans.duration_ns)),
        strict=True,
    )
    found = [(row, wanted.pop(key)) for row, key in zip(candidates.tolist(), keys, strict=True) if key in wanted]
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)  # of equal rows only the first, which is their parent
    return pairs[:, 0], pairs[:, 1]


def _hex_ids(requests: dict[str, Any], found: Ints) -> tuple[str, ...]:
    first, last = (_column(requests, name, np.uint64)[found] for name in ("trace_first", "trace_last"))
    text = np.stack((first, last), axis=1).astype("<u8").tobytes().hex()
    return tuple(text[at : at + 32] for at in range(0, len(text), 32))
