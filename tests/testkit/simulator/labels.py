"""What spans say beside their times: what real services say, and much that has nothing to do with anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from testkit.simulator.pipeline import Pipeline
from testkit.simulator.traffic import Draws

ROOT = (0, "")  # the request's entry span


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute of one stage's spans (or of the entry spans, ROOT): a value by request; None leaves it out."""

    place: tuple[int, str]
    key: str
    values: list[Any]


def _chosen(
    rng: np.random.Generator, count: int, values: tuple[Any, ...], shares: tuple[float, ...] | None = None
) -> list[Any]:
    return [values[n] for n in rng.choice(len(values), count, p=shares)]


def usual(rng: np.random.Generator, pipeline: Pipeline, draws: Draws) -> list[Column]:
    """Attributes that a service of this sort has: lengths follow the input, all else is independent of every duration."""
    count = draws.count
    tenants = np.minimum(rng.zipf(1.6, count), 12)
    columns = [
        Column(ROOT, "http.request.method", ["POST"] * count),
        Column(ROOT, "http.route", _chosen(rng, count, ("/v1/rank", "/v1/search", "/v1/chat"), (0.5, 0.3, 0.2))),
        Column(ROOT, "http.response.status_code", [200] * count),
        Column(ROOT, "tenant.id", [f"tenant-{n}" for n in tenants]),
        Column(ROOT, "user.id", [f"u{n}" for n in np.minimum(rng.zipf(1.3, count), 5000)]),
        Column(ROOT, "session.id", [f"{n:016x}" for n in rng.integers(0, 2**62, count)]),
    ]
    for number, service in enumerate(pipeline.services):
        station = service.station
        if not station:
            continue
        columns.append(Column((number, station.main.stage), "tailsight.model", [f"{service.name}-7b"] * count))
        if any(stage.tokens for stage in station.stages()) or station.decode:
            place = (number, station.main.stage)
            columns.append(Column(place, "gen_ai.usage.input_tokens", [int(n) for n in draws.tokens]))
            columns.append(Column(place, "gen_ai.usage.output_tokens", [int(n) for n in draws.output_tokens]))
            columns.append(
                Column(ROOT, "http.request.body.size", [int(n) for n in draws.tokens * rng.uniform(3.8, 4.4, count)])
            )
    return columns


def distractors(rng: np.random.Generator, pipeline: Pipeline, draws: Draws) -> list[Column]:
    """Attributes without any bearing: few values, many values, numbers, numbers that drift, settings that change in time."""
    count = draws.count
    share = np.arange(count) / count
    places = [(n, stage.stage) for n, service in enumerate(pipeline.services) for stage in service.stages()] + [
        ROOT
    ] * 4
    walk = 400 + np.cumsum(rng.standard_normal(count)) * 4
    changes = np.searchsorted(np.sort(rng.random(int(rng.integers(1, 4)))), share)
    pool: list[tuple[str, list[Any]]] = [
        ("client.platform", _chosen(rng, count, ("ios", "android", "web"), (0.3, 0.45, 0.25))),
        ("app.locale", _chosen(rng, count, ("en", "de", "fr", "ja", "pt", "ar", "hi", "pl"))),
        ("experiment.bucket", _chosen(rng, count, ("control", "treatment"))),
        ("feature.new_ranker", _chosen(rng, count, (True, False), (0.1, 0.9))),
        ("customer.tier", _chosen(rng, count, ("free", "pro", "enterprise"), (0.7, 0.25, 0.05))),
        ("app.retries", _chosen(rng, count, (0, 1), (0.97, 0.03))),
        ("db.shard", [int(n) for n in rng.integers(0, 16, count)]),
        ("gen_ai.request.temperature", [round(float(t), 1) for t in rng.uniform(0, 1.2, count)]),
        ("app.score", [round(float(s), 4) for s in rng.beta(2, 5, count)]),
        ("runtime.heap_mb", [int(m) for m in walk]),
        ("config.revision", [f"r{40 + n}" for n in changes]),
        ("worker.id", [int(n) for n in rng.integers(0, 24, count)]),
        ("document.id", [f"doc-{n}" for n in rng.integers(0, 10**6, count)]),
        ("network.protocol.version", _chosen(rng, count, ("1.1", "2"), (0.15, 0.85))),
        ("app.cache.hit", _chosen(rng, count, (True, False), (0.85, 0.15))),
    ]
    chosen = rng.choice(len(pool), int(rng.integers(5, 11)), replace=False)
    return [Column(places[int(rng.integers(0, len(places)))], *pool[n]) for n in chosen]


def genuine_keys(pipeline: Pipeline) -> frozenset[str]:
    """Keys that durations depend on without any cause: a tail may truly be put down to them."""
    keys: set[str] = set()
    for service in pipeline.services:
        station = service.station
        speeds = {host.speed for host in service.hosts}
        if station is None:
            continue
        if len(speeds) > 1:
            keys |= set(service.hosts[0].says())
        if any(stage.tokens for stage in station.stages()):
            keys |= {"gen_ai.usage.input_tokens", "http.request.body.size"}
        if station.decode:
            # the time to the first chunk is an outcome, not a cause: neither right nor wrong
            keys |= {"gen_ai.usage.output_tokens", "tailsight.stream.items", "gen_ai.response.time_to_first_chunk"}
        if service.hosts[0].workers < 10**6:
            keys |= {"tailsight.queue.depth", "threads.active", "tailsight.batch.size", "time"}
    return frozenset(keys)
