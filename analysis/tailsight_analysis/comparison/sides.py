"""The two sides of a comparison: where each looks, and its requests fetched and taken apart by the same places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.comparison.asked import Asked, fetch_asked, fetch_keys, number_keys, text_keys
from tailsight_analysis.comparison.calls import Place, answered_by, relabel, seen_calls, unanswered
from tailsight_analysis.comparison.mix import Requests
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Ints, parents
from tailsight_analysis.requests.critical_path import Sections, critical_paths
from tailsight_analysis.requests.sample import Cuts, Sample, fetch_sample
from tailsight_analysis.scope import NO_FILTERS, Filters, Window, describe
from tailsight_storage import Store

LEAST_REQUESTS = 100  # of a side: one lies beyond its p99
MOST_PLACES = 400  # the rest of a service's operations are one place
OTHERS = "(other operations)"
_BY = ("service", "name", "stage", "hardware", "model")


@dataclass(frozen=True, slots=True)
class Side:
    """Which requests are one side of a comparison."""

    window: Window
    filters: Filters = NO_FILTERS


@dataclass(frozen=True, slots=True)
class Fetched:
    """One side as it was fetched: its sample, what holds up its requests, and how many requests there are."""

    sample: Sample
    parent: Ints
    sections: Sections
    bound: Mapping[str, Any]
    requests: int
    weighted: bool

    @property
    def place(self) -> tuple[Ints, list[Place]]:
        """Each span's place, and the places; groups that differ by model only are one."""
        numbers: dict[Place, int] = {}
        codes = [numbers.setdefault(Place(*group[:4]), len(numbers)) for group in self.sample.groups]
        return np.array(codes, dtype=np.int64)[self.sample.group], list(numbers)


def fetch_side(store: Store, side: Side, name: str) -> Fetched:
    """Fetch a sample of a side's requests, of all alike. `name` is what errors call it.

    Raises NoSpansError where there are none, NotEnoughDataError below LEAST_REQUESTS.
    """
    parameters = request_parameters(store, side.window, side.filters)
    stored = int(store.ask(query("request_count"), **parameters)[0]["requests"])
    if stored == 0:
        raise NoSpansError(f"{name}: no requests in {describe(side.window, side.filters)}")
    if stored < LEAST_REQUESTS:
        missing = LEAST_REQUESTS - stored
        raise NotEnoughDataError(
            f"{name}: {stored} requests in {describe(side.window, side.filters)} are too few to compare p99: "
            f"{missing} more are needed",
            missing,
        )
    cuts = Cuts(stored)
    sample = fetch_sample(store, parameters, _BY, cuts)
    parent = parents(sample.spans)
    sections = critical_paths(sample.spans, parent, sample.entry)
    return Fetched(sample, parent, sections, parameters | cuts.parameters(), stored, bool(parameters["weighted"]))


def same_places(store: Store, baseline: Fetched, candidate: Fetched) -> tuple[Requests, Requests, list[Place]]:
    """Take both sides' requests apart by the same places, with what they were asked."""
    sides = (baseline, candidate)
    labelled = [side.place for side in sides]
    answers = [answered_by(side.sample.spans, side.parent, *place) for side, place in zip(sides, labelled, strict=True)]
    known = [seen_calls(answer, *place) for answer, place in zip(answers, labelled, strict=True)]
    targets = {
        (str(row["service"]), str(row["name"])): str(row["callee"])
        for side, answer in zip(sides, answers, strict=True)
        if unanswered(side.sample.spans, side.parent, answer).any()
        for row in store.ask(query("compare_targets"), **side.bound)
    }
    calls = known[0] | known[1]
    moved = [
        relabel(side.sample.spans, side.parent, *place, known=calls, targets=targets)
        for side, place in zip(sides, labelled, strict=True)
    ]
    places = _most_important(sides, moved)
    asked = _asked(store, sides)
    requests = [
        _requests(side, place, names, places, each)
        for side, (place, names), each in zip(sides, moved, asked, strict=True)
    ]
    return requests[0], requests[1], list(places)


