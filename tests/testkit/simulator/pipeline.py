"""What is simulated: services on hosts, their stages, who calls whom. Plain data, and a generator of realistic ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from testkit.simulator.noise import Noise, random_noise

HARDWARE = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA L4", "NVIDIA A10G", "AMD EPYC 9575F")
CPU = "AMD EPYC 9575F"
FRONTS = ("gateway", "api", "edge", "bff")
NAMES = (
    "ranker",
    "retriever",
    "embedder",
    "llm",
    "guard",
    "features",
    "speech",
    "vision",
    "reranker",
    "profile",
    "ads",
)
LOCAL = ("preprocess", "serialize", "tokenize", "feature_lookup", "retrieve", "validate", "authorize", "render_prompt")
AFTER = ("postprocess", "detokenize", "format_response", "log_features")
SHAPES = ("sequential", "parallel", "batched", "streaming")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage; `mean_ms` of its own work, `tokens` the part of it that grows with the input's length (0 to 1)."""

    stage: str
    mean_ms: float
    noise: Noise
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs one service. `speed` multiplies the times of its station, `weight` is its share of traffic."""

    name: str
    hardware: str
    speed: float
    version: str
    weight: float
    workers: int
    labels: tuple[tuple[str, str], ...]
    clock_ms: float = 0.0

    def says(self) -> dict[str, str]:
        """Everything that its spans say about where they ran, as the store names it."""
        return {"host": self.name, "hardware": self.hardware, "version": self.version, **dict(self.labels)}


@dataclass(frozen=True, slots=True)
class Batching:
    """Requests wait until there are `most` or `timeout_ms` has passed; a batch costs fixed + (1 − fixed) · size ÷ most."""

    most: int
    timeout_ms: float
    fixed: float


@dataclass(frozen=True, slots=True)
class Station:
    """Where requests wait for a worker, and what the worker does: `main` with `kernel` in it, then `decode`."""

    main: Stage
    kernel: Stage | None = None
    decode: Stage | None = None
    batching: Batching | None = None

    def stages(self) -> tuple[Stage, ...]:
        """Its stages in the order of their work."""
        return tuple(stage for stage in (self.main, self.kernel, self.decode) if stage)


@dataclass(frozen=True, slots=True)
class Service:
    """A service: `before`, its station, calls (groups in a row, members of a group at once), `after`."""

    name: str
    hosts: tuple[Host, ...]
    before: tuple[Stage, ...]
    station: Station | None
    calls: tuple[tuple[int, ...], ...]
    after: tuple[Stage, ...]
    network_ms: float  # of a call to it, both ways

    def stages(self) -> tuple[Stage, ...]:
        """All its stages but network and queue."""
        return (*self.before, *(self.station.stages() if self.station else ()), *self.after)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Services, the first is where requests enter."""

    services: tuple[Service, ...]
    shape: str
    drift_sigma: float
    drift_s: float
    diurnal: float  # amplitude of the load's wave, 0 to 1
    bursty: bool
    has_audit: bool  # a consumer's span that outlives the request
    lost_share: float  # of spans that never arrive

    def spans_a_request(self) -> int:
        """How many spans a request makes."""
        return sum(2 + len(s.stages()) + (s.station is not None) for s in self.services) - 1 + self.has_audit

    def caller(self, service: int) -> int:
        """Who calls a service."""
        return next(n for n, each in enumerate(self.services) if any(service in group for group in each.calls))


def random_pipeline(
    rng: np.random.Generator, *, shape: str | None = None, least_services: int = 1, most_services: int = 8,
    with_kernel: bool = False, unlimited: bool = False,
) -> Pipeline:  # fmt: skip
    """Make a pipeline. `with_kernel` gives its station a GPU stage; `unlimited` leaves out whatever could make wait."""
    shape = shape or str(rng.choice(SHAPES, p=(0.4, 0.25, 0.15, 0.2)))
    least = max(least_services, 3 if shape == "parallel" else 1)
    weights = np.array([1.0 if least <= count <= most_services else 0.0 for count in range(1, 9)])
    weights[:5] *= 3  # most real ones are short
    count = int(rng.choice(np.arange(1, 9), p=weights / weights.sum()))
    calls = _calls(rng, count, parallel=shape == "parallel")
    names = [str(rng.choice(FRONTS)), *map(str, rng.choice(NAMES, count - 1, replace=False))]
    heavy = int(rng.integers(0 if count == 1 else 1, count))  # the one with the model
    scale = float(rng.choice((1.0, 2.0, 4.0)))
    stations = {heavy} | {n for n in range(1, count) if rng.random() < 0.25}
    services = []
    for number in range(count):
        station = None
        if number in stations:
            station = _station(
                rng, scale, batched=shape == "batched" and number == heavy,
                streaming=shape == "streaming" and number == heavy,
                with_kernel=number == heavy and (with_kernel or rng.random() < 0.5), is_heavy=number == heavy,
            )  # fmt: skip
        slim = count > 4
        before = tuple(
            Stage(str(name), float(rng.uniform(1, 6) * scale), random_noise(rng))
            for name in rng.choice(
                LOCAL, 0 if slim and station else 1 if slim else int(rng.integers(1, 3)), replace=False
            )
        )
        after = tuple(
            Stage(str(name), float(rng.uniform(0.8, 5) * scale), random_noise(rng))
            for name in rng.choice(AFTER, 0 if slim and number else 1, replace=False)
        )
        hosts = _hosts(rng, names[number], gpu=station is not None, few=shape == "batched" and number == heavy)
        services.append(
            Service(names[number], hosts, before, station, calls[number], after, float(rng.uniform(0.3, 2.0) * scale))
        )
    made = Pipeline(
        services=tuple(services), shape=shape,
        drift_sigma=float(rng.choice((0.0, 0.04, 0.08))), drift_s=float(rng.uniform(1, 6)),
        diurnal=float(rng.choice((0.0, 0.3, 0.5))), bursty=bool(rng.random() < 0.25),
        has_audit=bool(rng.random() < 0.15), lost_share=0.002 if rng.random() < 0.15 else 0.0,
    )  # fmt: skip
    return replace(made, bursty=False, services=tuple(map(_endless, made.services))) if unlimited else made


