"""The injected causes. Each function sets one up of a wanted size, or gives None where the pipeline has no room for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from testkit.simulator.effects import Stretches, contended, is_within, later, paused, slower
from testkit.simulator.engine import Effect, Outcome
from testkit.simulator.labels import ROOT, Column
from testkit.simulator.noise import Floats
from testkit.simulator.pipeline import Pipeline, with_hosts
from testkit.simulator.traffic import Draws, Key, at_rate
from testkit.simulator.truth import Accepted, Truth, same_hosts

LEAST_FACTOR, MOST_FACTOR = 1.3, 5.0
# Of GPUs that are not held back: the lowest clock and the highest temperature (encode.py). What lies beyond is the cause.
FULL_CLOCK_MHZ, COOL_CELSIUS = 1680.0, 64.5
LEAST_PERIOD_MS, MOST_PERIOD_MS = 512.0, 30_000.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a cause is made for: a pipeline and its run without the cause. `extra_ms` is wanted for an affected request."""

    rng: np.random.Generator
    pipeline: Pipeline
    draws: Draws
    plain: Outcome
    extra_ms: float

    def pick(self, keys: list[Key], **by: object) -> tuple[Key, float] | None:
        """Choose a stage that grows by `extra_ms` if it is 1.3 to 5 times as slow, and that factor."""
        fitting = []
        for key in keys:
            factor = 1 + self.extra_ms / float(self.plain.own_ms[key].mean())
            if LEAST_FACTOR <= factor <= MOST_FACTOR:
                fitting.append((key, factor))
        return fitting[int(self.rng.integers(0, len(fitting)))] if fitting else None

    def stages(self, *, stations: bool | None = None) -> list[Key]:
        """All stages; those of stations, or those outside."""
        return [
            (number, stage.stage)
            for number, service in enumerate(self.pipeline.services)
            for stage in service.stages()
            if stations is None or (service.station is not None and stage in service.station.stages()) == stations
        ]

    def some_hosts(self, number: int, most: float = 0.3) -> set[int] | None:
        """Choose a host or two of a service, with 3 % to `most` of its traffic."""
        order = self.rng.permutation(len(self.pipeline.services[number].hosts)).tolist()
        for hosts in (set(order[: int(self.rng.integers(1, 3))]), {order[0]}):
            if 0.03 <= self.traffic(number, hosts) <= most and len(hosts) < len(order):
                return hosts
        return None

    def traffic(self, number: int, hosts: set[int]) -> float:
        """Share of a service's requests that these hosts get."""
        return float(np.isin(self.draws.hosts[number], list(hosts)).mean())

    def truth(self, kind: str, variant: str, key: Key, conditions: tuple[Accepted, ...], **more: object) -> Truth:
        """Describe a cause at a stage."""
        return Truth(kind, variant, key, key[1], (self.pipeline.services[key[0]].name,), conditions, **more)

    def places(self, key: Key) -> tuple[str, ...]:
        """Where a condition on the hosts of a stage may be said to hold."""
        service = self.pipeline.services[key[0]]
        return tuple({service.name, key[1], "network"} | {stage.stage for stage in service.stages()} | {"queue"})


@dataclass(frozen=True, slots=True)
class Cause:
    """An injected cause and all that shows of it."""

    truth: Truth
    effects: Mapping[Key, list[Effect]] = field(default_factory=dict)
    workers: Mapping[tuple[int, int], int] = field(default_factory=dict)
    arrivals_ms: Floats | None = None
    columns: tuple[Column, ...] = ()
    pipeline: Pipeline | None = None  # as its hosts name themselves with the cause
    throttled: tuple[int, frozenset[int], Stretches] | None = None  # service, hosts, when
    rollout: tuple[int, float, str] | None = None  # service, from when on, which version


