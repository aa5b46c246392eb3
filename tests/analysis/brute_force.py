"""The definitions of docs/analysis/ written down a second time, as slow loops that share nothing with the package.

Times are whole ticks of a microsecond, so that a span can be the set of the ticks that it covers.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, hypergeom
from testkit.otlp import request

from tailsight_analysis import Filters, Window
from tailsight_storage import Store

TICK_NS = 1000
BASE_NS = (time.time_ns() // 10**9 - 7200) * 10**9
COLUMNS = ("service", "hardware", "host", "region", "version", "model")
CONSUMER = 5
HALF = {3: 0, 4: 0, 1: 1, 0: 1, 2: 2, 5: 2}  # CLIENT, PRODUCER; others; SERVER, CONSUMER
_tokens = itertools.count()


@dataclass(frozen=True, eq=False)
class Span:
    trace: int
    id: int
    parent: int = 0
    start: int = 0
    duration: int = 10
    stage: str = ""
    service: str = "front"
    host: str = "h1"
    hardware: str = "L4"
    version: str = "1"
    model: str = ""
    region: str = ""
    run: str = ""
    name: str = "work"
    kind: int = 1
    error: bool = False
    attributes: tuple[tuple[str, str], ...] = ()
    resource: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    decided: bool = False  # somebody decided about keeping it, also where it counts for itself
    intended: int | str | None = None  # ticks after BASE_NS
    unique: int = field(default_factory=itertools.count().__next__)

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def order(self) -> tuple[Any, ...]:
        """Of spans with one id, in this order each is the child of the one before."""
        return (HALF[self.kind], self.start, -self.duration, self.stage, self.service, self.host, self.unique)

    @property
    def delay(self) -> int | None:
        """Ticks by which it started later than intended; -1 where what it says cannot be, None where it says nothing."""
        if self.intended is None:
            return None
        if isinstance(self.intended, str) or self.start - self.intended > 3_600_000_000:
            return -1
        return max(0, self.start - self.intended)


def insert(store: Store, spans: list[Span]) -> None:
    segments = b"".join(_varint(len(message)) + message for message in messages(spans))
    store.insert_otlp_traces(segments, f"{time.time_ns()}-{next(_tokens)}")


def messages(spans: list[Span]) -> list[bytes]:
    """Spans as what an exporter sends, a request a resource."""
    by_resource = defaultdict(list)
    for span in spans:
        resource = {
            "service.name": span.service, "host.name": span.host, "tailsight.hardware": span.hardware,
            "service.version": span.version, "cloud.region": span.region, "tailsight.run": span.run,
            **dict(span.resource),
        }  # fmt: skip
        by_resource[tuple(resource.items())].append(span)
    return [
        request((fields(span) for span in members), dict(resource)).SerializeToString()
        for resource, members in by_resource.items()
    ]


def window(since: int, until: int) -> Window:
    """The window from one tick to another."""
    return Window(BASE_NS + since * TICK_NS, BASE_NS + until * TICK_NS)


# --- who is whose child -----------------------------------------------------------------------------------------------


def parent_of(spans: list[Span]) -> dict[Span, Span | None]:
    holders: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in spans:
        holders[span.trace, span.id].append(span)
    for same in holders.values():
        same.sort(key=lambda span: span.order)
    result: dict[Span, Span | None] = {}
    for same in holders.values():
        first = same[0]
        named = holders.get((first.trace, first.parent)) if first.parent not in (0, first.id) else None
        result[first] = named[-1] if named else None
        result |= {after: before for before, after in itertools.pairwise(same)}
    for span in spans:
        seen: list[Span] = []
        at: Span | None = span
        while at is not None and at not in seen:
            seen.append(at)
            at = result[at]
        if at is not None:
            cycle = seen[seen.index(at) :]
            result[min(cycle, key=lambda s: (s.start, -s.duration, s.id, s.order))] = None
    return result


def placed(span: Span, spans: list[Span], parents: dict[Span, Span | None]) -> list[tuple[Span, int]]:
    """The children that a span waits for, and by how many ticks each is moved into it."""
    mine = [child for child in spans if parents[child] is span and child.kind != CONSUMER]
    result = []
    for host in {child.host for child in mine}:
        group = [child for child in mine if child.host == host]
        earliest, latest = min(child.start for child in group), max(child.end for child in group)
        shift = 0
        if host != span.host:
            if latest - earliest > span.duration or earliest < span.start:
                shift = span.start - earliest
            elif latest > span.end:
                shift = span.end - latest
        result += [(child, shift) for child in group]
    return sorted(result, key=lambda each: (each[0].id, each[0].order))


def self_ticks(spans: list[Span], parents: dict[Span, Span | None]) -> dict[Span, int]:
    result = {}
    for span in spans:
        covered: set[int] = set()
        for child, shift in placed(span, spans, parents):
            covered |= set(range(child.start + shift, child.end + shift))
        result[span] = span.duration - len(covered & set(range(span.start, span.end)))
    return result


def path_ticks(entry: Span, spans: list[Span], parents: dict[Span, Span | None]) -> dict[Span, int]:
    """For how many ticks each span held the request up: tick by tick from its end, who is at work?"""
    result: dict[Span, int] = defaultdict(int)

    def walk(span: Span, shift: int, low: int, high: int) -> None:
        """Who holds `span` up from tick `low` to `high`, both on the entry's clock; the span's own is `shift` behind."""
        there = []
        for child, by in placed(span, spans, parents):
            start, end = max(child.start + by + shift, low), min(child.end + by + shift, high)
            if end > start:
                there.append((child, by + shift, start, end))
        # the one that ends last, or before the last one began, overlapping it by less than a tenth of its own time
        at, last = high, True
        while True:
            before = [each for each in there if last or each[3] - (each[3] - each[2]) // 10 <= at]
            if not before:
                break
            if last:
                child, by, start, end = max(before, key=lambda each: (each[3], -each[2], there.index(each)))
            else:
                child, by, start, end = max(
                    before, key=lambda each: (each[3] - (each[3] - each[2]) // 10, -each[2], there.index(each))
                )
            result[span] += max(0, at - end)
            walk(child, by, start, min(end, at))
            at, last = start, False
        result[span] += at - low

    walk(entry, 0, entry.start, entry.end)
    assert sum(result.values()) == entry.duration
    return result


def is_below(span: Span, entry: Span, parents: dict[Span, Span | None]) -> bool:
    at: Span | None = span
    while at is not None:
        if at is entry:
            return True
        at = parents[at]
    return False


# --- requests ---------------------------------------------------------------------------------------------------------


def matches(span: Span, filters: Filters, *, service: bool) -> bool:
    return all(
        not values or getattr(span, name) in values
        for name, values in filters.parameters().items()
        if service or name != "service"
    )


def requests(spans: list[Span], since: int, until: int, filters: Filters) -> list[Span]:
    """The entry spans of the requests."""
    entries = []
    for trace in {span.trace for span in spans}:
        members = [span for span in spans if span.trace == trace]
        ids = {span.id for span in members}
        if filters.service:
            own = {span.id for span in members if span.service in filters.service}
            found = [
                span
                for span in members
                if span.service in filters.service and (span.parent == span.id or span.parent not in own)
            ]
        elif any(span.parent == 0 for span in members):
            found = [span for span in members if span.parent == 0]
        else:
            lost = [span for span in members if span.parent == span.id or span.parent not in ids]
            found = [min(lost or members, key=lambda s: (s.start, -s.duration, s.id, *_first(s)))]
        found = [span for span in found if since <= span.start < until]
        if any(values for name, values in filters.parameters().items() if name != "service") and not any(
            matches(span, filters, service=False) for span in members
        ):
            continue
        for number in {span.id for span in found}:
            same = [span for span in found if span.id == number]
            same.sort(key=lambda span: (*_first(span), span.order))
            entries.append(same[0])
    return entries


def _first(span: Span) -> tuple[Any, ...]:
    delay = 0 if span.delay is None else 2**61 if span.delay < 0 else 1 + span.delay
    return (HALF[span.kind], span.start, -span.duration, span.error, span.weight, delay)


# --- weights ----------------------------------------------------------------------------------------------------------


def weight_of(span: Span, spans: list[Span]) -> int:
    """For how many spans it stands: as many as the request of its service in its trace that it belongs to."""
    decisions = [
        (other.start, other.weight)
        for other in spans
        if (other.trace, other.service) == (span.trace, span.service) and (other.decided or other.weight > 1)
    ]
    if span.weight > 1 or not decisions:
        return span.weight
    before = [decision for decision in sorted(decisions) if decision[0] <= span.start]
    return before[-1][1] if before else min(decisions)[1]


def repeated(values: list[int], weights: list[int]) -> np.ndarray:
    """The population that weighted values stand for: weights are whole, so each is there that many times."""
    return np.repeat(np.array(values, dtype=float), weights)


# --- the two questions ------------------------------------------------------------------------------------------------


def latencies(spans: list[Span], weights: list[int] | None = None) -> dict[str, float]:
    """Figures of spans; weighted ones also say how many are stored."""
    times = weights or [1] * len(spans)
    ms = repeated([span.duration for span in spans], times) * TICK_NS / 1e6
    p50, p90, p95, p99, p999 = np.quantile(ms, [0.5, 0.9, 0.95, 0.99, 0.999])
    errors = repeated([span.error for span in spans], times).mean()
    return {
        "count": len(ms), "p50_ms": p50, "p90_ms": p90, "p95_ms": p95, "p99_ms": p99, "p999_ms": p999,
        "max_ms": ms.max(), "jitter_ms": p99 - p50, "error_rate": errors,
    } | ({"stored": len(spans)} if weights else {})  # fmt: skip


def response(entries: list[Span]) -> dict[str, Any] | None:
    """Response and service quantiles of the requests that say when they should have started."""
    saying = [entry for entry in entries if entry.delay is not None]
    if not saying:
        return None
    timed = [entry for entry in saying if entry.delay >= 0]
    names, levels = ("p50", "p90", "p95", "p99", "p999", "max"), [0.5, 0.9, 0.95, 0.99, 0.999, 1]

    def quantiles(ticks: list[int]) -> dict[str, float] | None:
        if not ticks:
            return None
        values = np.quantile(repeated(ticks, [entry.weight for entry in timed]), levels) * TICK_NS / 1e6
        return dict(zip(names, values, strict=True))

    return {
        "count": sum(entry.weight for entry in timed),
        "ignored": sum(entry.weight for entry in saying if entry.delay < 0),
        "service_ms": quantiles([entry.duration for entry in timed]),
        "response_ms": quantiles([entry.duration + entry.delay for entry in timed]),
    }


def breakdown(
    spans: list[Span], since: int, until: int, filters: Filters, by: tuple[str, ...]
) -> tuple[dict[str, float] | None, dict[tuple[str, ...], dict[str, float | None]]]:
    parents = parent_of(spans)
    own = self_ticks(spans, parents)
    entries = requests(spans, since, until, filters)
    paths = {entry: path_ticks(entry, spans, parents) for entry in entries}
    total = sum(entry.duration * entry.weight for entry in entries)
    weighted = any(span.weight > 1 for span in spans)
    groups: dict[tuple[str, ...], list[Span]] = defaultdict(list)
    for span in spans:
        if since <= span.start < until and matches(span, filters, service=True):
            groups[tuple(getattr(span, name) for name in by)].append(span)
    rows = {}
    for group, members in groups.items():
        share = on_path = None
        if total:
            counted = [
                span
                for span in spans
                if tuple(getattr(span, name) for name in by) == group and matches(span, filters, service=True)
            ]
            share = sum(
                own[span] * entry.weight for entry in entries for span in counted if is_below(span, entry, parents)
            )
            on_path = sum(paths[entry].get(span, 0) * entry.weight for entry in entries for span in counted)
            share, on_path = share / total, on_path / total
        weights = [weight_of(span, spans) for span in members] if weighted else None
        rows[group] = {**latencies(members, weights), "path_share": on_path, "self_share": share}
    weights = [entry.weight for entry in entries] if weighted else None
    return (latencies(entries, weights) if entries else None), rows


def tail(spans: list[Span], since: int, until: int, filters: Filters, quantile: float) -> dict[str, Any]:
    parents = parent_of(spans)
    entries = requests(spans, since, until, filters)
    paths = {entry: path_ticks(entry, spans, parents) for entry in entries}
    durations_ns = repeated([entry.duration * TICK_NS for entry in entries], [entry.weight for entry in entries])
    threshold, low, high = (round(float(cut)) for cut in np.quantile(durations_ns, [quantile, 0.4, 0.6]))
    in_tail = [entry for entry in entries if entry.duration * TICK_NS >= threshold]
    typical = [entry for entry in entries if low <= entry.duration * TICK_NS <= high]

    def mean_ms(members: list[Span], stage: str | None) -> float:
        count = sum(entry.weight for entry in members)
        if stage is None:
            return sum(entry.duration * entry.weight for entry in members) * TICK_NS / 1e6 / count
        ticks = sum(
            held * entry.weight for entry in members for span, held in paths[entry].items() if span.stage == stage
        )
        return ticks * TICK_NS / 1e6 / count

    whole = mean_ms(in_tail, None) - mean_ms(typical, None)
    names = {s.stage for e in [*in_tail, *typical] for s, held in paths[e].items() if s.stage and held}
    stages = {name: (mean_ms(in_tail, name), mean_ms(typical, name)) for name in names}
    attributes, tested = over_represented(spans, in_tail, typical)
    return {
        "threshold_ms": threshold / 1e6,
        "tail_requests": sum(entry.weight for entry in in_tail),
        "typical_requests": sum(entry.weight for entry in typical),
        "stored": (len(entries), len(in_tail), len(typical)),
        "whole_ms": whole,
        "stages": stages,
        "unaccounted": (
            mean_ms(in_tail, None) - sum(a for a, _ in stages.values()),
            mean_ms(typical, None) - sum(b for _, b in stages.values()),
        ),
        "attributes": attributes,
        "attributes_tested": tested,
    }


def over_represented(
    spans: list[Span], in_tail: list[Span], typical: list[Span]
) -> tuple[dict[tuple[str, str], tuple[float, float, float]], int]:
    """Share in the tail, in typical requests, and adjusted p of each over-represented value; how many were tested."""

    def pairs(entry: Span) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for span in spans:
            if span.trace == entry.trace:
                columns = {name: getattr(span, name) for name in COLUMNS}
                found |= {(key, value) for key, value in columns.items() if value}
                found |= {(key, value) for key, value in (*span.attributes, *span.resource) if value}
        return found

    count_tail, count_typical = defaultdict(int), defaultdict(int)
    weights_tail, weights_typical = defaultdict(list), defaultdict(list)
    for entries, counts, weights in ((in_tail, count_tail, weights_tail), (typical, count_typical, weights_typical)):
        for entry in entries:
            for pair in pairs(entry):
                counts[pair] += 1
                weights[pair].append(entry.weight)
    tested = sorted(p for p in {*count_tail, *count_typical} if count_tail[p] + count_typical[p] >= 2)
    if not tested:
        return {}, 0
    population, draws = len(in_tail) + len(typical), len(in_tail)
    stands_tail, stands_typical = sum(e.weight for e in in_tail), sum(e.weight for e in typical)
    if any(entry.weight > 1 for entry in (*in_tail, *typical)):
        # what so many equally weighted requests would tell, rounded to the side of finding less
        def effective(weights: list[int], count: int, stands: int, unseen: list[int]) -> tuple[float, float]:
            seen = [*weights, *unseen]
            equal = min(count, stands * sum(seen) / sum(weight * weight for weight in seen))
            return equal * sum(weights) / stands, equal

        chances = []
        for pair in tested:
            if count_tail[pair] < 2:
                chances.append(1.0)
                continue
            k, n = effective(weights_tail[pair], draws, stands_tail, [])
            heaviest = [max(entry.weight for entry in typical)]
            others, m = effective(weights_typical[pair], len(typical), stands_typical, heaviest)
            k, n, m = math.floor(k + 1e-6), max(1, math.floor(n + 1e-6)), max(1, math.floor(m + 1e-6))
            others = min(m, math.ceil(others - 1e-6))
            chances.append(hypergeom.sf(k - 1, n + m, k + others, n))
    else:
        chances = [
            hypergeom.sf(count_tail[p] - 1, population, count_tail[p] + count_typical[p], draws)
            if count_tail[p] >= 2
            else 1.0
            for p in tested
        ]
    adjusted = false_discovery_control(np.minimum(chances, 1))
    shares = {
        pair: (sum(weights_tail[pair]) / stands_tail, sum(weights_typical[pair]) / stands_typical) for pair in tested
    }
    found = {
        pair: (*shares[pair], p)
        for pair, p in zip(tested, adjusted, strict=True)
        if p <= 0.05 and shares[pair][0] > shares[pair][1]
    }
    # the package learns the number of tests with the pairs that it gets, and it gets those of two tail requests or more
    return found, len(tested) if any(count_tail[pair] >= 2 for pair in tested) else 0


def fields(span: Span) -> dict[str, Any]:
    attributes = {"tailsight.stage": span.stage, "tailsight.model": span.model}
    if span.weight > 1:
        attributes["tailsight.sampling.weight"] = float(span.weight)
    if span.decided:
        attributes["tailsight.sampling.reason"] = "rate" if span.weight > 1 else "slow"
    if span.intended is not None:
        said = span.intended
        attributes["tailsight.intended_start_unix_nano"] = said if isinstance(said, str) else BASE_NS + said * TICK_NS
    start_ns = BASE_NS + span.start * TICK_NS
    return {
        "trace_id": span.trace.to_bytes(16, "big"),
        "span_id": span.id.to_bytes(8, "big"),
        "parent_span_id": span.parent.to_bytes(8, "big") if span.parent else b"",
        "name": span.name,
        "kind": span.kind,
        "start_time_unix_nano": start_ns,
        "end_time_unix_nano": start_ns + span.duration * TICK_NS,
        "status": {"code": 2 if span.error else 0},
        "attributes": {key: value for key, value in attributes.items() if value} | dict(span.attributes),
    }


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])