def _most_important(sides: Sequence[Fetched], moved: Sequence[tuple[Ints, Sequence[Place]]]) -> dict[Place, int]:
    """Choose the places that took the most time on both sides, and one for what else each service did."""
    time_ns: Counter[Place] = Counter()
    for side, (place, names) in zip(sides, moved, strict=True):
        sums = np.bincount(place[side.sections.span], weights=side.sections.duration_ns, minlength=len(names))
        per_request = sums / max(1, len(side.sample.entry))
        for name, each in zip(names, per_request.tolist(), strict=True):
            time_ns[name] += each
    ordered = sorted(time_ns, key=lambda name: (-time_ns[name], name))
    ordered = [name for name in ordered if time_ns[name] > 0] or ordered[:1]
    kept = ordered[:MOST_PLACES] + [_other(name) for name in ordered[MOST_PLACES:]]
    return {name: code for code, name in enumerate(dict.fromkeys(kept))}


def _other(place: Place) -> Place:
    return Place(place.service, OTHERS, place.stage, place.hardware)


def _requests(
    side: Fetched, place: Ints, names: Sequence[Place], places: Mapping[Place, int], asked: Asked
) -> Requests:
    column = np.array([places.get(name, places.get(_other(name), -1)) for name in names], dtype=np.int64)
    requests, count = len(side.sample.entry), len(places)
    sections = side.sections
    of_section = column[place[sections.span]]
    cell = sections.request * count + of_section
    contribution = np.bincount(cell, weights=sections.duration_ns, minlength=requests * count)
    # a span may hold a request up several times, and is one visit
    first = np.unique(sections.request * len(side.sample.spans) + sections.span, return_index=True)[1]
    visits = np.bincount(cell[first], minlength=requests * count)
    return Requests(
        start_ns=side.sample.spans.start_ns[side.sample.entry],
        duration_ns=side.sample.spans.duration_ns[side.sample.entry],
        weight=side.sample.weight,
        contribution_ns=contribution.reshape(requests, count).astype(np.float64),
        visits=visits.reshape(requests, count).astype(np.float64),
        asked=asked,
    )


def _asked(store: Store, sides: Sequence[Fetched]) -> list[Asked]:
    """Fetch what the requests of both sides were asked, by the same keys."""
    rows = [fetch_keys(store, side.bound, len(side.sample.entry)) for side in sides]
    together = [row for each in rows for row in each]
    numbers = number_keys(together)
    texts = text_keys(together, numbers)
    found = []
    for side in sides:
        fetched = fetch_asked(store, side.bound, texts, numbers, side.sample.trace_ids)
        sample = side.sample
        entry_groups = [sample.groups[code] for code in sample.group[sample.entry].tolist()]
        own = {
            "operation": np.array([f"{service} {name}" for service, name, *_ in entry_groups], dtype=object),
            "model": _models(sample),
        }
        found.append(Asked(own | dict(fetched.texts), fetched.numbers))
    return found


def _models(sample: Sample) -> Any:
    """Find the models that each request's trace names."""
    names = np.array([group[4] for group in sample.groups], dtype=object)
    distinct, code = np.unique(names.astype(str), return_inverse=True)
    of_span = np.ravel(code)[sample.group]
    named = np.flatnonzero(distinct[of_span] != "")
    pairs = np.unique(np.stack((sample.spans.trace[named], of_span[named]), axis=1), axis=0)
    of_trace: dict[int, str] = {}
    for trace, model in pairs.tolist():
        of_trace[trace] = f"{of_trace[trace]}, {distinct[model]}" if trace in of_trace else str(distinct[model])
    return np.array([of_trace.get(trace, "") for trace in sample.spans.trace[sample.entry].tolist()], dtype=object)
