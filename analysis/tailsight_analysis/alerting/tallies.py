"""How many requests, and bad ones, are in each of a rule's windows? Read once, and again only where spans came since.

A window of hours is looked at every minute, and nearly all of it is as it was. So what each short step of time holds is
kept in memory. Read anew at a look are the last REACH minutes, and whatever lies within REACH of a minute whose number
of spans in the roll-up `stage_latency_1m` is another than at the look before: late spans count, too. Of requests of
which a span comes later, and starts more than REACH away, the earlier state is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NS_PER_S, Filters, Window
from tailsight_storage import Store

REACH = 10
"""Minutes."""
MINUTE_NS = 60 * NS_PER_S
_STEPS_S = (60, 30, 15, 10, 5, 2, 1)
_STEPS_A_WINDOW = 30
_LONGEST_READ = 360
_LEAST_GAP = 60
"""Minutes: all that starts within an hour of requests is read, so stretches close together are read as one."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests that started in a window, and the bad ones of them, weighted; and how many of all are stored."""

    requests: float
    bad: float
    stored: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What is counted: the windows' lengths in seconds, and what is bad, as parameters of sql/alert_slo.sql."""

    lengths_s: tuple[float, ...]
    filters: Filters
    bad: Mapping[str, int]

    @property
    def step_ns(self) -> int:
        """How long a step is: a thirtieth of the shortest window or less, so that no window is much too long."""
        fitting = (step_s for step_s in _STEPS_S if step_s * _STEPS_A_WINDOW <= min(self.lengths_s))
        return next(fitting, _STEPS_S[-1]) * NS_PER_S


class Tallies:
    """The steps of one rule. Use it from one thread; where reading fails, what was read stays."""

    def __init__(self) -> None:
        self._steps: dict[int, Counted] = {}
        self._read: set[int] = set()  # minutes
        self._spans: dict[int, int] = {}  # of each minute, when it was read
        self._again: set[int] = set()  # minutes

    def windows(self, store: Store, asked: Asked, until_ns: int) -> dict[float, Counted]:
        """Count what each window that ends at `until_ns` holds; it begins at a whole step. Raises StorageError."""
        first = (until_ns - round(max(asked.lengths_s) * NS_PER_S)) // MINUTE_NS
        last = (until_ns - 1) // MINUTE_NS
        # first the numbers, then the spans: what comes in between is seen as a change at the next look
        spans = _spans_by_minute(store, first - REACH, last + REACH)
        known = self._spans
        changed = {minute for minute in spans.keys() | known.keys() if spans.get(minute, 0) != known.get(minute, 0)}
        # the roll-up may be written a moment before the spans: what has changed is looked at twice
        again = {minute for minute in changed if minute <= last - REACH and minute in self._read}
        for begin, end in _stretches(self._stale(first, last, changed | self._again)):
            self._read_stretch(store, asked, begin, end, until_ns)
            self._spans.update({minute: spans.get(minute, 0) for minute in range(begin, end + 1)})
        self._again = again
        self._forget(asked, first, spans)
        return {length_s: self._sum(asked, length_s, until_ns) for length_s in asked.lengths_s}

    def _stale(self, first: int, last: int, changed: Iterable[int]) -> set[int]:
        stale = {minute for minute in range(first, last + 1) if minute > last - REACH or minute not in self._read}
        for minute in changed:
            stale.update(range(max(first, minute - REACH), min(last, minute + REACH) + 1))
        return stale

    def _read_stretch(self, store: Store, asked: Asked, begin: int, end: int, until_ns: int) -> None:
        window = Window(begin * MINUTE_NS, min((end + 1) * MINUTE_NS, until_ns))
        rows = store.ask(
            query("alert_slo"), **request_parameters(store, window, asked.filters), step_ns=asked.step_ns, **asked.bad
        )
        for step in range(begin * MINUTE_NS // asked.step_ns, (end + 1) * MINUTE_NS // asked.step_ns):
            self._steps.pop(step, None)
        for row in rows:
            self._steps[int(row["step"])] = Counted(float(row["requests"]), float(row["bad"]), int(row["stored"]))
        self._read.update(range(begin, end + 1))

    def _forget(self, asked: Asked, first: int, spans: Mapping[int, int]) -> None:
        self._spans = dict(spans)
        self._read = {minute for minute in self._read if minute >= first}
        self._steps = {step: its for step, its in self._steps.items() if step * asked.step_ns >= first * MINUTE_NS}

    def _sum(self, asked: Asked, length_s: float, until_ns: int) -> Counted:
        begin, end = (until_ns - round(length_s * NS_PER_S)) // asked.step_ns, -(-until_ns // asked.step_ns)
        within = [its for step, its in self._steps.items() if begin <= step < end]
        return Counted(
            sum(its.requests for its in within), sum(its.bad for its in within), sum(its.stored for its in within)
        )


def _spans_by_minute(store: Store, first: int, last: int) -> dict[int, int]:
    rows = store.ask(query("alert_minutes"), since_s=first * 60, until_s=(last + 1) * 60)
    return {int(row["minute_s"]) // 60: int(row["spans"]) for row in rows}


def _stretches(minutes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Group minutes into stretches, the latest first: should reading fail, what counts most is there."""
    runs: list[list[int]] = []
    for minute in sorted(minutes):
        if runs and minute - runs[-1][1] <= _LEAST_GAP:
            runs[-1][1] = minute
        else:
            runs.append([minute, minute])
    for begin, end in reversed(runs):
        yield from _pieces(begin, end)


def _pieces(begin: int, end: int) -> Sequence[tuple[int, int]]:
    return [(max(begin, to - _LONGEST_READ + 1), to) for to in range(end, begin - 1, -_LONGEST_READ)]
