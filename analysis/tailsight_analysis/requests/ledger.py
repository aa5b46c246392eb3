"""Sampled requests as rows: how long each took, and on what, along its critical path. Most questions start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Bools, Floats, Ints, parents
from tailsight_analysis.requests.critical_path import Sections, critical_paths
from tailsight_analysis.requests.sample import Cuts, Sample, fetch_sample
from tailsight_storage import Store


@dataclass(frozen=True, slots=True)
class Ledger:
    """Requests, an entry each, in no order that means anything.

    `weight` is for how many requests one stands, 1 where the SDK kept all. `in_tail` and `in_typical` are the classes
    of the question's cuts; without any, all are in the tail. `contribution_ns` has a row a request and a column for
    each of `groups`: for how many nanoseconds of its critical path spans of the group held it up; each row adds up to
    `duration_ns`. With groups by stage, the group `("",)` is unaccounted. `entry` is the row of the entry span in
    `sample.spans`.
    """

    start_ns: Ints
    duration_ns: Ints
    weight: Floats
    in_tail: Bools
    in_typical: Bools
    trace_ids: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    contribution_ns: Floats
    entry: Ints
    sample: Sample
    parent: Ints
    sections: Sections

    def __len__(self) -> int:
        return len(self.duration_ns)


def fetch_ledger(
    store: Store, parameters: dict[str, Any], by: Sequence[str] = ("stage",), cuts: Cuts | None = None
) -> Ledger:
    """Fetch a sample of requests and account for their time, by one or more of DIMENSIONS.

    `parameters` are those of sql/requests.sql (`reading.request_parameters`). Without `cuts`, all requests are alike,
    and as many as MAX_REQUESTS are fetched.
    """
    if cuts is None:
        cuts = Cuts(int(store.ask(query("request_count"), **parameters)[0]["requests"]))
    return ledger_of(fetch_sample(store, parameters, by, cuts))


def ledger_of(sample: Sample) -> Ledger:
    """Account for the time of sampled requests."""
    parent = parents(sample.spans)
    sections = critical_paths(sample.spans, parent, sample.entry)
    requests, groups = len(sample.entry), len(sample.groups)
    cell = sections.request * groups + sample.group[sections.span]
    sums: Floats = np.bincount(cell, weights=sections.duration_ns, minlength=requests * groups).astype(np.float64)
    return Ledger(
        start_ns=sample.spans.start_ns[sample.entry],
        duration_ns=sample.spans.duration_ns[sample.entry],
        weight=sample.weight,
        in_tail=sample.in_tail,
        in_typical=sample.in_typical,
        trace_ids=sample.trace_ids,
        groups=sample.groups,
        contribution_ns=sums.reshape(requests, groups),
        entry=sample.entry,
        sample=sample,
        parent=parent,
        sections=sections,
    )
