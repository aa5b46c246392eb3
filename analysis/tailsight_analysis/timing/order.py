"""What depends on the order of events: inter-arrival jitter, missed deadlines in a row; and gaps in streams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]

GAIN = 1 / 16  # RFC 3550, section 6.4.1
_SETTLED = 48  # differences after which the start, J = 0, counts for less than a twentieth
_LEAST_DIFFERENCES = 16


@dataclass(frozen=True, slots=True)
class Events:
    """Spans of one group, or requests, in the order of their starts. NaN where one does not say."""

    stream: Codes
    start_ns: Ints
    duration_ns: Ints
    weight: Floats
    deadline_ms: Floats
    gap_p50_ms: Floats
    gap_p99_ms: Floats
    gap_max_ms: Floats

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True)
class InterArrival:
    """Inter-arrival jitter in ns: the mean of J over all events of all streams, and its greatest value."""

    mean_ns: float
    highest_ns: float
    streams: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Events that have a deadline, those of them that took longer, and the longest run of misses in order of start.

    Where requests were sampled, `count` and `missed` are estimates, and there is no streak (None).
    """

    count: float
    missed: float
    streak: int | None
    streak_from_ns: int | None

    @property
    def rate(self) -> float:
        """Share of the events with a deadline that missed it."""
        return self.missed / self.count


@dataclass(frozen=True, slots=True)
class Gaps:
    """Between the items of streams, in ms: over the streams, the median of their p50 and p99, and the longest gap."""

    streams: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def interarrival(events: Events) -> InterArrival | None:
    """Smoothed inter-arrival jitter (RFC 3550, section 6.4.1); None where no stream has 17 events.

    Events of one stream follow each other by start. The transit time of RFC 3550 is the duration here, so that

        D(i − 1, i) = duration(i) − duration(i − 1)        J(i) = J(i − 1) + (|D(i − 1, i)| − J(i − 1)) / 16

    with J = 0 before the first. Of each stream the first 48 values, in which it settles, are left out of mean and
    maximum where there are more.
    """
    order = np.argsort(events.stream, kind="stable")
    stream, duration = events.stream[order], events.duration_ns[order].astype(np.float64)
    first = np.flatnonzero(np.append(True, stream[1:] != stream[:-1])) if len(stream) else np.empty(0, np.int64)
    total, count, highest, streams = 0.0, 0, 0.0, 0
    for begin, end in zip(first, np.append(first[1:], len(stream)), strict=True):
        changes = np.abs(np.diff(duration[begin:end]))
        if len(changes) < _LEAST_DIFFERENCES:
            continue
        smoothed: Floats = lfilter([GAIN], [1, GAIN - 1], changes)
        settled = smoothed[min(_SETTLED, len(smoothed) - 1) :]
        total += float(settled.sum()) / len(settled) * len(changes)
        count += len(changes)
        highest = max(highest, float(settled.max()))
        streams += 1
    return InterArrival(total / count, highest, streams) if streams else None


def deadlines(events: Events, deadline_ms: float | None = None, *, sampled: bool = False) -> Deadlines | None:
    """Count missed deadlines: each event's own, or one for all; None where there are none.

    A deadline that is not above 0 is none. Taking exactly as long as it allows is no miss.
    """
    limits = events.deadline_ms if deadline_ms is None else np.full(len(events), deadline_ms)
    known = np.isfinite(limits) & (limits > 0)
    if not known.any():
        return None
    missed = events.duration_ns[known] / 1e6 > limits[known]
    weight = events.weight[known]
    count, misses = float(weight.sum()), float(weight[missed].sum())
    if sampled:
        return Deadlines(count, misses, None, None)
    length, at = longest_run(missed)
    return Deadlines(count, misses, length, int(events.start_ns[known][at]) if length else None)


def longest_run(missed: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Length of the longest run of trues, and where it begins: the first such run."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missed, [False])).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    if len(begins) == 0:
        return 0, 0
    longest = int((ends - begins).argmax())
    return int(ends[longest] - begins[longest]), int(begins[longest])


def gaps(events: Events) -> Gaps | None:
    """Sum up what the SDK says of streams (`tailsight.stream.gap_*`); None where it says nothing."""
    known = np.isfinite(events.gap_p99_ms) & np.isfinite(events.gap_p50_ms)
    if not known.any():
        return None
    longest = events.gap_max_ms[known]
    longest = longest[np.isfinite(longest)]
    p99 = float(_weighted_median(events.gap_p99_ms[known], events.weight[known]))
    return Gaps(
        streams=int(known.sum()),
        p50_ms=float(_weighted_median(events.gap_p50_ms[known], events.weight[known])),
        p99_ms=p99,
        max_ms=float(longest.max()) if len(longest) else p99,
    )


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
