"""How much do latencies vary, and how? Measures of jitter per stage and hardware. See docs/analysis/jitter.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe, iso
from tailsight_analysis.statistics import modes, periodicity
from tailsight_analysis.statistics.dispersion import Bounded, Dispersion, dispersion
from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_analysis.statistics.modes import Modes, find_modes
from tailsight_analysis.statistics.periodicity import Period, find_period
from tailsight_analysis.statistics.shape import Histogram, histogram, slow_by_phase
from tailsight_analysis.timing.order import Deadlines, Events, Gaps, InterArrival, deadlines, gaps, interarrival
from tailsight_analysis.timing.reading import Group, fetch_extent, fetch_jitter
from tailsight_storage import Store

LEAST_EVENTS = 20  # in the largest group: of fewer nothing can be said
MOST_SCANNED = 16  # groups, that modes and periods are looked for in: those with the most time
MOST_SCANNED_EVENTS = 100_000  # of a group, the latest ones, that a period is looked for in


@dataclass(frozen=True, slots=True)
class Spike:
    """Slow events that come back with a period; `first_ns` is when, since 1970, the first was due.

    `period` has the figures (see statistics/periodicity.py), its p-value corrected for all groups that were scanned.
    `slow_by_phase` is the share of slow events in each part of a period, whose middle is the spike's.
    """

    period: Period
    first_ns: int
    slow_by_phase: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "period_ms": self.period.period_ns / NS_PER_MS,
            "first": iso(self.first_ns),
            "first_ns": self.first_ns,
            "strength": self.period.strength,
            "slow_share": self.period.slow_share,
            "cycles": self.period.cycles,
            "p_value": self.period.p_value,
            "slow_by_phase": list(self.slow_by_phase),
        }


@dataclass(frozen=True, slots=True)
class JitterRow:
    """One stage on one hardware, or the requests as wholes. Durations in nanoseconds; see statistics/dispersion.py.

    `count` is an estimate where requests were sampled, and `stored` what it rests on; else `stored` is None. Measures
    of order (`interarrival`, the streak of `deadlines`) and what was looked for in vain (`modes`, `spike`) are None.
    `scanned` says whether a period could be looked for, with which limits in ns; `histogram` is None of groups that
    were not looked at so closely.
    """

    group: Mapping[str, str]
    count: int
    stored: int | None
    spread: Dispersion
    interarrival: InterArrival | None
    deadlines: Deadlines | None
    gaps: Gaps | None
    modes: Modes | None
    spike: Spike | None
    scanned: tuple[float, float] | None
    histogram: Histogram | None = None
    p50_interval: Interval | None = None
    p99_interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/jitter.md."""
        spread = self.spread
        return {
            **self.group,
            "count": self.count,
            **({} if self.stored is None else {"stored": self.stored}),
            "p50_ms": spread.p50 / NS_PER_MS,
            "p99_ms": spread.p99 / NS_PER_MS,
            "p50_interval_ms": _bounds_ms(self.p50_interval),
            "p99_interval_ms": _bounds_ms(self.p99_interval),
            "jitter_ms": spread.above_median.value / NS_PER_MS,
            "jitter_interval_ms": _interval(spread.above_median, NS_PER_MS),
            "iqr_ms": spread.middle_half.value / NS_PER_MS,
            "iqr_interval_ms": _interval(spread.middle_half, NS_PER_MS),
            "cv": spread.cv.value if spread.cv else None,
            "cv_interval": _interval(spread.cv, 1) if spread.cv else None,
            "missing": spread.missing,
            "interarrival_jitter_ms": self.interarrival.mean_ns / NS_PER_MS if self.interarrival else None,
            "interarrival_jitter_max_ms": self.interarrival.highest_ns / NS_PER_MS if self.interarrival else None,
            "streams": self.interarrival.streams if self.interarrival else None,
            "deadline": _deadlines_json(self.deadlines),
            "stream_gaps": _gaps_json(self.gaps),
            "modes": _modes_json(self.modes),
            "period": self.spike.to_json() if self.spike else None,
            "periods_scanned_ms": [limit / NS_PER_MS for limit in self.scanned] if self.scanned else None,
            "histogram": _histogram_json(self.histogram),
        }