def slow_stage(setting: Setting) -> Cause | None:
    """A stage is slow for a part of the requests: at random, or for one value of an attribute of the request."""
    found = setting.pick(setting.stages())
    if not found:
        return None
    key, factor = found
    share = float(setting.rng.uniform(0.03, 0.25))
    hit = setting.rng.random(setting.draws.count) < share
    effects = {key: [slower(factor, requests=hit.tolist())]}
    if setting.rng.random() < 0.35:
        return Cause(setting.truth("slow_stage", "random", key, ()), effects)
    name, slow, others = (
        ("http.route", "/v2/rerank", ("/v1/rank", "/v1/search", "/v1/chat")),
        ("tenant.id", "tenant-77", tuple(f"tenant-{n}" for n in range(1, 13))),
        ("app.ranking.strategy", "deep", ("wide", "fast")),
        ("app.index.partition", "p5", tuple(f"p{n}" for n in range(5))),
    )[int(setting.rng.integers(0, 4))]
    values = [
        slow if h else others[n] for h, n in zip(hit, setting.rng.integers(0, len(others), len(hit)), strict=True)
    ]
    place = ROOT if name in ("http.route", "tenant.id") else key
    return Cause(
        setting.truth("slow_stage", name, key, (Accepted(name, (slow,)),)),
        effects,
        columns=(Column(place, name, values),),
    )


def slow_hardware(setting: Setting) -> Cause | None:
    """All hosts of one type are slow in a stage of their station."""
    found = setting.pick(setting.stages(stations=True))
    if not found:
        return None
    key, factor = found
    service = setting.pipeline.services[key[0]]
    types = sorted({host.hardware for host in service.hosts})
    for slow in setting.rng.permutation(types).tolist():
        hosts = {n for n, host in enumerate(service.hosts) if host.hardware == slow}
        if 0.03 <= setting.traffic(key[0], hosts) <= 0.3:
            conditions = same_hosts(service, hosts, setting.places(key))
            truth = setting.truth("slow_hardware", "type", key, conditions, hardware=slow)
            return Cause(truth, {key: [slower(factor, hosts=hosts)]})
    return None


def slow_version(setting: Setting) -> Cause | None:
    """A version is slow: on some hosts (a canary), or on all from a point in time on."""
    found = setting.pick(setting.stages())
    if not found:
        return None
    key, factor = found
    service = setting.pipeline.services[key[0]]
    major, minor, patch = map(int, service.hosts[0].version.split("."))
    new = f"{major}.{minor + 1}.{patch}"
    if setting.rng.random() < 0.5:
        hosts = setting.some_hosts(key[0])
        if not hosts:
            return None
        renamed = tuple(
            replace(host, version=new, labels=tuple((k, f"v{new}" if k == "container.image.tag" else v) for k, v in host.labels))
            if n in hosts else host
            for n, host in enumerate(service.hosts)
        )  # fmt: skip
        pipeline = with_hosts(setting.pipeline, key[0], renamed)
        conditions = same_hosts(pipeline.services[key[0]], hosts, setting.places(key))
        truth = setting.truth("slow_version", "canary", key, conditions)
        return Cause(truth, {key: [slower(factor, hosts=hosts)]}, pipeline=pipeline)
    begins_ms = setting.draws.length_ms * float(setting.rng.uniform(0.7, 0.95))
    late = (setting.draws.arrivals_ms >= begins_ms).tolist()
    places = setting.places(key)
    conditions = tuple(
        Accepted(name, values, places=places)
        for name, values in (("version", (new,)), ("container.image.tag", (f"v{new}",)), ("time", ()))
    )
    truth = setting.truth("slow_version", "rollout", key, conditions)
    return Cause(truth, {key: [slower(factor, requests=late)]}, rollout=(key[0], begins_ms, new))


def batch_effect(setting: Setting) -> Cause | None:
    """Batches from a size on cost more."""
    keys = [k for k in setting.stages(stations=True) if setting.plain.batch[k[0]].mean() > 1.3 and k[1] != "decode"]
    found = setting.pick(keys)
    if not found:
        return None
    key, factor = found
    sizes = setting.plain.batch[key[0]]
    least = int(np.ceil(np.quantile(sizes, float(setting.rng.uniform(0.75, 0.96))) + 0.5))
    if not 0.02 <= (sizes >= least).mean() <= 0.3:
        return None
    conditions = (
        Accepted("tailsight.batch.size", side="high", pivot=float(np.median(sizes)) + 0.5, places=setting.places(key)),
    )
    truth = setting.truth("batch_size", f"from {least}", key, conditions)
    return Cause(truth, {key: [slower(factor, applies=lambda moment: moment.batch >= least)]})


