"""A discrete-event simulation of a pipeline: requests, workers, queues, batches and calls, on one clock in milliseconds.

A request is a generator that yields the time at which it goes on, or None where somebody else will wake it. Waiting
comes from here alone: workers are finite, and who finds none free stands in line (first come, first served).
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testkit.simulator.noise import DRIFT_STEP_MS, Floats
from testkit.simulator.pipeline import Pipeline, Service, Stage, Station
from testkit.simulator.traffic import Draws, Key

Effect = Callable[["Moment"], float]
Process = Generator[float | None, None, float]
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5
MEAN_TOKENS = 453.0  # of traffic.draw: exp(log 400 + 0.5² / 2)
GAP_MS = 0.03  # between a service's stages: nobody measures it


@dataclass(slots=True)
class Moment:
    """What an effect may know when a stage begins: request, host, time, its work without the effect, and the company."""

    request: int
    host: int
    at_ms: float
    work_ms: float
    batch: int = 1
    active: int = 1  # requests in work on the host, this one included


@dataclass(slots=True)
class Recorded:
    """A span, not yet encoded; `said` are attributes that only the simulation knows."""

    request: int
    id: int
    parent: int
    service: int
    host: int
    kind: int
    name: str
    stage: str
    start_ms: float
    end_ms: float
    said: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a simulation gives: each request's duration, each stage's own time by request, what batches and company were."""

    duration_ms: Floats
    own_ms: dict[Key, Floats]
    batch: dict[int, Floats]  # by service
    active: dict[int, Floats]
    spans: list[Recorded]


@dataclass(slots=True)
class _Machine:
    free: int
    workers: int
    waiting: deque[Process] = field(default_factory=deque)
    forming: list[tuple[float, int, Process]] = field(default_factory=list)  # a batch: since when, whose, who sleeps