@dataclass(frozen=True, slots=True)
class Jitter:
    """The answer, groups with the largest p99 − p50 first; `requests` are the requests as wholes, None without any.

    Measures of order come from the window `in_order`: all of it, or its end where there are too many spans.
    `accuracy` is how far quantiles may lie off, as a share of them: 0 where they are exact.
    """

    window: Window
    filters: Filters
    deadline_ms: float | None
    requests: JitterRow | None
    rows: tuple[JitterRow, ...]
    in_order: Window
    accuracy: float
    weighted: bool
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/jitter.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "deadline_ms": self.deadline_ms,
            "in_order": self.in_order.to_json(),
            "accuracy": self.accuracy,
            "weighted": self.weighted,
            "requests": self.requests.to_json() if self.requests else None,
            "rows": [row.to_json() for row in self.rows],
            "data": self.data.to_json() if self.data else None,
        }


def jitter(store: Store, window: Window, filters: Filters = NO_FILTERS, deadline_ms: float | None = None) -> Jitter:
    """Measure how much the spans that start in the window vary, per stage and hardware, and the requests as wholes.

    `deadline_ms` is a deadline for every request, in the place of those that requests have themselves. Raises
    NoSpansError where no span matches, NotEnoughDataError where no group has LEAST_EVENTS.
    """
    if deadline_ms is not None and not 0 < deadline_ms < float("inf"):
        raise QuestionError(f"a deadline of {deadline_ms:g} ms is none: use a number of milliseconds above 0")
    extent = fetch_extent(store, window, filters)
    if not extent.groups:
        raise NoSpansError(f"no spans in {describe(window, filters)}")
    most = max(extent.stored.values())
    if most < LEAST_EVENTS:
        raise NotEnoughDataError(
            f"{most} spans of one stage in {describe(window, filters)} are too few to vary: "
            f"{LEAST_EVENTS - most} more are needed",
            LEAST_EVENTS - most,
        )
    parameters = request_parameters(store, window, filters)
    weighted = bool(parameters["weighted"])
    found = fetch_jitter(store, parameters, window, filters, extent)
    no_events = _none_of(found.requests)
    rows = [
        _row(
            {"stage": stage, "hardware": hardware}, cells, found.spans.get((stage, hardware), no_events), None, weighted
        )
        for (stage, hardware), cells in found.span_cells.items()
    ]
    requests = None
    if found.request_cells is not None:
        requests = _row({}, found.request_cells, found.requests, deadline_ms, weighted)
    events: dict[Group, Events] = found.spans
    scanned = _scanned(
        [(requests, found.requests, found.request_cells)] if requests and found.request_cells else [],
        [(row, events.get(_key(row), no_events), found.span_cells[_key(row)]) for row in rows],
    )
    if requests is not None:
        requests, *scanned = scanned
    rows = sorted(scanned, key=lambda row: (-row.spread.above_median.value, tuple(row.group.values())))
    data = data_quality(
        store,
        parameters,
        stored=0 if requests is None else requests.stored or requests.count,
        estimated=0 if requests is None else requests.count,
    )
    return Jitter(window, filters, deadline_ms, requests, tuple(rows), found.in_order, found.accuracy, weighted, data)


def _key(row: JitterRow) -> Group:
    return row.group["stage"], row.group["hardware"]


def _none_of(events: Events) -> Events:
    empty = np.zeros(0, dtype=np.bool_)
    names = ("stream", "start_ns", "duration_ns", "weight", "deadline_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms")
    return Events(*(getattr(events, name)[:0][empty] for name in names))


def _row(
    group: Mapping[str, str], cells: Cells, events: Events, deadline_ms: float | None, weighted: bool
) -> JitterRow:
    """Everything but modes and periods."""
    stored = int(cells.count.sum())
    spread = dispersion(cells)
    p50_interval, p99_interval = quantile_intervals(cells, (0.5, 0.99), (spread.p50, spread.p99))
    return JitterRow(
        group=group,
        count=round(float(cells.weight.sum())),
        stored=stored if weighted else None,
        spread=spread,
        # of requests that were sampled, those between two that are stored are not known
        interarrival=None if weighted else interarrival(events),
        deadlines=deadlines(events, deadline_ms, sampled=weighted),
        gaps=gaps(events),
        modes=None,
        spike=None,
        scanned=None,
        p50_interval=p50_interval,
        p99_interval=p99_interval,
    )