def queue_build_up(setting: Setting) -> Cause | None:
    """Bursts beyond what the workers can do, or one host with too few workers. The pipeline is staffed for it (case.py)."""
    rng, pipeline, draws = setting.rng, setting.pipeline, setting.draws
    stations = [n for n, service in enumerate(pipeline.services) if service.station and not service.station.batching]
    if not stations:
        return None
    number = max(stations, key=lambda n: sum(s.mean_ms for s in pipeline.services[n].station.stages()))
    service = pipeline.services[number]
    key, places = (number, "queue"), setting.places((number, "queue"))
    work_ms = sum(float(setting.plain.own_ms[number, s.stage].mean()) for s in service.station.stages())
    depth = (Accepted("tailsight.queue.depth", side="high", pivot=1.0, places=places), _in_flight(places))
    if rng.random() < 0.5:
        for host in rng.permutation(len(service.hosts)).tolist():
            share = setting.traffic(number, {host})
            busy = share * draws.count / draws.length_ms * work_ms
            few = max(1, int(np.floor(busy / 0.75)))
            if share <= 0.35 and 0.72 <= busy / few <= 0.97 and few < service.hosts[host].workers:
                same = same_hosts(service, {host}, places)
                return Cause(
                    setting.truth("queue_build_up", "workers", key, same + depth), workers={(number, host): few}
                )
        return None
    share, times = float(rng.uniform(0.08, 0.28)), float(rng.uniform(3, 6))
    busy = draws.count / draws.length_ms * work_ms / sum(host.workers for host in service.hosts)
    if busy * times < 1.2:
        return None
    burst_ms = float(rng.uniform(2, 4)) * setting.extra_ms / (busy * times - 1)
    total_ms = draws.length_ms * share / (times * (1 - share) + share)
    count = int(np.clip(round(total_ms / burst_ms), 2, 40))
    grid = np.linspace(0, draws.length_ms, 20_001)
    rate = np.ones(len(grid))
    for start in rng.uniform(0, draws.length_ms - burst_ms, count):
        rate[(grid >= start) & (grid < start + burst_ms)] = times
    arrivals = at_rate(rng, draws.count, grid, rate)
    active = Accepted("threads.active", side="high", pivot=2.0, places=places)
    truth = setting.truth("queue_build_up", "bursts", key, (*depth, active, Accepted("time")))
    return Cause(truth, arrivals_ms=arrivals)


def _in_flight(places: tuple[str, ...]) -> Accepted:
    """That many are at work at once may also be counted from the spans, whatever an attribute says of it."""
    return Accepted("requests in flight", side="high", pivot=1.0, places=places)


def periodic_pause(setting: Setting) -> Cause | None:
    """The process of a stage stops at equal distances: on all hosts at once, or on one."""
    rng = setting.rng
    keys = [key for key in setting.stages() if setting.plain.own_ms[key].mean() >= 3]
    if not keys:
        return None
    key = keys[int(rng.integers(0, len(keys)))]
    hosts = setting.some_hosts(key[0], 0.5) if rng.random() < 0.4 else None
    traffic = setting.traffic(key[0], hosts) if hosts else 1.0
    pause_ms = setting.extra_ms * float(rng.uniform(1.2, 1.8))
    share = float(rng.uniform(0.02, 0.15))
    period_ms = max(LEAST_PERIOD_MS, (pause_ms + setting.plain.own_ms[key].mean()) / share * traffic)
    if period_ms > min(MOST_PERIOD_MS, setting.draws.length_ms / 25):
        return None
    phase_ms = float(rng.uniform(0, period_ms))
    pauses = (pause_ms * rng.uniform(0.85, 1.15, 97)).tolist()
    conditions = same_hosts(setting.pipeline.services[key[0]], hosts, setting.places(key)) if hosts else ()
    truth = setting.truth(
        "periodic_pause", "one host" if hosts else "all hosts", key, conditions, period_ms=float(period_ms)
    )
    return Cause(truth, {key: [paused(float(period_ms), phase_ms, pauses, hosts)]})


