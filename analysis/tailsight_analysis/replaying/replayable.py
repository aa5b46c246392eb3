"""Fetch requests to be replayed: those around a quantile most of all, with whose work their spans are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.breakdown import request_summary
from tailsight_analysis.queries import query
from tailsight_analysis.replaying.stage_work import NO_STAGE, Kinds, StageWork, stage_work
from tailsight_analysis.requests.accounting import Floats, Ints, parents
from tailsight_analysis.requests.sample import MAX_REQUESTS, Cuts, Sample, fetch_sample
from tailsight_analysis.statistics.blocks import DRAWN_BLOCKS
from tailsight_analysis.statistics.paired import Population
from tailsight_storage import Store

_TAIL_STRATUM = 5  # times the share of requests beyond the quantile: these are sampled most


@dataclass(frozen=True, slots=True)
class Replayable:
    """Sampled requests with all that a scenario needs: who they stand for, and whose work their spans are."""

    sample: Sample
    parent: Ints
    population: Population
    work: StageWork
    stages: tuple[str, ...]
    kinds: Kinds | None
    hardware: tuple[str, ...]

    @property
    def recorded_ns(self) -> Floats:
        """Durations of the requests, in nanoseconds."""
        return self.sample.spans.duration_ns[self.sample.entry].astype(np.float64)

    def busiest(self, most: int) -> tuple[str, ...]:
        """So many stages of the requests, those with the most work."""
        totals = self.work.totals_ns(len(self.stages))
        order = sorted(np.flatnonzero(totals > 0).tolist(), key=lambda code: (-totals[code], self.stages[code]))
        return tuple(self.stages[code] for code in order[:most])

    def kinds_on(self, hardware: str | None) -> tuple[Kinds, int]:
        """Kinds of work, and the code of a hardware type."""
        if self.kinds is None:
            raise ValueError("what makes work comparable was not fetched: ask for it with with_kinds")
        return self.kinds, self.hardware.index(hardware or "")

    def codes(self, stages: Sequence[str]) -> list[int]:
        """Codes of stages; those that no span has are left out."""
        return [self.stages.index(name) for name in stages if name in self.stages]


def strata(
    store: Store, parameters: dict[str, Any], summary: dict[str, Any], quantile: float, stored: int
) -> tuple[Cuts, list[float], list[float]]:
    """Decide which requests to sample, all alike or the slow ones apart; with each stratum's weight and size.

    They are apart where there are very many, for the quantile rests on the few around it: of the slow stratum one in
    five is beyond it.
    """
    weight = float(summary["estimated"]) if parameters["weighted"] else float(stored)
    if stored <= MAX_REQUESTS:
        return Cuts(stored), [weight], [stored]
    split = request_summary(store, parameters, max(0.5, 1 - _TAIL_STRATUM * (1 - quantile))) or summary
    cut = int(split["cuts_ns"][0])
    slow = int(split["stored_tail"]) if parameters["weighted"] else int(split["tail_requests"])
    slow_weight = float(split["tail_requests"])
    if cut <= 0 or slow >= stored:
        return Cuts(stored), [weight], [stored]
    return Cuts(slow, cut, stored - slow, 0, cut - 1), [slow_weight, weight - slow_weight], [slow, stored - slow]


def fetch_replayable(
    store: Store,
    parameters: dict[str, Any],
    cuts: Cuts,
    weights: Sequence[float],
    sizes: Sequence[float],
    *,
    with_kinds: bool,
) -> Replayable:
    """Fetch sampled requests; `weights` and `sizes` are what each stratum of the cuts stands for, and has.

    `with_kinds`: also what makes units of work comparable, which has to be read from the attributes.
    """
    dimensions = ("stage", "service", "hardware", "model")
    sample = fetch_sample(store, parameters, dimensions, cuts)
    (stages, stage), (_, service), (hardware, hardware_of), (_, model) = (
        _column(sample, place) for place in range(len(dimensions))
    )
    stage = np.where(np.array([*stages, ""])[stage] == "", NO_STAGE, stage)
    parent = parents(sample.spans)
    stratum = np.where(sample.in_tail, 0, 1)
    kept = np.bincount(stratum, sample.weight, minlength=len(weights))
    weight = sample.weight * (np.asarray(weights) / np.maximum(kept, 1e-300))[stratum]
    work = stage_work(sample.spans, parent, stage, service, sample.entry, weight)
    kinds = None
    if with_kinds:
        batch = _batch_bins(store, parameters | cuts.parameters(), sample, work)
        kinds = Kinds(model * (batch.max(initial=0) + 1) + batch, hardware_of)
    population = Population(weight, stratum, _stretches(sample), np.asarray(sizes, dtype=np.float64))
    return Replayable(sample, parent, population, work, stages, kinds, hardware)


def _stretches(sample: Sample) -> Ints:
    """Divide time into stretches with as many traces in each: the number of that in which each one began."""
    _, trace = np.unique(sample.spans.trace[sample.entry], return_inverse=True)
    first = np.full(int(trace.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, trace, sample.spans.start_ns[sample.entry])
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first)) * DRAWN_BLOCKS // max(1, len(first))
    return place[trace]


def _column(sample: Sample, place: int) -> tuple[tuple[str, ...], Ints]:
    """Distinct values of one of the dimensions that the sample was grouped by, and their codes, a span each."""
    names = np.array([group[place] for group in sample.groups], dtype=np.object_)
    distinct, code = np.unique(names, return_inverse=True)
    return tuple(distinct.tolist()), code.astype(np.int64)[sample.group]


def _batch_bins(store: Store, bound: dict[str, Any], sample: Sample, work: StageWork) -> Ints:
    """Bin of the batch size of each span's unit, by powers of two: 0 is unknown, 1 is 1, 2 is 2 and 3, 3 is 4 to 7."""
    spans = sample.spans
    trace_of = dict(zip(sample.trace_ids, spans.trace[sample.entry].tolist(), strict=True))
    columns = store.columns(query("batch_sizes"), **bound)
    rows = zip(*(columns.get(name, ()) for name in ("trace", "span", "batch_size")), strict=True)
    sizes = {(trace_of.get(str(trace)), int(span)): float(size) for trace, span, size in rows}
    keys = zip(spans.trace.tolist(), spans.span_id.tolist(), strict=True)
    size = np.fromiter((sizes.get(key, 0.0) for key in keys), dtype=np.float64, count=len(spans))
    largest = np.zeros(len(spans))
    np.maximum.at(largest, work.unit, size)
    largest = np.clip(largest[work.unit], 0, 2.0**60)
    return np.where(largest > 0, np.floor(np.log2(np.maximum(largest, 1))) + 1, 0).astype(np.int64)
