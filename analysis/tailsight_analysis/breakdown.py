"""How long does each group of spans take, and what share of the requests is it? See docs/analysis/breakdown.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.accounting import parents, self_times, times_enclosed
from tailsight_analysis.errors import NoSpansError, QuestionError
from tailsight_analysis.latency import LatencySummary, latency_fields
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.response import ResponseTimes, response_times
from tailsight_analysis.sample import Cuts, fetch_sample
from tailsight_analysis.scope import NO_FILTERS, Filters, Window, describe, scope_parameters
from tailsight_storage import Store

DIMENSIONS = ("stage", "hardware", "service", "version", "model", "region", "host", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakdownRow(LatencySummary):
    """One group of spans. `group` has a value for each dimension asked for ('' where a span has none).

    `self_share` is the group's self time as a share of the requests' durations; None where no request was found.
    """

    group: dict[str, str]
    self_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data: the dimensions, then the figures."""
        # not super(): dataclasses with slots are made anew, and lose the reference that it needs
        return {**self.group, **LatencySummary.to_json(self), "self_share": self.self_share}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The answer, groups with the most self time first. `requests` sums up the requests as wholes.

    `sampled_requests` is how many of the stored requests were accounted span by span, for `self_share`. `weighted` says
    whether stored requests stand for others that were not kept: figures are estimates then. `response` has the requests
    that say when they should have started.
    """

    window: Window
    filters: Filters
    by: tuple[str, ...]
    requests: LatencySummary | None
    rows: tuple[BreakdownRow, ...]
    sampled_requests: int
    weighted: bool = False
    response: ResponseTimes | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/breakdown.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "by": list(self.by),
            "requests": self.requests.to_json() if self.requests else None,
            "sampled_requests": self.sampled_requests,
            "weighted": self.weighted,
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
    question = query("breakdown_weighted" if weighted else "breakdown")
    found = store.ask(question, **scope_parameters(window, filters), by=list(dimensions))
    if not found:
        raise NoSpansError(f"no spans in {describe(window, filters)}")
    requests = request_summary(store, parameters, quantile=0.99)
    shares: dict[tuple[str, ...], float] = {}
    sampled = 0
    summary, response = None, None
    if requests is not None:
        summary = LatencySummary(**latency_fields(requests, "requests"))
        shares, sampled = _self_shares(store, parameters, dimensions, summary.stored_count)
        response = response_times(store, parameters)
    rows = []
    for row in found:
        group = tuple(str(row[f"by_{name}"]) for name in dimensions)
        share = shares.get(group, 0.0) if sampled else None
        rows.append(
            BreakdownRow(
                group=dict(zip(dimensions, group, strict=True)), self_share=share, **latency_fields(row, "spans")
            )
        )
    rows.sort(key=lambda row: (-(row.self_share or 0.0), tuple(row.group.values())))
    return Breakdown(window, filters, dimensions, summary, tuple(rows), sampled, weighted, response)


def request_summary(store: Store, parameters: dict[str, Any], quantile: float) -> dict[str, Any] | None:
    """Return sql/request_summary.sql's row, or its weighted counterpart's; None without requests.

    `parameters` are those of sql/requests.sql.
    """
    if parameters["weighted"]:
        return next(iter(store.ask(query("request_summary_weighted"), **parameters, quantile=quantile)), None)
    row = store.ask(query("request_summary"), **parameters, quantile=quantile)[0]
    return row if row["requests"] else None


def _self_shares(
    store: Store, parameters: dict[str, Any], by: Sequence[str], requests: int
) -> tuple[dict[tuple[str, ...], float], int]:
    """Self time of each group as a share of the sampled requests' durations, and how many requests that are."""
    sample = fetch_sample(store, parameters, by, Cuts(requests))
    total_ns = float(sample.weight @ sample.spans.duration_ns[sample.entry])
    if not total_ns:
        return {}, 0
    parent = parents(sample.spans)
    chosen = np.zeros(len(sample.spans))
    chosen[sample.entry] = sample.weight
    counted = times_enclosed(parent, chosen) * sample.matches
    sums_ns = np.bincount(
        sample.group, weights=self_times(sample.spans, parent) * counted, minlength=len(sample.groups)
    )
    shares = {name: float(sum_ns) / total_ns for name, sum_ns in zip(sample.groups, sums_ns, strict=True)}
    return shares, len(sample.entry)


def _checked(by: Sequence[str]) -> tuple[str, ...]:
    dimensions = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown or not dimensions:
        raise QuestionError(f"cannot break down by {', '.join(unknown) or 'nothing'}: use {', '.join(DIMENSIONS)}")
    return dimensions
