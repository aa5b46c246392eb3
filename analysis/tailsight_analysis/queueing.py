"""How busy is a queue, and how long would one wait with one more worker? See docs/analysis/queueing.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, NS_PER_S, Filters, Window, describe, scope_parameters
from tailsight_analysis.statistics.queues import Waits, expected_waits, most_at_once, replay, sum_up, variability
from tailsight_analysis.timing.reading import fetch_extent, latest_part
from tailsight_analysis.timing.visits import (
    QUEUE,
    Services,
    StageSpans,
    Visits,
    batches,
    seen_on_arrival,
    services,
    serving_stage,
    stations,
    visits,
)
from tailsight_storage import Store

LEAST_VISITS = 100  # of fewer, neither a rate nor a p99 can be told
MAX_SPANS = 600_000  # of more, only the latest are looked at
REPRODUCED = 0.2  # a replay whose mean wait is this close to the measured one has the right model
COMPLETE = 0.2  # a number in the queue that is this close to the expected one says that no spans are missing
_TOO_LITTLE = 0.05  # of a service time, of a place in the queue: below, a difference means nothing


@dataclass(frozen=True, slots=True)
class OneMore:
    """Waits in ns with as many workers as now and with one more, by formula and by replay; None where unknown."""

    formula: Waits | None
    formula_one_more: Waits | None
    replayed: Waits | None
    replayed_one_more: Waits | None


@dataclass(frozen=True, slots=True)
class Little:
    """Little's law, L = λW: how many are in the queue, and how many should be.

    `in_queue` is the mean number of queue spans at any time, `expected` the rate of services times the mean wait. Where
    items say how many they found (`depth`), `found_said` is the mean of that, and `found_spans` that of queue spans
    over their arrivals.
    """

    in_queue: float
    expected: float
    found_said: float | None
    found_spans: float | None

    @property
    def holds(self) -> bool:
        """Whether the numbers agree: else spans are missing, or belong to something else."""
        pairs = [(self.in_queue, self.expected)]
        if self.found_said is not None and self.found_spans is not None:
            pairs.append((self.found_spans, self.found_said))
        return all(abs(one - other) <= max(COMPLETE * max(one, other), _TOO_LITTLE) for one, other in pairs)


@dataclass(frozen=True, slots=True)
class Station:
    """One service's queue on one host. Times in nanoseconds, rates per second.

    `workers` is None where it is neither given nor to be seen, `utilisation` then too. `wait` is that of the items,
    `service_wait_ns` the mean of the services, of a batch that of its last item. `service_ns` is how long a worker is
    held by one service, a whole batch where `batched`. `arrival_scv` and `service_scv` are squared coefficients of
    variation. `notes` say why something could not be told.
    """

    service: str
    host: str
    serving: str
    items: int
    stored: int | None
    arrival_rate: float
    service_rate: float
    service_ns: float
    arrival_scv: float | None
    service_scv: float
    workers: int | None
    workers_given: bool
    utilisation: float | None
    batch_mean: float
    wait: Waits
    service_wait_ns: float
    little: Little
    one_more: OneMore
    unserved: int
    unqueued: int
    notes: tuple[str, ...]

    @property
    def reproduced(self) -> bool | None:
        """Whether the replay with the workers that there are waits as long as was measured; None without a replay."""
        if self.one_more.replayed is None:
            return None
        off = abs(self.one_more.replayed.mean - self.service_wait_ns)
        return off <= max(REPRODUCED * self.service_wait_ns, _TOO_LITTLE * self.service_ns)

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/queueing.md."""
        return {
            "service": self.service,
            "host": self.host,
            "serving": self.serving,
            "items": self.items,
            **({} if self.stored is None else {"stored": self.stored}),
            "arrivals_per_s": self.arrival_rate,
            "services_per_s": self.service_rate,
            "service_ms": self.service_ns / NS_PER_MS,
            "arrival_scv": self.arrival_scv,
            "service_scv": self.service_scv,
            "workers": self.workers,
            "workers_given": self.workers_given,
            "utilisation": self.utilisation,
            "batch_mean": self.batch_mean,
            "wait": _waits_json(self.wait),
            "service_wait_ms": self.service_wait_ns / NS_PER_MS,
            "little": {
                "in_queue": self.little.in_queue,
                "expected": self.little.expected,
                "found_said": self.little.found_said,
                "found_spans": self.little.found_spans,
                "holds": self.little.holds,
            },
            "formula": _waits_json(self.one_more.formula),
            "formula_one_more": _waits_json(self.one_more.formula_one_more),
            "replay": _waits_json(self.one_more.replayed),
            "replay_one_more": _waits_json(self.one_more.replayed_one_more),
            "replay_reproduces": self.reproduced,
            "unserved": self.unserved,
            "unqueued": self.unqueued,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Queueing:
    """The answer, the longest mean wait first. `looked_at` is the part of the window that it comes from."""

    window: Window
    filters: Filters
    looked_at: Window
    stations: tuple[Station, ...]
    weighted: bool
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/queueing.md."""
        return {
            "data": self.data.to_json() if self.data else None,
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "looked_at": self.looked_at.to_json(),
            "weighted": self.weighted,
            "stations": [station.to_json() for station in self.stations],
        }


def queueing(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    workers: int | None = None,
    serving: str | None = None,
) -> Queueing:
    """Look at every service's queue, host by host.

    `workers` is how many serve a queue, where that is not what most ran at once; `serving` is the stage that serves,
    where that is not the one that follows the queue. Raises NoSpansError without queue spans, NotEnoughDataError
    where no queue has LEAST_VISITS items, or nothing is of the serving stage.
    """
    if workers is not None and workers < 1:
        raise QuestionError(f"{workers} workers serve nobody: use 1 or more")
    if filters.stage:
        raise QuestionError(
            f"stage={'|'.join(filters.stage)} would leave a queue without its service: name the service"
        )
    if serving == QUEUE:
        raise QuestionError("the stage queue does not serve: name the stage that follows it")
    parameters = request_parameters(store, window, filters)
    weighted = bool(parameters["weighted"])
    extent = fetch_extent(store, window, filters)
    if not any(stage == QUEUE for stage, _ in extent.groups):
        raise NoSpansError(f"no spans of the stage queue in {describe(window, filters)}")
    stages = sorted({stage for stage, _ in extent.groups} - {QUEUE, ""})
    if serving and serving not in stages:
        known = f"there are: {', '.join(stages)}" if stages else "nor of another that could serve"
        raise NotEnoughDataError(
            f"no spans of the stage {serving!r} in {describe(window, filters)}; {known}", choose="serving"
        )
    looked_at = window if extent.spans <= MAX_SPANS else latest_part(store, window, filters, MAX_SPANS)
    question = query("queue_spans_weighted" if weighted else "queue_spans")
    rows = store.columns(question, **scope_parameters(looked_at, filters))
    most, found = 0, []
    for (service, host), spans in stations(rows).items():
        stage = serving or serving_stage(spans)
        if stage is None:
            continue
        seen = visits(spans, stage)
        most = max(most, len(seen))
        if len(seen) >= LEAST_VISITS:
            found.append(_station(service, host, stage, spans, seen, workers, sampled=weighted))
    if not found:
        raise NotEnoughDataError(
            f"{most} items of one queue in {describe(looked_at, filters)} went on to a service, too few to tell: "
            f"{LEAST_VISITS - most} more are needed",
            LEAST_VISITS - most,
        )
    found.sort(key=lambda station: (-station.wait.mean, station.service, station.host))
    items = sum(station.items for station in found)
    stored = sum(station.items if station.stored is None else station.stored for station in found)
    data = data_quality(store, parameters, stored=stored, estimated=items)
    return Queueing(window, filters, looked_at, tuple(found), weighted, data)


def _station(
    service: str, host: str, serving: str, spans: StageSpans, seen: Visits, given: int | None, *, sampled: bool
) -> Station:
    done = services(seen)
    time_ns = float(max(1, seen.end_ns.max() - seen.arrival_ns[0]))
    items, served = float(seen.weight.sum()), float(done.weight.sum())
    held = done.held_ns
    service_ns = float(held @ done.weight / served)
    notes = []
    workers = given
    if given is None and sampled:
        notes.append("requests were sampled, so how many workers ran at once is not known")
    elif given is None:
        workers = most_at_once(*_busy(spans, serving, done))
    one_more, arrival_scv = OneMore(None, None, None, None), None
    if sampled:
        notes.append("requests were sampled: what came between two of them is not known, and cannot be replayed")
    else:
        arrival_scv = variability(np.diff(np.sort(done.arrival_ns)).astype(np.float64))
    batch_mean = items / served
    if batch_mean > 1.01:
        notes.append(
            f"batches of {batch_mean:.1f} items: each is one service, that came with its last item; with one more "
            "worker batches would be smaller"
        )
    utilisation = None
    if workers is not None:
        rate = served / time_ns
        utilisation = rate * service_ns / workers
        if arrival_scv is not None:
            one_more = _with_one_more(done, rate, service_ns, arrival_scv, workers)
            if one_more.formula is None:
                notes.append(f"{workers} workers cannot keep up: no formula holds")
    waits = (seen.taken_ns - seen.arrival_ns).astype(np.float64)
    return Station(
        service=service,
        host=host,
        serving=serving,
        items=round(items),
        stored=len(seen) if sampled else None,
        arrival_rate=items / time_ns * NS_PER_S,
        service_rate=served / time_ns * NS_PER_S,
        service_ns=service_ns,
        arrival_scv=arrival_scv,
        service_scv=variability(held, done.weight),
        workers=workers,
        workers_given=given is not None,
        utilisation=utilisation,
        batch_mean=batch_mean,
        wait=sum_up(waits, seen.weight),
        service_wait_ns=float(done.waits_ns @ done.weight / served),
        little=_little(spans, seen, waits, time_ns, sampled=sampled),
        one_more=one_more,
        unserved=seen.unserved,
        unqueued=seen.unqueued,
        notes=tuple(notes),
    )


def _busy(spans: StageSpans, serving: str, done: Services) -> tuple[Any, Any]:
    """When workers were held: by all spans of the serving stage, batches once."""
    own = spans.chosen(spans.stage == serving)
    number = batches(own.start_ns, own.batch_size)
    count = int(number.max(initial=-1)) + 1
    begin, end = np.full((2, count), np.iinfo(np.int64).max)
    np.minimum.at(begin, number, own.start_ns)
    np.minimum.at(end, number, own.end_ns)
    origin = int(done.arrival_ns[0])
    return (begin - origin).astype(np.float64), (end - origin).astype(np.float64)


def _with_one_more(done: Services, rate: float, service_ns: float, arrival_scv: float, workers: int) -> OneMore:
    arrival, held = (done.arrival_ns - done.arrival_ns[0]).astype(np.float64), done.held_ns
    service_scv = variability(held)
    return OneMore(
        expected_waits(rate, service_ns, arrival_scv, service_scv, workers),
        expected_waits(rate, service_ns, arrival_scv, service_scv, workers + 1),
        sum_up(replay(arrival, held, workers)),
        sum_up(replay(arrival, held, workers + 1)),
    )


def _little(spans: StageSpans, seen: Visits, waits: Any, time_ns: float, *, sampled: bool) -> Little:
    queue = spans.chosen(spans.stage == QUEUE)
    waited = float((queue.end_ns - queue.start_ns) @ queue.weight)
    mean_wait = float(waits @ seen.weight / seen.weight.sum())
    served = float(seen.weight.sum()) * (1 + seen.unqueued / len(seen))
    found = None if sampled else seen_on_arrival(spans)
    return Little(
        in_queue=waited / time_ns,
        expected=served / time_ns * mean_wait,
        found_said=found[0] if found else None,
        found_spans=found[1] if found else None,
    )


def _waits_json(waits: Waits | None) -> dict[str, Any] | None:
    if waits is None:
        return None
    return {
        "mean_ms": waits.mean / NS_PER_MS,
        "p99_ms": waits.p99 / NS_PER_MS,
        "mean_interval_ms": _ms(waits.mean_interval),
        "p99_interval_ms": waits.p99_interval and _ms((waits.p99_interval.low, waits.p99_interval.high)),
    }


def _ms(interval: tuple[float | None, float | None] | None) -> list[float | None] | None:
    return None if interval is None else [None if end is None else end / NS_PER_MS for end in interval]
