"""Requests of several services with one known cause of their tail, or none: columns for `find_causes`, no store.

Stages are log-normal; one of them has a heavy tail; queues share noise that lasts (AR(1)), arrivals come in waves. Each
stage has hardware, a host and a version, and there are `distractors`: attributes that mean nothing, drawn for each request
or holding for stretches of time.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from tailsight_analysis.causes.causes import Requests
from tailsight_analysis.causes.conditions import Facts, Key, Place, Row, facts_of
from tailsight_analysis.causes.load import load_at

STAGES = ("preprocess", "queue", "compute")
SERVICES = ("front", "ranker", "store")
HARDWARE = np.array(["L4", "A100", "H100"])


def ar1(random: np.random.Generator, count: int, alike: float) -> np.ndarray:
    """Noise of variance 1 whose neighbours correlate."""
    return lfilter([1], [1, -alike], random.normal(0, np.sqrt(1 - alike**2), count))


class Pipeline:
    """Times in milliseconds, `times[place]`, and what is said, to be changed before `finish`."""

    def __init__(self, seed: int, count: int = 4000, distractors: int = 20) -> None:
        self.random = random = np.random.default_rng(seed)
        self.count = count
        self.places = [Place(service, stage) for service in SERVICES for stage in STAGES]
        self.times = {}
        lasting = 0.25 * ar1(random, count, random.choice([0.9, 0.98, 0.995]))
        for place in self.places:
            noise = random.normal(0, random.uniform(0.15, 0.45), count)
            self.times[place] = np.exp(random.normal(1, 0.5) + noise + (lasting if place.stage == "queue" else 0))
        heavy = self.places[random.integers(len(self.places))]
        self.times[heavy] *= 1 + 0.5 * np.minimum(random.pareto(2.5, count), 20)
        self.typical_ms = float(np.median(sum(self.times.values())))
        waves = np.exp(0.4 * ar1(random, count, 0.99))
        self.start_ns = np.cumsum(random.exponential(self.typical_ms * 1e6 / 4, count) / waves).astype(np.int64)
        self.texts, self.numbers = {}, {}
        self.host = {service: random.integers(0, 4, count) for service in SERVICES}
        self.kind = {service: np.array([0, 0, 1, 2]) for service in SERVICES}
        self.version = {
            service: (np.arange(count) > random.uniform(0.3, 0.7) * count).astype(int) for service in SERVICES
        }
        self.batch = {service: random.choice([1, 2, 4, 8, 16, 24, 32], count) for service in SERVICES}
        for place in self.places:
            host = self.host[place.service]
            self.texts[Key(place, "hardware")] = HARDWARE[self.kind[place.service][host]]
            self.texts[Key(place, "host")] = np.char.add(place.service, host.astype(str))
            self.texts[Key(place, "version")] = self.version[place.service].astype(str)
            self.numbers[Key(place, "batch")] = self.batch[place.service].astype(float)
        for number in range(distractors):
            key = Key(self.places[random.integers(len(self.places))], f"noise{number}")
            if number % 4 == 0:
                self.texts[key] = random.integers(0, random.integers(2, 60), count).astype(str)
            elif number % 4 == 1:
                self.numbers[key] = random.normal(size=count)
            elif number % 4 == 2:
                self.texts[key] = np.char.add("v", (np.cumsum(random.random(count) < 20 / count) % 3).astype(str))
            else:
                self.numbers[key] = ar1(random, count, random.choice([0.9, 0.99, 0.999]))

    def finish(self, quantile: float = 0.99, weight: np.ndarray | None = None) -> tuple[Requests, Facts, float, float]:
        """Return the arguments of `find_causes`."""
        contribution = np.stack([self.times[place] for place in self.places], axis=1) * 1e6
        duration = contribution.sum(axis=1).astype(np.int64)
        weight = np.ones(self.count) if weight is None else weight
        population = np.repeat(duration, weight.astype(int))
        threshold, low, high = np.quantile(population, [quantile, 0.4, 0.6])
        in_tail = duration >= threshold
        requests = Requests(
            places=tuple(self.places), contribution_ns=contribution, start_ns=self.start_ns, duration_ns=duration,
            weight=weight, everyone=np.ones(self.count, dtype=bool), in_tail=in_tail,
            in_typical=(duration >= low) & (duration <= high), trace_ids=tuple(str(n) for n in range(self.count)),
            tail_part=float(weight[in_tail].sum() / weight.sum()),
        )  # fmt: skip
        rows = [
            Row(*key.place, key.name, str(value), np.flatnonzero(values == value))
            for key, values in self.texts.items() for value in np.unique(values)
        ]  # fmt: skip
        facts = facts_of(rows, self.count).with_numbers(list(self.numbers), np.array(list(self.numbers.values())))
        load = load_at(self.start_ns, self.start_ns, duration, np.ones(self.count), int(self.typical_ms * 1e6))
        return requests, facts.with_numbers(*load), threshold, quantile


def plant(pipeline: Pipeline, cause: str) -> tuple[Place, set[str]]:
    """Make a stage slow, and say which, and the keys that its causes must name together."""
    random, count = pipeline.random, pipeline.count
    service = SERVICES[random.integers(3)]
    place = Place(service, "compute")
    more = pipeline.typical_ms * random.uniform(1.0, 2.0)
    lot = random.random(count)
    if cause == "stage":
        slow, keys = lot < 0.02, set()
    elif cause == "hardware":
        slow, keys = (pipeline.kind[service][pipeline.host[service]] == 0) & (lot < 0.05), {"hardware"}
    elif cause == "version":
        slow, keys = (pipeline.version[service] == 1) & (lot < 0.05), {"version"}
    elif cause == "batch":
        slow, keys = (pipeline.batch[service] >= 24) & (lot < 0.1), {"batch"}
    elif cause == "host":
        slow, keys = (pipeline.host[service] == 1) & (lot < 0.1), {"host"}
    elif cause == "hardware and batch":
        slow = (pipeline.kind[service][pipeline.host[service]] == 0) & (pipeline.batch[service] >= 24) & (lot < 0.2)
        keys = {"hardware", "batch"}
    elif cause == "throttled":
        begin = random.uniform(0.1, 0.8) * count
        hot = (np.arange(count) > begin) & (np.arange(count) < begin + 0.08 * count)
        slow, keys = hot & (pipeline.host[service] == 1), {"hw.gpu.throttled"}
        pipeline.numbers[Key(Place(service, ""), "hw.gpu.throttled")] = slow.astype(float)
    elif cause == "load":
        place, slow, keys = Place(service, "queue"), np.zeros(count, dtype=bool), {"requests"}
        pipeline.times[place] += waits(pipeline, place)
    else:
        raise ValueError(cause)
    pipeline.times[place][slow] += more * np.exp(random.normal(0, 0.1, int(slow.sum())))
    return place, keys


def waits(pipeline: Pipeline, place: Place) -> np.ndarray:
    """Wait in milliseconds for one of four workers (Kiefer and Wolfowitz 1955), busy for two thirds of the time."""
    service_ms = pipeline.random.lognormal(0, 0.5, pipeline.count)
    service_ms *= 0.66 * 4 * np.diff(pipeline.start_ns).mean() / 1e6 / service_ms.mean()
    free, waited = np.zeros(4), np.zeros(pipeline.count)
    for number, start_ms in enumerate(pipeline.start_ns / 1e6):
        first = int(np.argmin(free))
        begins = max(start_ms, free[first])
        waited[number] = begins - start_ms
        free[first] = begins + service_ms[number]
    return waited
