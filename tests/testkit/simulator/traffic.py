"""What comes in: when requests arrive, what each is like, and the luck that each meets. None of it knows of a cause."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testkit.simulator.noise import Floats, drift
from testkit.simulator.pipeline import Pipeline

Key = tuple[int, str]  # a service's number and a stage


@dataclass(frozen=True, slots=True)
class Draws:
    """All randomness of one run, by request: two simulations with the same draws differ by their cause alone."""

    arrivals_ms: Floats  # (requests,), ascending
    tokens: Floats  # (requests,) length of the input
    output_tokens: Floats
    hosts: list[list[int]]  # by service: which host each request gets
    noise: dict[Key, list[float]]
    drift: dict[tuple[int, int], list[float]]  # by service and host
    length_ms: float

    @property
    def count(self) -> int:
        """How many requests there are."""
        return len(self.arrivals_ms)


def poisson(
    rng: np.random.Generator, count: int, length_ms: float, *, diurnal: float = 0.0, bursty: bool = False
) -> Floats:
    """Draw arrivals of a Poisson process whose rate may follow a wave over the window and may switch between two levels."""
    grid = np.linspace(0, length_ms, 2001)
    rate = 1 + diurnal * np.sin(2 * np.pi * grid / length_ms + rng.uniform(0, 2 * np.pi))
    if bursty:  # a two-state modulated process: high for a tenth of the time, at 2.5 times the rate
        high = np.zeros(len(grid), dtype=bool)
        for start in rng.integers(0, len(grid), 20):
            high[start : start + 10] = True
        rate = np.where(high, rate * 2.5, rate)
    return at_rate(rng, count, grid, rate)


def at_rate(rng: np.random.Generator, count: int, grid: Floats, rate: Floats) -> Floats:
    """Draw `count` arrivals whose density follows `rate` over `grid` (Poisson, given their number)."""
    mass = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(grid))])
    return np.sort(np.interp(rng.random(count), mass / mass[-1], grid))


def draw(
    rng: np.random.Generator, pipeline: Pipeline, count: int, length_ms: float, *, token_scale: float = 1.0
) -> Draws:
    """Draw a run. `token_scale` multiplies the inputs' lengths."""
    arrivals = poisson(rng, count, length_ms, diurnal=pipeline.diurnal, bursty=pipeline.bursty)
    noise, drifts, hosts = {}, {}, []
    for number, service in enumerate(pipeline.services):
        weights = np.array([host.weight for host in service.hosts])
        hosts.append(rng.choice(len(weights), count, p=weights / weights.sum()).tolist())
        for stage in service.stages():
            noise[number, stage.stage] = stage.noise.draw(rng, count).tolist()
        noise[number, "network"] = np.exp(rng.normal(0, 0.3, count)).tolist()
        for host in range(len(service.hosts)):
            drifts[number, host] = drift(rng, length_ms * 1.2, pipeline.drift_sigma, pipeline.drift_s).tolist()
    tokens = np.clip(np.round(rng.lognormal(np.log(400), 0.5, count) * token_scale), 8, 8000)
    output = np.clip(np.round(rng.lognormal(np.log(120), 0.4, count)), 1, 1000)
    return Draws(arrivals, tokens, output, hosts, noise, drifts, length_ms)