def _bounds_ms(bounds: Interval | None) -> list[float | None] | None:
    if bounds is None:
        return None
    return [end if end is None else end / NS_PER_MS for end in (bounds.low, bounds.high)]


def _scanned(
    requests: list[tuple[JitterRow, Events, Cells]], rows: list[tuple[JitterRow, Events, Cells]]
) -> list[JitterRow]:
    """Look for modes and periods in the groups with the most time; p-values corrected for as many as were tested."""
    time = [row.count * row.spread.mean for row, _, _ in rows]
    chosen = set(np.argsort(-np.array(time), kind="stable")[:MOST_SCANNED].tolist())
    asked = [(entry, True) for entry in requests] + [(entry, at in chosen) for at, entry in enumerate(rows)]
    tests = sum(wanted for _, wanted in asked)
    result = []
    for (row, events, cells), wanted in asked:
        if not wanted:
            result.append(row)
            continue
        spike, limits = _spike(row, events, tests)
        found = _modes(row, cells, events, tests)
        result.append(replace(row, modes=found, spike=spike, scanned=limits, histogram=histogram(cells)))
    return result


def _modes(row: JitterRow, cells: Cells, events: Events, tests: int) -> Modes | None:
    exact = not cells.width.any()
    if exact:
        counted = modes.cells_of(events.duration_ns, events.weight)
    else:
        edges, at = np.unique(cells.value, return_inverse=True)
        widths = np.zeros(len(edges))
        widths[at] = cells.width
        weights = np.bincount(at, weights=cells.weight).astype(np.float64)
        counted = modes.Cells(edges, edges + widths, weights, row.spread.independent)
    found = find_modes(replace(counted, effective=row.spread.independent))
    if found is None or len(found.modes) == 1:
        return found
    p_value = min(1.0, found.p_value * tests)
    if p_value > modes.SIGNIFICANCE:
        highest = max(found.modes, key=lambda mode: mode.share)
        return Modes(p_value, (replace(highest, share=1.0),), (), ())
    return replace(found, p_value=p_value)


def _spike(row: JitterRow, events: Events, tests: int) -> tuple[Spike | None, tuple[float, float] | None]:
    latest = slice(max(0, len(events) - MOST_SCANNED_EVENTS), None)
    weight = None if row.stored is None else events.weight[latest]
    scan = find_period(events.start_ns[latest], events.duration_ns[latest], weight)
    if scan is None:
        return None, None
    limits = (scan.shortest_ns, scan.longest_ns)
    if scan.period is None or scan.period.p_value * tests > periodicity.SIGNIFICANCE:
        return None, limits
    period = replace(scan.period, p_value=min(1.0, scan.period.p_value * tests))
    start_ns = events.start_ns[latest]
    first_ns = int(start_ns[0]) + round(period.phase_ns)
    phases = slow_by_phase(
        start_ns,
        events.duration_ns[latest],
        events.weight[latest],
        period_ns=period.period_ns,
        middle_ns=period.phase_ns,
        slow_share=period.slow_share,
    )
    return Spike(period, first_ns, phases), limits


# --- plain data -------------------------------------------------------------------------------------------------------


def _interval(figure: Bounded, unit: float) -> list[float | None]:
    return [None if bound is None else bound / unit for bound in (figure.low, figure.high)]


def _deadlines_json(found: Deadlines | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "count": round(found.count),
        "missed": round(found.missed),
        "miss_rate": found.rate,
        "longest_streak": found.streak,
        "streak_from": None if found.streak_from_ns is None else iso(found.streak_from_ns),
        "streak_from_ns": found.streak_from_ns,
    }


def _gaps_json(found: Gaps | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"streams": found.streams, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms, "max_ms": found.max_ms}


def _histogram_json(found: Histogram | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"edges_ms": [edge / NS_PER_MS for edge in found.edges], "shares": list(found.shares)}


def _modes_json(found: Modes | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "p_value": found.p_value,
        "at": [{"ms": mode.at / NS_PER_MS, "share": mode.share} for mode in found.modes],
        "gaps": [
            {"ms": gap / NS_PER_MS, "share_above": share}
            for gap, share in zip(found.gaps, found.share_above, strict=True)
        ],
    }