def staffed(pipeline: Pipeline, rate_s: float, load: dict[int, float]) -> Pipeline:
    """Give every host so many workers that they are busy for `load` of the time (by service; 0.12 where it says nothing)."""
    services = []
    for number, service in enumerate(pipeline.services):
        if service.station is None or service.hosts[0].workers >= 10**6:
            services.append(service)
            continue
        work_ms = sum(stage.mean_ms for stage in service.station.stages())
        each = service.station.batching.most / 3 if service.station.batching else 1.0
        hosts = []
        for host in service.hosts:
            busy = rate_s * host.weight * work_ms * host.speed / 1000 / each
            hosts.append(
                replace(host, workers=max(1 if number in load else 2, math.ceil(busy / load.get(number, 0.12))))
            )
        services.append(replace(service, hosts=tuple(hosts)))
    return replace(pipeline, services=tuple(services))


def with_hosts(pipeline: Pipeline, number: int, hosts: tuple[Host, ...]) -> Pipeline:
    """Put a service on other hosts."""
    services = list(pipeline.services)
    services[number] = replace(services[number], hosts=hosts)
    return replace(pipeline, services=tuple(services))


def _endless(service: Service) -> Service:
    return replace(service, hosts=tuple(replace(host, workers=10**6) for host in service.hosts))


def _calls(rng: np.random.Generator, count: int, *, parallel: bool) -> list[tuple[tuple[int, ...], ...]]:
    callees: list[list[int]] = [[] for _ in range(count)]
    for number in range(1, count):
        first = 0 if parallel and number <= 2 else int(rng.integers(max(0, number - 2), number))
        callees[first].append(number)
    return [(tuple(each),) if parallel and each else tuple((one,) for one in each) for each in callees]


def _station(
    rng: np.random.Generator, scale: float, *, batched: bool, streaming: bool, with_kernel: bool, is_heavy: bool
) -> Station:
    work_ms = float(rng.uniform(10, 40) * scale) * (1.0 if is_heavy else 0.5)
    tokens = float(rng.choice((0.0, 0.4, 0.7))) if is_heavy else 0.0
    noise = random_noise(rng)
    decode = Stage("decode", float(rng.uniform(0.8, 2) * work_ms), random_noise(rng)) if streaming else None
    batching = (
        Batching(int(rng.choice((8, 16, 32))), float(rng.uniform(5, 25)), float(rng.uniform(0.5, 0.8)))
        if batched
        else None
    )
    if with_kernel:
        launch = Stage("compute", work_ms * 0.12, random_noise(rng))
        return Station(launch, Stage("gpu_kernel", work_ms * 0.88, noise, tokens), decode, batching)
    return Station(Stage("compute", work_ms, noise, tokens), None, decode, batching)


def _hosts(rng: np.random.Generator, service: str, *, gpu: bool, few: bool) -> tuple[Host, ...]:
    count = int(rng.integers(2, 4)) if few else int(rng.integers(3, 8)) if gpu else int(rng.integers(2, 5))
    weights = rng.dirichlet(np.full(count, 12.0))
    types = [str(name) for name in rng.choice(HARDWARE[:4], int(rng.integers(2, 5)), replace=False)] if gpu else [CPU]
    speeds = dict(zip(types, rng.uniform(0.9, 1.2, len(types)), strict=True))
    version = f"{rng.integers(1, 6)}.{rng.integers(0, 20)}.{rng.integers(0, 10)}"
    hosts = []
    for number in range(count):
        hardware = types[number % len(types)]
        zone = "abc"[int(rng.integers(0, 3))]
        tag = f"{rng.integers(0, 16**6):06x}"
        labels = (
            ("k8s.pod.name", f"{service}-{tag}"),
            ("k8s.node.name", f"node-{tag[:4]}"),
            ("cloud.availability_zone", f"eu-1{zone}"),
            ("host.type", hardware.split()[-1].lower() + ".large"),
            ("os.version", str(rng.choice(("6.1.0-18", "6.5.0-26")))),
            ("container.image.tag", f"v{version}"),
        )
        hosts.append(
            Host(f"{service}-{number}", hardware, float(speeds[hardware]), version, float(weights[number]), 2, labels)
        )
    return tuple(hosts)
