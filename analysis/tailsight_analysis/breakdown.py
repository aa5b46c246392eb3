"""How long does each group of spans take, and what share of the requests is it? See docs/analysis/breakdown.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.confidence import Scale, request_intervals, span_intervals
from tailsight_analysis.errors import NoSpansError, QuestionError
from tailsight_analysis.latency import LatencySummary, latency_fields
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Floats, self_times, times_enclosed
from tailsight_analysis.requests.ledger import Ledger, ledger_of
from tailsight_analysis.requests.sample import Cuts, fetch_sample
from tailsight_analysis.response import ResponseTimes, response_times
from tailsight_analysis.scope import NO_FILTERS, Filters, Window, describe, scope_parameters
from tailsight_storage import Store

SHARES_FROM = 10_000  # requests: so many make a share certain to half a per cent
DIMENSIONS = ("stage", "hardware", "service", "name", "version", "model", "region", "host", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakdownRow(LatencySummary):
    """One group of spans. `group` has a value for each dimension asked for ('' where a span has none).

    `path_share` is how much of the requests' critical paths the group's spans are: over all groups they add up to 1.
    `self_share` is the group's self time as a share of the requests' durations. None where no request was found.
    """

    group: dict[str, str]
    self_share: float | None
    path_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data: the dimensions, then the figures."""
        # not super(): dataclasses with slots are made anew, and lose the reference that it needs
        shares = {"path_share": self.path_share, "self_share": self.self_share}
        return {**self.group, **LatencySummary.to_json(self), **shares}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The answer, groups with the greatest share first. `requests` sums up the requests as wholes.

    `sampled_requests` is how many of the stored requests were accounted span by span, for the shares. `weighted` says
    whether stored requests stand for others that were not kept: figures are estimates then. `response` has the requests
    that say when they should have started. `interval_accuracy` is how far the ends of intervals may lie off, as a share
    of them. `data` says what is not in the answer.
    """

    window: Window
    filters: Filters
    by: tuple[str, ...]
    requests: LatencySummary | None
    rows: tuple[BreakdownRow, ...]
    sampled_requests: int
    weighted: bool = False
    response: ResponseTimes | None = None
    interval_accuracy: float = 0.0
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/breakdown.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "by": list(self.by),
            "requests": self.requests.to_json() if self.requests else None,
            "sampled_requests": self.sampled_requests,
            "weighted": self.weighted,
            "interval_accuracy": self.interval_accuracy,
            "data": self.data.to_json() if self.data else None,
            "response": self.response.to_json() if self.response else None,
            "rows": [row.to_json() for row in self.rows],
        }


def breakdown(store: Store, window: Window, filters: Filters = NO_FILTERS, by: Sequence[str] = ("stage",)) -> Breakdown:
    """Break the spans that start in the window down by one or more of DIMENSIONS.

    Raises NoSpansError where no span matches.
    """
    dimensions = _checked(by)
    parameters = request_parameters(store, window, filters)
    weighted = bool(parameters["weighted"])
    of_spans = {**scope_parameters(window, filters), "by": list(dimensions)}
    answered = store.ask(query("breakdown_weighted" if weighted else "breakdown"), **of_spans)
    if not answered:
        raise NoSpansError(f"no spans in {describe(window, filters)}")
    found = {tuple(str(row[f"by_{name}"]) for name in dimensions): row for row in answered}
    spans = sum(int(row["stored" if weighted else "spans"]) for row in answered)
    scale = Scale.of(
        spans, len(found), min(int(row["first_ns"]) for row in answered), max(int(row["last_ns"]) for row in answered)
    )
    intervals = span_intervals(store, {**of_spans, "weighted": weighted}, scale, found)

    summary, response = None, None
    shares = _Shares(0, {}, {})
    if (requests := _request_latency(store, parameters)) is not None:
        fields = latency_fields(requests, "requests")
        stored = LatencySummary(**fields).stored_count
        fields["intervals"] = request_intervals(store, parameters, scale, requests["quantiles_ns"], stored)
        summary = LatencySummary(**fields)
        shares = _shares(ledger_of(fetch_sample(store, parameters, dimensions, Cuts(stored, at_most=SHARES_FROM))))
        response = response_times(store, parameters, scale)
    rows = [
        BreakdownRow(
            group=dict(zip(dimensions, group, strict=True)),
            self_share=shares.of_self.get(group, 0.0) if shares.requests else None,
            path_share=shares.of_path.get(group, 0.0) if shares.requests else None,
            intervals=intervals[group],
            **latency_fields(row, "spans"),
        )
        for group, row in found.items()
    ]
    rows.sort(key=lambda row: (-(row.path_share or 0.0), -(row.self_share or 0.0), tuple(row.group.values())))
    data = data_quality(
        store,
        parameters,
        stored=summary.stored_count if summary else 0,
        estimated=summary.count if summary else 0,
    )
    return Breakdown(
        window, filters, dimensions, summary, tuple(rows), shares.requests, weighted, response, scale.accuracy, data
    )


def request_summary(store: Store, parameters: dict[str, Any], quantile: float) -> dict[str, Any] | None:
    """Return sql/request_summary.sql's row, or its weighted counterpart's; None without requests.

    `parameters` are those of sql/requests.sql.
    """
    if parameters["weighted"]:
        return next(iter(store.ask(query("request_summary_weighted"), **parameters, quantile=quantile)), None)
    row = store.ask(query("request_summary"), **parameters, quantile=quantile)[0]
    return row if row["requests"] else None


def _request_latency(store: Store, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """As `request_summary`, without what takes a class of requests apart from the others."""
    if parameters["weighted"]:
        return request_summary(store, parameters, quantile=0.99)
    row = store.ask(query("request_latency"), **parameters)[0]
    return row if row["requests"] else None


@dataclass(frozen=True, slots=True)
class _Shares:
    """What share of the sampled requests' durations each group is, by critical path and by self time."""

    requests: int
    of_path: dict[tuple[str, ...], float]
    of_self: dict[tuple[str, ...], float]


def _shares(ledger: Ledger) -> _Shares:
    """Of each group, those spans count that match the filters themselves."""
    sample, sections = ledger.sample, ledger.sections
    total_ns = float(ledger.weight @ ledger.duration_ns)
    if not total_ns:
        return _Shares(0, {}, {})

    def by_group(group: Any, weights: Floats) -> dict[tuple[str, ...], float]:
        sums_ns = np.bincount(group, weights=weights, minlength=len(sample.groups))
        return {name: float(sum_ns) / total_ns for name, sum_ns in zip(sample.groups, sums_ns, strict=True)}

    on_path = sections.duration_ns * ledger.weight[sections.request] * sample.matches[sections.span]
    chosen = np.zeros(len(sample.spans))
    chosen[ledger.entry] = ledger.weight
    counted = times_enclosed(ledger.parent, chosen) * sample.matches
    return _Shares(
        len(ledger),
        by_group(sample.group[sections.span], on_path),
        by_group(sample.group, self_times(sample.spans, ledger.parent) * counted),
    )


def _checked(by: Sequence[str]) -> tuple[str, ...]:
    dimensions = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown or not dimensions:
        raise QuestionError(f"cannot break down by {', '.join(unknown) or 'nothing'}: use {', '.join(DIMENSIONS)}")
    return dimensions
