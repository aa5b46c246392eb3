"""Which code differs between two classes of requests: tail and typical, or two runs.

What is compared is the time per request with a function on the stack: samples ÷ rate ÷ requests, those without a
sample included. (Shares of the samples are shown beside it, but a function that takes longer makes all others' shares
smaller.) Samples of one request are not independent, so requests are what varies: each is one number, and Welch's t
compares them. How large t gets by chance is found by dealing the requests to the two classes anew: a permutation test
of a studentised difference holds also where the classes vary differently (Janssen 1997; Chung and Romano 2013), and
the largest |t| of all functions in each deal corrects for their number (Westfall and Young 1993). Intervals are
Welch's, of each function alone; shares are ratios of sums over requests, linearised (Cochran 1977, 6.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.stats import t as student

from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles.flame import Flame, flame_of, shown
from tailsight_analysis.profiles.model import JoinedSample

Floats = npt.NDArray[np.float64]
Key = tuple[str, str]  # a function and its file, or a stack and ""

LEAST_SAMPLES = 50
LEAST_REQUESTS = 10
LEAST_IN_ENTRY = 8
"""Samples of both classes together, below which a function or stack is not compared."""
MOST_ENTRIES = 2_000
DEALS = 999
_DEALS_AT_ONCE = 37
_LEVEL = 0.95
_TIE = 1e-9


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

    def to_json(self) -> dict[str, object]:
        """Return the entry as JSON-ready values."""
        return {
            "function": self.function,
            "file": self.file,
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
    """Compare two classes of requests.

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
    return FlameDifference(
        name_a=name_a,
        name_b=name_b,
        samples_a=len(known_a),
        samples_b=len(known_b),
        unassigned_a=len(samples_a) - len(known_a),
        unassigned_b=len(samples_b) - len(known_b),
        requests_a=len(side_a),
        requests_b=len(side_b),
        functions=tuple(entry for _, entry in compared[0]),
        stacks=tuple((key[0], entry) for key, entry in compared[1]),
        flame_a=flame_of(samples_a, rate_hz, title=name_a),
        flame_b=flame_of(samples_b, rate_hz, title=name_b),
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
    rows: list[int] = []
    columns: list[int] = []
    for sample in samples:
        for at, key in enumerate(keys(sample)):
            if key not in column:
                column[key] = len(depth)
                depth.append(at)
                file[key] = key[1] or (sample.stack[-1].file if sample.stack else "")
            rows.append(row[sample.trace_id])
            columns.append(column[key])
    whole = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(row), len(depth)))
    enough = np.asarray(whole.sum(axis=0)).ravel()
    chosen = np.flatnonzero(enough >= LEAST_IN_ENTRY)
    chosen = chosen[np.argsort(-enough[chosen], kind="stable")][:MOST_ENTRIES]
    if not len(chosen):
        return []
    counts = csr_matrix(whole[:, chosen])
    of_class = np.zeros(len(row), dtype=bool)
    of_class[:count_a] = True
    in_all = np.bincount([row[sample.trace_id] for sample in samples], minlength=len(row)).astype(float)
    found = _welch(counts, of_class[None, :].astype(float))
    t_values = np.abs(found.t[0])
    p_values = _chances(counts, of_class, t_values)
    names = list(column)
    entries: list[tuple[tuple[float, int, Key], Key, DifferenceEntry]] = []
    for at, number in enumerate(chosen.tolist()):
        key = names[number]
        own = np.asarray(counts[:, [at]].todense()).ravel()
        half = float(student.ppf((1 + _LEVEL) / 2, found.freedom[0, at]) * found.error[0, at])
        share = _share_difference(own, in_all, of_class)
        gap = float(found.gap[0, at])
        entry = DifferenceEntry(
            function=key[0].rpartition(";")[2] if not key[1] else key[0],
            file=file[key],
            a=_side(own, in_all, of_class, rate_hz),
            b=_side(own, in_all, ~of_class, rate_hz),
            difference_ms=gap / rate_hz * 1e3,
            low_ms=(gap - half) / rate_hz * 1e3,
            high_ms=(gap + half) / rate_hz * 1e3,
            share_difference=share[0],
            share_low=share[0] - share[1],
            share_high=share[0] + share[1],
            p_value=float(p_values[at]),
            certain=bool(p_values[at] <= alpha),
        )
        # What is only called by it differs exactly as it does: the caller is the one to look at.
        entries.append(((-round(float(t_values[at]), 9), depth[number], key), key, entry))
    return [(key, entry) for _, key, entry in sorted(entries, key=lambda each: each[0])]


