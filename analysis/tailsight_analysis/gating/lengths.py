"""How long the inputs were, and by which lengths a kind of work is divided where those of both sides differ.

A length is known to an eighth of an octave (9 %). Where lengths moved, a kind becomes several: neighbouring eighths
together until both sides have enough of each, so that a length is compared with the same length and none of them has
too little. Where lengths did not move, nothing is divided: strata that explain nothing only cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.gating.samples import Floats, Ints, Series
from tailsight_analysis.statistics.intervals import Cells

STEPS_AN_OCTAVE = 8
NOT_SAID = -32768
LEAST_MOVED = 0.01  # of the lengths' geometric mean
LEAST_KNOWN = 100  # requests a side
LEAST_IN_RANGE = 20  # of a side …
LEAST_OF_RUN = 4  # … and on average of a run
_BY_CHANCE = 3.0  # standard errors
_COARSE = 8  # ranges whose shares show that lengths moved though their mean did not
_MOVED_SHARE = 0.02
_WIDEST = STEPS_AN_OCTAVE  # of a range: what is longer by more than an octave is not alike


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of one run's inputs, by attribute `key`.

    `steps` has for each series and kind, beside each cell of its durations, the logarithm of the length to base 2, in
    eighths, rounded down to `width` of them; NOT_SAID where the trace does not say one.
    """

    key: str
    width: int
    steps: Mapping[Series, Mapping[str, Ints]]

    def rounded_to(self, width: int) -> Lengths:
        """Give lengths as another run's are known, which are rounded down to `width`, a multiple of this one's."""
        if width == self.width:
            return self
        steps = {
            series: {kind: np.where(each == NOT_SAID, NOT_SAID, each // width * width) for kind, each in kinds.items()}
            for series, kinds in self.steps.items()
        }
        return Lengths(self.key, width, steps)


@dataclass(frozen=True, slots=True)
class Divided:
    """Runs of both sides, whose kinds are divided by length where lengths moved.

    `ranges` are the names of the kinds that came of it; `means` the geometric means of both sides' lengths in what was
    divided, None where nothing was.
    """

    strata: tuple[list[dict[str, Cells]], list[dict[str, Cells]]]
    ranges: frozenset[str]
    means: tuple[float, float] | None


Sides = tuple[Sequence[Mapping[str, Cells]], Sequence[Mapping[str, Cells]]]


def divide(
    sides: Sides, lengths: tuple[Sequence[Mapping[str, Ints]], Sequence[Mapping[str, Ints]]], key: str
) -> Divided:
    """Divide each kind of one series whose lengths moved. `lengths` are as `Lengths.steps`, run by run as `sides`."""
    made: tuple[list[dict[str, Cells]], list[dict[str, Cells]]] = ([{} for _ in sides[0]], [{} for _ in sides[1]])
    names: set[str] = set()
    moved: list[tuple[Counted, Counted]] = []
    for kind in sorted({kind for side in sides for strata in side for kind in strata}):
        before, after = (
            _counted([(steps[kind], strata[kind].count) for strata, steps in zip(*each, strict=True) if kind in strata])
            for each in zip(sides, lengths, strict=True)
        )
        ranges: tuple[Ints, Ints] | None = None
        if have_moved(before, after):
            ranges = ranges_of(before, after, max(map(len, sides)))
            moved.append((before, after))
        for side, steps_of, result in zip(sides, lengths, made, strict=True):
            for strata, steps, parts in zip(side, steps_of, result, strict=True):
                if kind not in strata:
                    continue
                if ranges is None:
                    parts[kind] = _compacted(strata[kind])
                    continue
                named = _parts(kind, key, strata[kind], steps[kind], *ranges)
                parts.update(named)
                names.update(named)
    if not moved:
        return Divided(made, frozenset(), None)
    both = [_counted([(side.steps, side.counts) for side in each]) for each in zip(*moved, strict=True)]
    return Divided(made, frozenset(names), (math.exp(both[0].mean), math.exp(both[1].mean)))


def _parts(kind: str, key: str, cells: Cells, steps: Ints, firsts: Ints, lasts: Ints) -> dict[str, Cells]:
    """Divide one run's durations of a kind."""
    place = np.where(steps == NOT_SAID, -1, np.searchsorted(firsts, steps, side="right") - 1)
    names = [
        f"{kind}, {_name_of(key, first, last)}" for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]
    return {
        kind if number < 0 else names[number]: _compacted(_chosen(cells, place == number))
        for number in np.unique(place).tolist()
    }


def _chosen(cells: Cells, those: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Cells:
    return Cells(
        cells.value[those], cells.width[those], cells.block[those], cells.count[those], cells.weight[those],
        cells.weight2[those],
    )  # fmt: skip


def _compacted(cells: Cells) -> Cells:
    """Make one of neighbouring cells that differ in the length alone."""
    if len(cells.value) < 2:
        return cells
    differs = (cells.value[1:] != cells.value[:-1]) | (cells.block[1:] != cells.block[:-1])
    first = np.flatnonzero(np.append(True, differs))
    if len(first) == len(cells.value):
        return cells
    count, weight, weight2 = (np.add.reduceat(each, first) for each in (cells.count, cells.weight, cells.weight2))
    return Cells(cells.value[first], cells.width[first], cells.block[first], count, weight, weight2)


# --- have lengths moved, and where are they divided? ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of one side have each length: `steps` in ascending order, without those that are not said."""

    steps: Ints
    counts: Ints

    @property
    def known(self) -> int:
        """Of how many the length is known."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of the logarithm (natural)."""
        return float(self.counts @ self.steps) / self.known * math.log(2) / STEPS_AN_OCTAVE

    @property
    def variance(self) -> float:
        """Of the logarithm."""
        logs = self.steps * math.log(2) / STEPS_AN_OCTAVE
        return float(self.counts @ (logs - self.mean) ** 2) / self.known


def _counted(parts: Sequence[tuple[Ints, Ints]]) -> Counted:
    """Count lengths, of runs or kinds: steps, and beside them how many have each."""
    steps = np.concatenate([np.zeros(0, dtype=np.int64), *(steps for steps, _ in parts)])
    counts = np.concatenate([np.zeros(0, dtype=np.int64), *(counts for _, counts in parts)])
    known = steps != NOT_SAID
    values, place = np.unique(steps[known], return_inverse=True)
    return Counted(values, np.bincount(place, counts[known], len(values)).astype(np.int64))


def have_moved(baseline: Counted, candidate: Counted) -> bool:
    """Whether lengths differ by more than a little, and more than chance does."""
    if min(baseline.known, candidate.known) < LEAST_KNOWN:
        return False
    error = math.sqrt(baseline.variance / baseline.known + candidate.variance / candidate.known)
    if abs(candidate.mean - baseline.mean) >= LEAST_MOVED + _BY_CHANCE * error:
        return True
    shares, ranges = _in_quantiles(baseline, candidate)
    by_chance = math.sqrt((ranges - 1) * (1 / baseline.known + 1 / candidate.known))
    return float(np.abs(shares[0] - shares[1]).sum()) / 2 >= _MOVED_SHARE + 0.7 * by_chance


def ranges_of(baseline: Counted, candidate: Counted, runs: int) -> tuple[Ints, Ints]:
    """Divide lengths into ranges: the first and the last step of each. `runs` is how many a side has at most."""
    steps = np.union1d(baseline.steps, candidate.steps)
    both = [_at(steps, each) for each in (baseline, candidate)]
    enough = max(LEAST_IN_RANGE, LEAST_OF_RUN * runs)
    firsts: list[int] = []
    held = [0, 0]
    for step, here, there in zip(steps.tolist(), both[0].tolist(), both[1].tolist(), strict=True):
        if not firsts or min(held) >= enough or step - firsts[-1] >= _WIDEST:
            firsts.append(step)
            held = [0, 0]
        held = [held[0] + here, held[1] + there]
    if len(firsts) > 1 and min(held) < enough and int(steps[-1]) - firsts[-2] < _WIDEST:
        firsts.pop()
    begins = np.array(firsts, dtype=np.int64)
    ends = np.append(np.searchsorted(steps, begins[1:]), len(steps)) - 1
    return begins, steps[ends]


def _name_of(key: str, first: int, last: int) -> str:
    """Name a range of lengths: `tokens 256 to 279`; by its bounds where no whole number lies in it."""
    begin, end = 2 ** (first / STEPS_AN_OCTAVE), 2 ** ((last + 1) / STEPS_AN_OCTAVE)
    low, high = math.ceil(begin), math.ceil(end) - 1
    if high < low:
        return f"{key} {begin:.3g} to {end:.3g}"
    return f"{key} {low}" if high == low else f"{key} {low} to {high}"


def _in_quantiles(baseline: Counted, candidate: Counted) -> tuple[list[Floats], int]:
    """Shares of both sides in ranges of which both together have about as many in each."""
    steps = np.union1d(baseline.steps, candidate.steps)
    shares = [_at(steps, each) / each.known for each in (baseline, candidate)]
    middle = np.cumsum(shares[0] + shares[1]) - (shares[0] + shares[1]) / 2
    place = np.minimum((middle / 2 * _COARSE).astype(np.int64), _COARSE - 1)
    return [np.asarray(np.bincount(place, each, _COARSE), np.float64) for each in shares], len(np.unique(place))


def _at(steps: Ints, side: Counted) -> Ints:
    result = np.zeros(len(steps), dtype=np.int64)
    result[np.searchsorted(steps, side.steps)] = side.counts
    return result
