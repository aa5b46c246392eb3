"""Who is to blame for the time of a call? Time between a caller's span and the callee's belongs to the way there.

A call is a span by which one service asks another: its self time is what passed between leaving the caller and the
callee's own span, and back: the network, and whatever the callee did before it began to record. So that time is the
link's, and stands under the *callee's* service with the stage `network`. See docs/analysis/compare.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.requests.accounting import Bools, Ints, Spans

NETWORK = "network"
CALLER_HALF = 0


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where time was spent: an operation of a service, its stage, and on which hardware; "" where unknown."""

    service: str
    name: str
    stage: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Calls:
    """What calls of a place led to: how often which callee answered, by (caller's service, name of the call)."""

    answered: Mapping[tuple[str, str], Counter[Place]]

    def __or__(self, other: Calls) -> Calls:
        """Add up what was seen on either side."""
        both: defaultdict[tuple[str, str], Counter[Place]] = defaultdict(Counter)
        for calls in (self, other):
            for key, counts in calls.answered.items():
                both[key].update(counts)
        return Calls(both)

    def callee(self, caller: Place) -> Place | None:
        """Find the callee that most calls of this kind reached."""
        counts = self.answered.get((caller.service, caller.name))
        return min(counts, key=lambda place: (-counts[place], place)) if counts else None


def answered_by(spans: Spans, parent: Ints, place: Ints, places: Sequence[Place]) -> Ints:
    """Row of the span in another service that answered each call; −1 for spans that are no call.

    A span is a call where a child ran in another service and it was made for that: its kind says so (CLIENT, PRODUCER),
    its stage is `network`, or it bears the name of what it asked for. A span with another stage is work, not a call.
    """
    child = np.flatnonzero((parent >= 0) & spans.blocks)  # who only publishes a message does not wait for its reader
    above = parent[child]
    pair = place[above] * len(places) + place[child]
    distinct, inverse = np.unique(pair, return_inverse=True)
    verdicts = [_asks(places[code // len(places)], places[code % len(places)]) for code in distinct.tolist()]
    crosses = np.array([crossing for crossing, _ in verdicts], dtype=np.bool_)[inverse]
    named = np.array([says for _, says in verdicts], dtype=np.bool_)[inverse]
    chosen = crosses & (named | (spans.half[above] == CALLER_HALF))
    result = np.full(len(spans), -1, dtype=np.int64)
    order = np.argsort(spans.duration_ns[child[chosen]], kind="stable")  # of several answers, the longest
    result[above[chosen][order]] = child[chosen][order]
    return result


def seen_calls(answer: Ints, place: Ints, places: Sequence[Place]) -> Calls:
    """Count which callees answered which calls."""
    asked = np.flatnonzero(answer >= 0)
    pairs, counts = np.unique(place[asked] * len(places) + place[answer[asked]], return_counts=True)
    answered: defaultdict[tuple[str, str], Counter[Place]] = defaultdict(Counter)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        caller, callee = places[pair // len(places)], places[pair % len(places)]
        answered[caller.service, caller.name][callee] += count
    return Calls(answered)


def unanswered(spans: Spans, parent: Ints, answer: Ints) -> Bools:
    """Say which spans ask somebody who recorded nothing: of a kind that asks, without an answer, without children."""
    is_leaf = np.ones(len(spans), dtype=np.bool_)
    is_leaf[parent[parent >= 0]] = False
    asks: Bools = (answer < 0) & is_leaf & (spans.half == CALLER_HALF)
    return asks


def relabel(
    spans: Spans,
    parent: Ints,
    place: Ints,
    places: Sequence[Place],
    known: Calls,
    targets: Mapping[tuple[str, str], str],
) -> tuple[Ints, tuple[Place, ...]]:
    """Move the time of calls to the links that they are: a place's code for each span, and the places.

    `known` is what answered calls of that kind elsewhere, for calls whose callee recorded nothing; `targets` names the
    callee of calls that never had an answer, by (caller's service, name of the call), from the call's own attributes.
    """
    answer = answered_by(spans, parent, place, places)
    numbers: dict[Place, int] = {each: code for code, each in enumerate(places)}
    result = place.copy()
    open_calls = np.flatnonzero(unanswered(spans, parent, answer))
    for rows, callees in ((np.flatnonzero(answer >= 0), answer), (open_calls, None)):
        key = place[rows] if callees is None else place[rows] * len(places) + place[callees[rows]]
        distinct, inverse = np.unique(key, return_inverse=True)
        codes = []
        for code in distinct.tolist():
            if callees is None:
                link = _unanswered_link(places[code], known, targets)
            else:
                link = _link(places[code // len(places)], places[code % len(places)])
            codes.append(numbers.setdefault(link, len(numbers)))
        result[rows] = np.array(codes, dtype=np.int64)[inverse]
    return result, tuple(numbers)


def _asks(caller: Place, callee: Place) -> tuple[bool, bool]:
    """Whether a child runs in another service, and whether stage or name say that its parent is there to ask it."""
    if caller.service == callee.service or caller.stage not in ("", NETWORK):
        return False, False
    return True, caller.stage == NETWORK or _same_operation(caller.name, callee.name)


def _same_operation(one: str, other: str) -> bool:
    """Whether one name ends with the other: `/Shop/Get`, `Shop/Get` and `grpc.Shop/Get` are one operation."""
    shorter, longer = sorted((one.strip("/. ").lower(), other.strip("/. ").lower()), key=len)
    return len(shorter) > 2 and longer.endswith(shorter)


def _link(caller: Place, callee: Place) -> Place:
    name = caller.name if _same_operation(caller.name, callee.name) else callee.name
    return Place(callee.service, name, NETWORK, callee.hardware)


def _unanswered_link(caller: Place, known: Calls, targets: Mapping[tuple[str, str], str]) -> Place:
    if caller.stage not in ("", NETWORK):
        return caller
    if (callee := known.callee(caller)) is not None:
        return _link(caller, callee)
    target = targets.get((caller.service, caller.name))
    return Place(target, caller.name, NETWORK, "") if target else caller