@dataclass(frozen=True, slots=True)
class _Welch:
    """Of each deal and entry: difference of the means per request, its standard error, t, degrees of freedom."""

    gap: Floats
    error: Floats
    t: Floats
    freedom: Floats


def _welch(counts: csr_matrix, is_a: Floats) -> _Welch:
    """Compare the requests where `is_a` is 1 with the others; a row a deal."""
    sums, squares = np.asarray(counts.sum(axis=0)).ravel(), np.asarray(counts.power(2).sum(axis=0)).ravel()
    size_a = is_a.sum(axis=1, keepdims=True)
    size_b = is_a.shape[1] - size_a
    sums_a = np.asarray((counts.T @ is_a.T).T)
    squares_a = np.asarray((counts.power(2).T @ is_a.T).T)
    mean_a, mean_b = sums_a / size_a, (sums - sums_a) / size_b
    part_a = np.maximum(squares_a / size_a - mean_a**2, 0.0) / np.maximum(size_a - 1, 1)
    part_b = np.maximum((squares - squares_a) / size_b - mean_b**2, 0.0) / np.maximum(size_b - 1, 1)
    variance = part_a + part_b
    gap = mean_a - mean_b
    error = np.sqrt(variance)
    t = np.divide(gap, error, out=np.zeros_like(gap), where=error > 0)
    below = part_a**2 / np.maximum(size_a - 1, 1) + part_b**2 / np.maximum(size_b - 1, 1)
    freedom = np.divide(variance**2, below, out=np.ones_like(variance), where=below > 0)
    return _Welch(gap, error, t, np.maximum(freedom, 1.0))


def _chances(counts: csr_matrix, of_class: npt.NDArray[np.bool_], t_values: Floats) -> Floats:
    """How often the largest |t| of a deal by chance is as large: the p-value, corrected for all entries."""
    random = np.random.default_rng(len(of_class))  # the same question has the same answer
    as_large = np.zeros(len(t_values))
    done = 0
    while done < DEALS:
        now = min(_DEALS_AT_ONCE, DEALS - done)
        deals = random.permuted(np.tile(of_class.astype(float), (now, 1)), axis=1)
        largest = np.abs(_welch(counts, deals).t).max(axis=1)
        as_large += (largest[:, None] >= t_values[None, :] - _TIE).sum(axis=0)
        done += now
    chances: Floats = (1 + as_large) / (DEALS + 1)
    return chances


def _side(own: Floats, in_all: Floats, members: npt.NDArray[np.bool_], rate_hz: float) -> FlameSide:
    samples = float(own[members].sum())
    return FlameSide(
        samples=int(samples),
        share=samples / max(1.0, float(in_all[members].sum())),
        ms=samples / int(members.sum()) / rate_hz * 1e3,
    )


def _share_difference(own: Floats, in_all: Floats, of_class: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the difference of the shares, and half of its interval's length."""
    shares, variance = [], 0.0
    for members in (of_class, ~of_class):
        all_samples, count = float(in_all[members].sum()), int(members.sum())
        share = float(own[members].sum()) / all_samples
        rest = own[members] - share * in_all[members]
        variance += float((rest**2).sum()) / all_samples**2 * count / (count - 1)
        shares.append(share)
    least = min(int(of_class.sum()), int((~of_class).sum())) - 1
    return shares[0] - shares[1], float(student.ppf((1 + _LEVEL) / 2, least)) * variance**0.5