def thermal_throttling(setting: Setting) -> Cause | None:
    """GPUs of some hosts are held back in stretches of time."""
    found = setting.pick([key for key in setting.stages(stations=True) if key[1] == "gpu_kernel"])
    if not found:
        return None
    key, factor = found
    number = key[0]
    hosts = setting.some_hosts(number, 0.6)
    if not hosts or factor > 3.5:
        return None
    length_ms, count = setting.draws.length_ms, int(setting.rng.integers(3, 8))
    part = float(setting.rng.uniform(0.1, 0.45))
    starts = (np.arange(count) + setting.rng.uniform(0, 1 - part, count)) * length_ms / count
    stretches = [(float(start), float(start) + part * length_ms / count) for start in starts]
    variant = str(setting.rng.choice(("attribute", "clock", "attribute and metrics", "metrics")))
    places = setting.places(key)
    at_ms = setting.draws.arrivals_ms
    held = np.array([is_within(stretches, t) for t in at_ms])
    if held.mean() < 0.03 or part * length_ms / count < 4000:  # devices are looked at once a second
        return None
    conditions = (
        Accepted("hw.gpu.throttled", ("1", "1.0", "true", "yes"), places=places),
        Accepted("hw.gpu.throttle_reasons", (), places=places),
        Accepted("hw.gpu.clock.graphics", side="low", pivot=FULL_CLOCK_MHZ, places=places),
        Accepted("hw.temperature", side="high", pivot=COOL_CELSIUS, places=places),
    )
    truth = setting.truth("thermal_throttling", variant, key, conditions)
    return Cause(
        truth,
        {key: [slower(factor, hosts=hosts, stretches=stretches)]},
        throttled=(number, frozenset(hosts), stretches),
    )


def lock_contention(setting: Setting) -> Cause | None:
    """A stage grows with the number of requests that are in it."""
    keys = [
        key for key in setting.stages(stations=True) if setting.plain.active[key[0]].max() > 3 and key[1] != "decode"
    ]
    if not keys:
        return None
    key = keys[int(setting.rng.integers(0, len(keys)))]
    active = setting.plain.active[key[0]]
    beyond = float(np.quantile(active, float(setting.rng.uniform(0.8, 0.93))))
    high = float(np.quantile(active, 0.97))
    each_ms = setting.extra_ms / max(1.0, high - beyond + 1)
    if each_ms > 2 * setting.plain.own_ms[key].mean():
        return None
    conditions = (
        Accepted("threads.active", side="high", pivot=float(np.median(active)) + 0.5, places=setting.places(key)),
    )
    conditions += (_in_flight(setting.places(key)),)
    return Cause(setting.truth("lock_contention", "active", key, conditions), {key: [contended(beyond, each_ms)]})


def cache_misses(setting: Setting) -> Cause | None:
    """A stage is slow where its cache has not what it looks for."""
    found = setting.pick(setting.stages(stations=False))
    if not found:
        return None
    key, factor = found
    missed = (setting.rng.random(setting.draws.count) < float(setting.rng.uniform(0.02, 0.25))).tolist()
    name, hit, miss = (("cache.hit", True, False), ("app.embedding_cache.status", "hit", "miss"))[
        int(setting.rng.integers(0, 2))
    ]
    column = Column(key, name, [miss if m else hit for m in missed])
    conditions = (Accepted(name, (str(miss), "0") if miss is False else (str(miss),)),)
    truth = setting.truth("cache_misses", name, key, conditions)
    return Cause(truth, {key: [slower(factor, requests=missed)]}, columns=(column,))


def network_delay(setting: Setting) -> Cause | None:
    """The way to and from one host is long."""
    if len(setting.pipeline.services) < 2:
        return None
    number = int(setting.rng.integers(1, len(setting.pipeline.services)))
    hosts = setting.some_hosts(number)
    if not hosts or len(hosts) > 1:
        return None
    key = (number, "network")
    extra_ms = (setting.extra_ms * np.exp(setting.rng.normal(0, 0.2, setting.draws.count))).tolist()
    service = setting.pipeline.services[number]
    caller = setting.pipeline.services[setting.pipeline.caller(number)]
    same = same_hosts(service, hosts, setting.places(key))
    [host] = hosts
    address = Accepted("network.peer.address", (service.hosts[host].name,))
    truth = replace(
        setting.truth("network_delay", "callee", key, (*same, address)), services=(service.name, caller.name)
    )
    return Cause(truth, {key: [later(extra_ms, hosts)]})


MAKERS: dict[str, Callable[[Setting], Cause | None]] = {
    "slow_stage": slow_stage,
    "slow_hardware": slow_hardware,
    "slow_version": slow_version,
    "batch_size": batch_effect,
    "queue_build_up": queue_build_up,
    "periodic_pause": periodic_pause,
    "thermal_throttling": thermal_throttling,
    "lock_contention": lock_contention,
    "cache_misses": cache_misses,
    "network_delay": network_delay,
}
