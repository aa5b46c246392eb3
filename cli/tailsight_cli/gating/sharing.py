"""The same requests twice: on both sides they hide a change, on one side they count as runs that there never were.

Names do not tell: a file may be a copy, a run may be in a file and in the store, and `version=1` may be `run=a`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from itertools import combinations

import numpy as np

from tailsight_analysis import Filters, NoSpansError, Store, Window
from tailsight_analysis import Side as AnalysisSide
from tailsight_analysis.gate import fetch_runs
from tailsight_analysis.gating.samples import REQUESTS
from tailsight_analysis.gating.strata import StratifiedRun
from tailsight_cli._errors import CommandError

_WHY = "the same requests say nothing about runs of their own"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the store: as it was written, and what it is."""

    text: str
    window: Window
    filters: Filters


def refuse_same_runs(sides: Sequence[Sequence[StratifiedRun]]) -> None:
    """Raise CommandError where two runs are one: the same durations to the nanosecond, of one name or one beginning."""
    seen: dict[tuple[str, str | int], tuple[int, StratifiedRun]] = {}
    for number, side in enumerate(sides):
        for run in side:
            content = _content(run)
            for key in ((content, run.label), (content, run.start_ns)):
                if key in seen:
                    where, other = seen[key]
                    what = f"run {run.label}" if run.label == other.label else f"runs {other.label} and {run.label}"
                    both = "twice on one side" if where == number else "in baseline and candidate"
                    raise CommandError(f"{what}: the same durations are {both}; {_WHY}")
            seen[content, run.label] = seen[content, run.start_ns] = number, run


def refuse_shared_requests(store: Store, parts: Sequence[Part]) -> None:
    """Raise CommandError where a request of the store is in two parts."""
    for one, other in combinations(parts, 2):
        common = _common(one, other)
        if common is not None and _has_requests(store, common):
            raise CommandError(f"{one.text} and {other.text} have requests in common; {_WHY}")


def _content(run: StratifiedRun) -> str:
    """Tell runs apart by how long their requests took; the order and the kinds of them do not matter."""
    cells = list(run.series.get(REQUESTS, {}).values())
    values = np.sort(np.concatenate([each.value for each in cells])) if cells else np.zeros(0)
    requests = sum(int(each.count.sum()) for each in cells)
    return sha256(f"{requests} ".encode() + values.tobytes()).hexdigest()


def _common(one: Part, other: Part) -> Part | None:
    """Return what is in both; None where nothing can be."""
    first, last = max(one.window.since_ns, other.window.since_ns), min(one.window.until_ns, other.window.until_ns)
    filters = one.filters
    for name in (field.name for field in fields(Filters)):
        here, there = getattr(one.filters, name), getattr(other.filters, name)
        both = tuple(value for value in here if value in there) if here and there else here or there
        if here and there and not both:
            return None
        filters = replace(filters, **{name: both})
    return Part(one.text, Window(first, last), filters) if first < last else None


def _has_requests(store: Store, part: Part) -> bool:
    try:
        return bool(fetch_runs(store, AnalysisSide(part.window, part.filters)))
    except NoSpansError:
        return False
