"""Which code differs between two classes of requests: tail and typical, or two runs.

What is compared is the time per request with a function on the stack: what its samples stand for ÷ requests, those
without a sample included. (Shares of the samples are shown beside it, but a function that takes longer makes all
others' shares smaller.) How that is compared, and why so: per_request.py.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles.flame import Flame, flame_of, lines_of, shown
from tailsight_analysis.profiles.model import JoinedSample
from tailsight_analysis.profiles.per_request import chances, compare

Key = tuple[str, str]  # a function and its file, or a stack and ""

LEAST_SAMPLES = 50
LEAST_REQUESTS = 10
LEAST_IN_ENTRY = 8
"""Samples of both classes together, below which a function or stack is not compared."""
MOST_ENTRIES = 2_000


@dataclass(frozen=True, slots=True)
class FlameSide:
    """One class, in one entry: samples, their share of the class's, and the time per request in ms."""

    samples: int
    share: float
    ms: float

    def to_json(self) -> dict[str, object]:
        """Return the side as JSON-ready values."""
        return {"samples": self.samples, "share": self.share, "ms": self.ms}


@dataclass(frozen=True, slots=True)
class DifferenceEntry:
    """One function, or one whole stack (then `function` is its innermost), in both classes.

    Differences are a − b; each interval holds 95 % of the time, on its own. `p_value` is corrected for all entries.
    `line` is the one of the function that most samples of both were at, or in whose call; 0: not known.
    """

    function: str
    file: str
    a: FlameSide
    b: FlameSide
    difference_ms: float  # per request
    low_ms: float
    high_ms: float
    share_difference: float
    share_low: float
    share_high: float
    p_value: float
    certain: bool
    line: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the entry as JSON-ready values."""
        return {
            "function": self.function,
            "file": self.file,
            "line": self.line,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "difference_ms": self.difference_ms,
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
            "share_difference": self.share_difference,
            "share_low": self.share_low,
            "share_high": self.share_high,
            "p_value": self.p_value,
            "certain": self.certain,
        }


@dataclass(frozen=True, slots=True)
class FlameDifference:
    """Where two classes of requests differ, the most certain first.

    `unassigned_*` are samples of no known request: they are in the flame graphs, and cannot be compared. A stack's text
    is its functions, outermost first, divided by ";".
    """

    name_a: str
    name_b: str
    samples_a: int
    samples_b: int
    unassigned_a: int
    unassigned_b: int
    requests_a: int
    requests_b: int
    functions: tuple[DifferenceEntry, ...]
    stacks: tuple[tuple[str, DifferenceEntry], ...]
    flame_a: Flame
    flame_b: Flame

    def to_json(self) -> dict[str, object]:
        """Return the difference as JSON-ready values, without the flame graphs."""
        return {
            "name_a": self.name_a,
            "name_b": self.name_b,
            "samples_a": self.samples_a,
            "samples_b": self.samples_b,
            "unassigned_a": self.unassigned_a,
            "unassigned_b": self.unassigned_b,
            "requests_a": self.requests_a,
            "requests_b": self.requests_b,
            "functions": [entry.to_json() for entry in self.functions],
            "stacks": [{"stack": stack, **entry.to_json()} for stack, entry in self.stacks],
        }


def difference(
    samples_a: Sequence[JoinedSample],
    samples_b: Sequence[JoinedSample],
    rate_hz: float,
    *,
    name_a: str = "tail",
    name_b: str = "typical",
    requests_a: Sequence[str] = (),
    requests_b: Sequence[str] = (),
    alpha: float = 0.05,
) -> FlameDifference:
    """Compare two classes of requests. `rate_hz`: of samples that do not say what time they stand for.

    `requests_*`: the trace ids of each class, also those without a sample; without them a request that nobody saw is
    not counted, and times per request are too long. Raises NotEnoughDataError below LEAST_SAMPLES or LEAST_REQUESTS,
    and QuestionError where a request is in both classes.
    """
    known_a = [sample for sample in samples_a if sample.trace_id]
    known_b = [sample for sample in samples_b if sample.trace_id]
    side_a = sorted({*requests_a, *(sample.trace_id for sample in known_a)})
    side_b = sorted({*requests_b, *(sample.trace_id for sample in known_b)})
    if both := set(side_a) & set(side_b):
        raise QuestionError(
            f"{len(both):,} requests are both {name_a} and {name_b}, {min(both)} for one: compare others"
        )
    for name, samples, requests in ((name_a, known_a, side_a), (name_b, known_b, side_b)):
        _check_floor(name, len(samples), len(requests))
    row = {trace_id: at for at, trace_id in enumerate((*side_a, *side_b))}
    everything = (*known_a, *known_b)
    compared = [_compare(everything, row, len(side_a), keys, rate_hz, alpha) for keys in (_functions, _whole_stack)]
    flame_a, flame_b = flame_of(samples_a, rate_hz, title=name_a), flame_of(samples_b, rate_hz, title=name_b)
    lines = lines_of((flame_a, flame_b))
    functions, stacks = (
        [(key, replace(entry, line=lines.get((entry.function, entry.file), 0))) for key, entry in found]
        for found in compared
    )
    return FlameDifference(
        name_a=name_a,
        name_b=name_b,
        samples_a=len(known_a),
        samples_b=len(known_b),
        unassigned_a=len(samples_a) - len(known_a),
        unassigned_b=len(samples_b) - len(known_b),
        requests_a=len(side_a),
        requests_b=len(side_b),
        functions=tuple(entry for _, entry in functions),
        stacks=tuple((key[0], entry) for key, entry in stacks),
        flame_a=flame_a,
        flame_b=flame_b,
    )


def _check_floor(name: str, samples: int, requests: int) -> None:
    if samples < LEAST_SAMPLES:
        raise NotEnoughDataError(
            f"{samples} samples are of {name} requests, {LEAST_SAMPLES - samples} more are needed: record longer, or "
            "at a higher rate",
            missing=LEAST_SAMPLES - samples,
        )
    if requests < LEAST_REQUESTS:
        raise NotEnoughDataError(
            f"{requests} requests are {name}, {LEAST_REQUESTS - requests} more are needed to tell chance from more",
            missing=LEAST_REQUESTS - requests,
        )


def _functions(sample: JoinedSample) -> Iterable[Key]:
    """Return the functions on the stack, each once, the outermost first."""
    return dict.fromkeys((frame.function, frame.file) for frame in sample.stack)


def _whole_stack(sample: JoinedSample) -> Iterable[Key]:
    return ((";".join(frame.function for frame in shown(sample.stack)), ""),)


def _compare(
    samples: Sequence[JoinedSample],
    row: dict[str, int],
    count_a: int,
    keys: Callable[[JoinedSample], Iterable[Key]],
    rate_hz: float,
    alpha: float,
) -> list[tuple[Key, DifferenceEntry]]:
    """Compare what `keys` finds in each sample."""
    column: dict[Key, int] = {}
    depth: list[int] = []
    file: dict[Key, str] = {}
    function: dict[Key, str] = {}
    rows, columns, times = array("q"), array("q"), array("d")
    whole = np.zeros(len(row))
    for sample in samples:
        of_request, ms = row[sample.trace_id], sample.ms or 1e3 / rate_hz
        whole[of_request] += ms
        for at, key in enumerate(keys(sample)):
            if key not in column:
                column[key] = len(depth)
                depth.append(at)
                leaf = sample.stack[-1] if sample.stack else None
                is_stack = keys is _whole_stack
                function[key] = (leaf.function if leaf else "") if is_stack else key[0]
                file[key] = (leaf.file if leaf else "") if is_stack else key[1]
            rows.append(of_request)
            columns.append(column[key])
            times.append(ms)
    shape = (len(row), len(depth))
    of_samples = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    enough = np.asarray(of_samples.sum(axis=0)).ravel()
    chosen = np.flatnonzero(enough >= LEAST_IN_ENTRY)
    chosen = chosen[np.argsort(-enough[chosen], kind="stable")][:MOST_ENTRIES]
    if not len(chosen):
        return []
    each_ms = np.array(times)
    one = np.bincount(columns, weights=each_ms**2) / np.bincount(columns, weights=each_ms)
    of_class = np.arange(len(row)) < count_a
    in_times = csr_matrix(csr_matrix((each_ms, (rows, columns)), shape=shape)[:, chosen])
    found = compare(in_times, one[chosen], whole, of_class)
    p_values = chances(in_times, of_class, found.t)
    counts = enough[chosen]
    counts_a = np.asarray(of_samples[:count_a][:, chosen].sum(axis=0)).ravel()
    names = list(column)
    entries: list[tuple[tuple[float, float, int, Key], Key, DifferenceEntry]] = []
    for at, number in enumerate(chosen.tolist()):
        key = names[number]
        gap = float(found.mean_a[at] - found.mean_b[at])
        share = float(found.share_a[at] - found.share_b[at])
        entry = DifferenceEntry(
            function=function[key],
            file=file[key],
            a=FlameSide(int(counts_a[at]), float(found.share_a[at]), float(found.mean_a[at])),
            b=FlameSide(int(counts[at] - counts_a[at]), float(found.share_b[at]), float(found.mean_b[at])),
            difference_ms=gap,
            low_ms=float(found.low[at]),
            high_ms=float(found.high[at]),
            share_difference=share,
            share_low=float(found.share_low[at]),
            share_high=float(found.share_high[at]),
            p_value=float(p_values[at]),
            certain=bool(p_values[at] <= alpha),
        )
        # What is only called by it differs exactly as it does: the caller is the one to look at.
        order = (-round(abs(float(found.t[at])), 9), -round(abs(gap), 9), depth[number], key)
        entries.append((order, key, entry))
    return [(key, entry) for _, key, entry in sorted(entries, key=lambda each: each[0])]
