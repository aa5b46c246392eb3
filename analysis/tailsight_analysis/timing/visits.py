"""From spans to visits: who came to a queue when, began to be served when, and kept a worker for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

QUEUE = "queue"
_TOLERANCE_NS = 100_000  # that a service may begin before its queue span ends: both are timed by themselves
_TOGETHER_NS = 1_000_000  # that the spans of a batch begin in: each item's own task may make them
_NONE = -1


@dataclass(frozen=True, slots=True)
class StageSpans:
    """Spans of one station, a service on one host, by start. `depth` and `batch_size` are NaN where not said."""

    stage: npt.NDArray[np.object_]
    trace: Ints
    start_ns: Ints
    end_ns: Ints
    batch_size: Floats
    depth: Floats
    weight: Floats

    def chosen(self, rows: Any) -> StageSpans:
        """Return some of them."""
        names = ("stage", "trace", "start_ns", "end_ns", "batch_size", "depth", "weight")
        return StageSpans(*(getattr(self, name)[rows] for name in names))


@dataclass(frozen=True, slots=True)
class Visits:
    """Items that waited in a queue and were served, in the order of arrival; times in nanoseconds.

    `taken_ns` is when the item left the queue, `end_ns` when it was served. `service` numbers the services: items of
    one batch share it. `unserved` queue spans have no service after them, `unqueued` services none before them.
    """

    arrival_ns: Ints
    taken_ns: Ints
    end_ns: Ints
    service: Ints
    batched: Bools
    weight: Floats
    unserved: int
    unqueued: int

    def __len__(self) -> int:
        return len(self.arrival_ns)


@dataclass(frozen=True, slots=True)
class Services:
    """What workers do, one after another: a batch counts once. It came when its last item did. In order of arrival."""

    arrival_ns: Ints
    taken_ns: Ints
    end_ns: Ints
    weight: Floats

    @property
    def held_ns(self) -> Floats:
        """How long each kept its worker: from the queue to the end."""
        return (self.end_ns - self.taken_ns).astype(np.float64)

    @property
    def waits_ns(self) -> Floats:
        """How long each waited."""
        return (self.taken_ns - self.arrival_ns).astype(np.float64)


def stations(rows: Mapping[str, Any]) -> dict[tuple[str, str], StageSpans]:
    """Part the rows of sql/queue_spans.sql by service and host."""
    if not rows:
        return {}
    traces = np.stack((rows["trace_first"], rows["trace_last"]), axis=1)
    _, trace = np.unique(traces, axis=0, return_inverse=True)
    start_ns = np.asarray(rows["start_ns"], dtype=np.int64)
    every = StageSpans(
        np.asarray(rows["stage"], dtype=np.object_),
        np.ravel(trace).astype(np.int64),
        start_ns,
        start_ns + np.asarray(rows["duration_ns"], dtype=np.int64),
        np.asarray(rows["batch_size"], dtype=np.float64),
        np.asarray(rows["depth"], dtype=np.float64),
        np.asarray(rows["weight"], dtype=np.float64),
    )
    places: dict[tuple[str, str], list[int]] = {}
    for at, place in enumerate(zip(rows["service"].tolist(), rows["host"].tolist(), strict=True)):
        places.setdefault(place, []).append(at)
    return {place: every.chosen(np.array(members)) for place, members in sorted(places.items())}


def serving_stage(spans: StageSpans) -> str | None:
    """Which stage follows the queue most often: the next in the same trace that begins when a queue span has ended."""
    queued = spans.stage == QUEUE
    others = np.flatnonzero(~queued)
    following = _next_start(spans.trace[queued], spans.end_ns[queued], spans.trace[others], spans.start_ns[others])
    counted = Counter(spans.stage[others[following[following != _NONE]]].tolist())
    return max(counted, key=lambda stage: (counted[stage], stage)) if counted else None


def visits(spans: StageSpans, serving: str) -> Visits:
    """Pair queue spans with the services that follow them in the same trace.

    Several queue spans before one service are one wait (in the queue, then for the batch to fill), from the start of
    the first to the end of the last. Services that `batches` finds are one.
    """
    queued, served = spans.chosen(spans.stage == QUEUE), spans.chosen(spans.stage == serving)
    served_by = _next_start(queued.trace, queued.end_ns, served.trace, served.start_ns)
    paired = served_by != _NONE
    target, index = np.unique(served_by[paired], return_inverse=True)
    arrival = np.full(len(target), np.iinfo(np.int64).max)
    np.minimum.at(arrival, index, queued.start_ns[paired])
    taken = np.zeros(len(target), dtype=np.int64)
    np.maximum.at(taken, index, queued.end_ns[paired])
    begin, end = served.start_ns[target], served.end_ns[target]
    taken = np.clip(taken, arrival, np.maximum(np.minimum(taken, begin), arrival))
    big = np.nan_to_num(served.batch_size[target], nan=1.0) > 1
    service = batches(begin, served.batch_size[target])
    # the others' ends wait for their own turn to be told the result
    earliest = np.full(int(service.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(earliest, service, end)
    end = np.maximum(earliest[service], taken)
    order = np.argsort(arrival, kind="stable")
    _, numbered = np.unique(service[order], return_inverse=True)
    return Visits(
        arrival[order],
        taken[order],
        end[order],
        np.ravel(numbered).astype(np.int64),
        big[order],
        served.weight[target][order],
        unserved=int((~paired).sum()),
        unqueued=len(served.trace) - len(target),
    )


def batches(start_ns: Ints, size: Floats) -> Ints:
    """Give each serving span the number of its service, which the spans of a batch share.

    Spans of a batch say one size above 1, begin within a millisecond, and are no more than that.
    """
    number = np.empty(len(start_ns), dtype=np.int64)
    open_batches: dict[float, tuple[int, int, float]] = {}  # of each size: number, when it began, how many are missing
    following = 0
    sizes = np.nan_to_num(size, nan=1.0)
    for at in np.argsort(start_ns, kind="stable").tolist():
        wanted, begin = float(sizes[at]), int(start_ns[at])
        known, since, missing = open_batches.get(wanted, (following, begin, 0.0))
        if missing < 1 or begin - since > _TOGETHER_NS:
            known, since, missing = following, begin, wanted
            following += 1
        number[at] = known
        open_batches[wanted] = (known, since, missing - 1)
    return number


def services(found: Visits) -> Services:
    """Sum visits up to services."""
    count = int(found.service.max(initial=-1)) + 1
    arrival = np.zeros(count, dtype=np.int64)
    np.maximum.at(arrival, found.service, found.arrival_ns)
    taken, end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    np.maximum.at(taken, found.service, found.taken_ns)
    np.maximum.at(end, found.service, found.end_ns)
    weight = np.ones(count)
    np.maximum.at(weight, found.service, found.weight)
    order = np.argsort(arrival, kind="stable")
    return Services(arrival[order], np.maximum(taken, arrival)[order], end[order], weight[order])


def seen_on_arrival(spans: StageSpans) -> tuple[float, float] | None:
    """How many an item finds in its queue: on average as they say, and as many queue spans as lie over its arrival.

    Of the queue spans that say a depth; None where fewer than half do.
    """
    queue = spans.chosen(spans.stage == QUEUE)
    says = np.isfinite(queue.depth)
    if not says.any() or says.mean() < 0.5:
        return None
    start, end = queue.start_ns[says], queue.end_ns[says]
    before = np.searchsorted(np.sort(start), start, side="left")
    gone = np.searchsorted(np.sort(end), start, side="right")
    # a span of no length is gone by its own start, without having been before it
    own = (end == start).astype(np.int64)
    return float(queue.depth[says].mean()), float(np.maximum(before - (gone - own), 0).mean())


def _next_start(trace: Ints, time_ns: Ints, other_trace: Ints, other_start_ns: Ints) -> Ints:
    """For each moment of a trace, which of the others is the first of that trace that starts then or later; or −1."""
    count, others = len(trace), len(other_trace)
    traces = np.concatenate((trace, other_trace))
    times = np.concatenate((time_ns - _TOLERANCE_NS, other_start_ns))
    is_other = np.repeat([0, 1], [count, others])
    order = np.lexsort((is_other, times, traces))
    place = np.where(is_other[order] == 1, np.arange(len(order)), len(order))
    following = np.minimum.accumulate(place[::-1])[::-1]
    found = np.append(order, 0)[following]
    right = (following < len(order)) & (np.append(traces, _NONE)[found] == traces[order])
    result = np.full(count + others, _NONE, dtype=np.int64)
    result[order] = np.where(right, found - count, _NONE)
    return result[:count]