class Simulation:
    """One run. `effects` are what a cause adds to a stage, in milliseconds; `workers` replaces those of (service, host)."""

    def __init__(
        self, pipeline: Pipeline, draws: Draws, effects: Mapping[Key, list[Effect]] | None = None,
        workers: Mapping[tuple[int, int], int] | None = None, *, records: bool = False,
    ) -> None:  # fmt: skip
        self._services = pipeline.services
        self._audits = pipeline.has_audit
        self._draws = draws
        self._effects = effects or {}
        self._records = records
        self._machines = [
            [
                _Machine(c, c)
                for c in ((workers or {}).get((s, h), host.workers) for h, host in enumerate(service.hosts))
            ]
            for s, service in enumerate(self._services)
        ]
        self._heap: list[tuple[float, int, Process]] = []
        self._numbers = itertools.count()
        self._ids = itertools.count(1)
        self._now = 0.0
        self._current: Process
        self._batches: dict[Process, tuple[float, float, float, int]] = {}
        self._tokens = (draws.tokens / MEAN_TOKENS).tolist()
        self._output = (draws.output_tokens / 130.0).tolist()
        count = draws.count
        keys = [(s, stage.stage) for s, service in enumerate(self._services) for stage in service.stages()]
        keys += [(s, name) for s in range(len(self._services)) for name in ("queue", "network")]
        self._own = {key: [0.0] * count for key in keys}
        self._batch = {s: [1] * count for s in range(len(self._services))}
        self._active = {s: [1] * count for s in range(len(self._services))}
        self._duration = [0.0] * count
        self._spans: list[Recorded] = []

    def run(self) -> Outcome:
        """Simulate until every request has ended."""
        for request, at_ms in enumerate(self._draws.arrivals_ms.tolist()):
            self._wake(at_ms, self._request(request, at_ms))
        while self._heap:
            self._now, _, self._current = heapq.heappop(self._heap)
            try:
                goes_on_ms = next(self._current)
            except StopIteration:
                continue
            if goes_on_ms is not None:
                self._wake(goes_on_ms, self._current)
        return Outcome(
            np.array(self._duration),
            {key: np.array(values) for key, values in self._own.items()},
            {s: np.array(values, dtype=float) for s, values in self._batch.items()},
            {s: np.array(values, dtype=float) for s, values in self._active.items()},
            self._spans,
        )

    def _wake(self, at_ms: float, process: Process) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._numbers), process))

    # --- a request -----------------------------------------------------------------------------------------------

    def _request(self, request: int, at_ms: float) -> Process:
        root = next(self._ids)
        end_ms = yield from self._visit(request, 0, at_ms, root, 0)
        self._duration[request] = end_ms - at_ms
        if self._audits:
            took_ms = 0.3 * (end_ms - at_ms)
            self._record(request, root, 0, CONSUMER, "audit", "audit", end_ms - 0.1, end_ms + took_ms, {})
        return end_ms

    def _visit(self, request: int, number: int, at_ms: float, span: int, parent: int) -> Process:
        service = self._services[number]
        host = self._draws.hosts[number][request]
        now_ms = at_ms
        for stage in service.before:
            now_ms = self._local(request, number, host, stage, now_ms, span)
        if service.station:
            now_ms = yield from self._serve(request, number, host, service, service.station, now_ms, span)
        for group in service.calls:
            if len(group) == 1:
                now_ms = yield from self._call(request, number, host, group[0], now_ms, span)
            else:
                now_ms = yield from self._fan_out(request, number, host, group, now_ms, span)
        for stage in service.after:
            now_ms = self._local(request, number, host, stage, now_ms, span)
        now_ms += GAP_MS
        self._record(request, parent, number, SERVER, f"POST /{service.name}", "", at_ms, now_ms, {}, span)
        return now_ms

    def _call(self, request: int, caller: int, host: int, number: int, at_ms: float, parent: int) -> Process:
        callee = self._services[number]
        client, server = next(self._ids), next(self._ids)
        way_ms = callee.network_ms * self._draws.noise[number, "network"][request]
        moment = Moment(request, self._draws.hosts[number][request], at_ms, way_ms)
        way_ms += sum(effect(moment) for effect in self._effects.get((number, "network"), ()))
        self._own[number, "network"][request] += way_ms
        end_ms = yield from self._visit(request, number, at_ms + way_ms / 2, server, client)
        end_ms += way_ms / 2
        said = {"server.address": callee.name, "network.peer.address": callee.hosts[moment.host].name}
        self._record(request, parent, caller, CLIENT, f"call {callee.name}", "network", at_ms, end_ms, said, client)
        return end_ms

    def _fan_out(
        self, request: int, caller: int, host: int, group: tuple[int, ...], at_ms: float, parent: int
    ) -> Process:
        sleeper, ends = self._current, []

        def branch(number: int) -> Process:
            end_ms = yield from self._call(request, caller, host, number, at_ms, parent)
            yield end_ms
            ends.append(end_ms)
            if len(ends) == len(group):
                self._wake(self._now, sleeper)
            return end_ms

        for number in group:
            self._wake(at_ms, branch(number))
        yield None
        return max(ends)

    # --- work ----------------------------------------------------------------------------------------------------

    def _local(self, request: int, number: int, host: int, stage: Stage, at_ms: float, parent: int) -> float:
        start_ms = at_ms + GAP_MS
        end_ms = start_ms + self._work(request, number, host, stage, start_ms)
        self._record(request, parent, number, INTERNAL, stage.stage, stage.stage, start_ms, end_ms, {})
        return end_ms

    def _work(
        self, request: int, number: int, host: int, stage: Stage, at_ms: float, *, factor: float = 1.0, batch: int = 1,
        active: int = 1, members: tuple[int, ...] = (),
    ) -> float:  # fmt: skip
        work_ms = stage.mean_ms * factor * self._draws.noise[number, stage.stage][request]
        drifts = self._draws.drift[number, host]
        work_ms *= drifts[min(int(at_ms / DRIFT_STEP_MS), len(drifts) - 1)]
        if stage.tokens:
            tokens = max(self._tokens[member] for member in members or (request,))
            work_ms *= 1 - stage.tokens + stage.tokens * tokens
        if stage.stage == "decode":
            work_ms *= self._output[request]
        effects = self._effects.get((number, stage.stage))
        if effects:
            moment = Moment(request, host, at_ms, work_ms, batch, active)
            work_ms += sum(effect(moment) for effect in effects)
        for member in members or (request,):
            self._own[number, stage.stage][member] += work_ms
        return work_ms

    def _serve(
        self, request: int, number: int, host: int, service: Service, station: Station, at_ms: float, parent: int
    ) -> Process:
        came_ms = at_ms + GAP_MS
        yield came_ms
        machine = self._machines[number][host]
        ahead = len(machine.waiting) + len(machine.forming)
        if station.batching:
            machine.forming.append((came_ms, request, self._current))
            self._wake(came_ms + station.batching.timeout_ms, self._nudge(number, host, station))
            self._start_batch(number, host, station)
            yield None
            start_ms, launched_ms, end_ms, batch = self._batches.pop(self._current)
            decoded_ms, active = end_ms, machine.workers - machine.free
        else:
            if machine.free:
                machine.free -= 1
            else:
                machine.waiting.append(self._current)
                yield None
            start_ms, batch, active = self._now, 1, machine.workers - machine.free
            speed = service.hosts[host].speed
            launched_ms = end_ms = start_ms + self._work(
                request, number, host, station.main, start_ms, factor=speed, active=active
            )
            if station.kernel:
                end_ms += self._work(request, number, host, station.kernel, launched_ms, factor=speed, active=active)
            decoded_ms = end_ms
            if station.decode:
                decoded_ms += self._work(request, number, host, station.decode, end_ms, factor=speed, active=active)
            yield decoded_ms
            if machine.waiting:
                self._wake(self._now, machine.waiting.popleft())
            else:
                machine.free += 1
        self._own[number, "queue"][request] += start_ms - came_ms
        self._batch[number][request], self._active[number][request] = batch, active
        if self._records:
            depth = {"tailsight.queue.depth": ahead}
            self._record(request, parent, number, INTERNAL, "queue", "queue", came_ms, start_ms, depth)
            said: dict[str, Any] = {"tailsight.batch.size": batch} if station.batching else {"threads.active": active}
            main, name = next(self._ids), station.main.stage
            self._record(request, parent, number, INTERNAL, name, name, start_ms, end_ms, said, main)
            if station.kernel:
                self._record(request, main, number, INTERNAL, "forward", "gpu_kernel", launched_ms, end_ms, dict(said))
            if station.decode:
                stream = {"tailsight.stream.items": int(self._draws.output_tokens[request])}
                self._record(request, parent, number, INTERNAL, "decode", "decode", end_ms, decoded_ms, stream)
        return decoded_ms

    # --- batches -------------------------------------------------------------------------------------------------

    # generators without a pause: all that stands in the heap is one

    def _nudge(self, number: int, host: int, station: Station) -> Process:
        self._start_batch(number, host, station)
        return self._now
        yield  # a generator, as all processes are

    def _start_batch(self, number: int, host: int, station: Station) -> None:
        machine, batching = self._machines[number][host], station.batching
        assert batching is not None
        forming = machine.forming
        ripe = forming and (len(forming) >= batching.most or forming[0][0] + batching.timeout_ms <= self._now + 1e-9)
        if not ripe or not machine.free:
            return
        members, machine.forming = forming[: batching.most], forming[batching.most :]
        machine.free -= 1
        requests = tuple(request for _, request, _ in members)
        size, start_ms = len(members), self._now
        factor = self._services[number].hosts[host].speed * (
            batching.fixed + (1 - batching.fixed) * size / batching.most
        )
        launched_ms = end_ms = start_ms + self._work(
            requests[0], number, host, station.main, start_ms, factor=factor, batch=size, members=requests
        )
        if station.kernel:
            end_ms += self._work(
                requests[0], number, host, station.kernel, launched_ms, factor=factor, batch=size, members=requests
            )
        for _, _, process in members:
            self._batches[process] = (start_ms, launched_ms, end_ms, size)
            self._wake(end_ms, process)
        self._wake(end_ms, self._finish(number, host, station))

    def _finish(self, number: int, host: int, station: Station) -> Process:
        self._machines[number][host].free += 1
        self._start_batch(number, host, station)
        return self._now
        yield

    # --- spans ---------------------------------------------------------------------------------------------------

    def _record(
        self, request: int, parent: int, service: int, kind: int, name: str, stage: str, start_ms: float, end_ms: float,
        said: dict[str, Any], span: int = 0,
    ) -> None:  # fmt: skip
        if self._records:
            host = self._draws.hosts[service][request]
            span = span or next(self._ids)
            self._spans.append(
                Recorded(request, span, parent, service, host, kind, name, stage, start_ms, end_ms, said)
            )
