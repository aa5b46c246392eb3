"""Worlds in which a gate is tried: pipelines whose true change is known, on machines with moods, bursts and drift.

A request passes `preprocess`, `compute` (on one of two hardware types) and `postprocess`; its duration is their sum. Whatever is
drawn follows from the world alone, so that a case can be repeated by its number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from tailsight_analysis.gating.samples import REQUESTS, RunSample, Series, run_of_values

Floats = npt.NDArray[np.float64]
Distribution = Literal["log-normal", "bimodal", "heavy"]
Noise = Literal["independent", "alike", "bursts", "drift"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("log-normal", "bimodal", "heavy")
NOISES: tuple[Noise, ...] = ("independent", "alike", "bursts", "drift")
TYPES = ("NVIDIA L4", "NVIDIA T4")
STAGES = ("preprocess", "compute", "postprocess")
_MEDIAN_MS = {"preprocess": 2.0, "compute": 12.0, "postprocess": 3.0}
_SLOWER_TYPE = 1.3
_SHARE_OF_TYPES = 0.6
_SECOND_NS = 1_000_000_000
_ALIKE = 0.8  # correlation of neighbouring requests
_WANDERING = 0.8  # correlation of neighbouring runs, of half of the mood
_DRIFT = 0.04
_TRUTH_REQUESTS = 400_000


@dataclass(frozen=True, slots=True)
class World:
    """One gate's case. `change` is the share by which `stage` takes longer in the candidate.

    `where`: every request (`body`), or only the slowest tenth (`tail`). `mood` is the standard deviation, between runs,
    of the factor on everything, half of which wanders from run to run; each series has a third of it of its own.
    """

    distribution: Distribution
    noise: Noise
    runs: int
    requests: int
    change: float
    where: Literal["body", "tail"]
    interleaved: bool
    seed: int
    mood: float = 0.03
    stage: str = "compute"

    @property
    def name(self) -> str:
        """Which case."""
        order = "in turn" if self.interleaved else "in blocks"
        change = f"{self.change:.0%} {self.where} of {self.stage}" if self.change else "A/A"
        return f"{self.distribution}, {self.noise}, {self.runs} x {self.requests} {order}, {change}, seed {self.seed}"


def sides(world: World, more_runs: int = 0) -> tuple[list[RunSample], list[RunSample]]:
    """Draw the runs of baseline and candidate; of `more_runs` a side, the first are those of none."""
    runs = world.runs + more_runs
    course = _course(world, 2 * runs)
    found: tuple[list[RunSample], list[RunSample]] = ([], [])
    for slot in range(2 * runs):
        # in turn, in pairs whose order changes (A B B A); or all of the baseline's first
        changed = slot % 4 in (1, 2) if world.interleaved else slot >= runs
        number = len(found[changed])
        random = np.random.default_rng((world.seed, number, int(changed), 11))
        mood = float(course[slot]) + float(random.normal(0, world.mood * np.sqrt(0.5)))
        durations = draw_run(world, random, mood, changed)
        label = f"{'candidate' if changed else 'baseline'} {number + 1}"
        found[changed].append(run_of_values(label, slot * 60 * _SECOND_NS, durations))
    return found


def _course(world: World, slots: int) -> Floats:
    """What the machine's mood owes to the time of day: it wanders, and where there is drift, goes up and down."""
    random = np.random.default_rng((world.seed, 12))
    wandering = random.normal(0, world.mood * np.sqrt(0.5 * (1 - _WANDERING**2)), slots + 20)
    course = lfilter([1.0], [1.0, -_WANDERING], wandering)[20:]
    if world.noise == "drift":
        turns = np.arange(slots) / max(2.0, 3.0 * world.runs) + np.random.default_rng((world.seed, 13)).random()
        course = course + _DRIFT * np.sin(2 * np.pi * turns)
    return np.asarray(course, dtype=np.float64)


def draw_run(world: World, random: np.random.Generator, mood: float, changed: bool) -> dict[Series, Floats]:
    """Draw one run's durations in ms, series by series."""
    count = world.requests
    on_second = random.random(count) > _SHARE_OF_TYPES
    shared = _latent(world, random, count)
    burst = _bursts(world, random, count)
    within = np.linspace(-0.5, 0.5, count) * random.normal(0, 0.06) if world.noise == "drift" else np.zeros(count)
    taken: dict[str, Floats] = {}
    for stage in STAGES:
        latent = np.sqrt(0.4) * shared + np.sqrt(0.6) * _latent(world, random, count)
        own = random.normal(0, world.mood / 3)
        shape = _shape(world.distribution, latent, random)
        if stage == world.stage and changed and world.change:
            slow = shape >= _threshold(world.distribution) if world.where == "tail" else np.ones(count, dtype=bool)
            shape = shape * np.where(slow, 1 + world.change, 1.0)
        if stage == "compute":
            shape = shape * np.where(on_second, _SLOWER_TYPE, 1.0) * burst
        taken[stage] = _MEDIAN_MS[stage] * shape * np.exp(mood + own + within)
    result = {REQUESTS: sum(taken.values(), np.zeros(count))}
    for stage in STAGES:
        if stage == "compute":
            result[Series(stage, TYPES[0])] = taken[stage][~on_second]
            result[Series(stage, TYPES[1])] = taken[stage][on_second]
        else:
            result[Series(stage)] = taken[stage]
    return result


def _latent(world: World, random: np.random.Generator, count: int) -> Floats:
    if world.noise != "alike":
        return random.standard_normal(count)
    noise = random.standard_normal(count + 40) * np.sqrt(1 - _ALIKE**2)
    return np.asarray(lfilter([1.0], [1.0, -_ALIKE], noise)[40:], dtype=np.float64)


def _bursts(world: World, random: np.random.Generator, count: int) -> Floats:
    """Factors on compute: stretches of 10 to 40 requests in which it takes up to three times as long."""
    result = np.ones(count)
    if world.noise == "bursts":
        for _ in range(random.poisson(4 * count / 1000)):
            begin, length = int(random.integers(count)), int(random.integers(10, 40))
            result[begin : begin + length] = random.uniform(1.5, 3.0)
    return result


def _shape(distribution: Distribution, latent: Floats, random: np.random.Generator) -> Floats:
    """Durations around 1 for standard normal numbers."""
    if distribution == "log-normal":
        return np.exp(0.4 * latent)
    if distribution == "bimodal":  # one in eight misses the cache
        return np.where(latent > ndtri(0.875), 2.4, 1.0) * np.exp(0.15 * random.standard_normal(len(latent)))
    return np.maximum(1 - ndtr(latent), 1e-12) ** (-1 / 2.2) / 2 ** (1 / 2.2)


@functools.cache
def _threshold(distribution: Distribution) -> float:
    """Above which the slowest tenth lies."""
    random = np.random.default_rng(5)
    return float(np.quantile(_shape(distribution, random.standard_normal(_TRUTH_REQUESTS), random), 0.9))


@functools.cache
def _large(
    distribution: Distribution, bursts: bool, change: float, where: Literal["body", "tail"], stage: str
) -> dict[Series, Floats]:
    steady: Noise = "bursts" if bursts else "independent"
    world = World(distribution, steady, 1, _TRUTH_REQUESTS, change, where, True, 3, mood=0.0, stage=stage)
    return draw_run(world, np.random.default_rng(3), 0.0, changed=True)


def true_ratios(world: World) -> dict[tuple[Series, str], float]:
    """Ratio of candidate to baseline of each metric of each series, had there been very many requests."""
    return _true_ratios(world.distribution, world.noise == "bursts", world.change, world.where, world.stage)


@functools.cache
def _true_ratios(
    distribution: Distribution, bursts: bool, change: float, where: Literal["body", "tail"], stage: str
) -> dict[tuple[Series, str], float]:
    before = _large(distribution, bursts, 0.0, "body", "compute")
    after = _large(distribution, bursts, change, where, stage)
    return {
        (series, metric): measured(after[series])[metric] / measured(before[series])[metric]
        for series in before
        for metric in ("p50", "p95", "p99", "mean", "jitter")
    }


def measured(values: Floats) -> dict[str, float]:
    """The metrics of some durations."""
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    return {"p50": p50, "p95": p95, "p99": p99, "mean": float(values.mean()), "jitter": p99 - p50}


CHANGES: tuple[tuple[float, Literal["body", "tail"]], ...] = (
    (0.0, "body"),
    (0.03, "body"),
    (0.05, "body"),
    (0.1, "body"),
    (0.2, "body"),
    (0.1, "tail"),
    (0.2, "tail"),
)
RUNS = (1, 2, 3, 5, 10, 20, 30)


def worlds(gates: int, first_seed: int = 0, mood: float = 0.03, stage: str = "compute") -> Iterator[World]:
    """So many worlds, evenly over all kinds: three of eight are A/A."""
    for number in range(gates):
        random = np.random.default_rng((number, first_seed, 7))
        aa = number % 8 < 3
        change, where = (0.0, "body") if aa else CHANGES[1:][int(random.integers(len(CHANGES) - 1))]
        runs = RUNS[int(random.integers(len(RUNS)))]
        yield World(
            DISTRIBUTIONS[number % 3],
            NOISES[int(random.integers(len(NOISES)))],
            runs,
            int(random.choice([300, 1000, 3000])) if runs <= 10 else int(random.choice([300, 1000])),
            change,
            where,
            bool(random.random() < 0.6),
            first_seed * 1_000_000 + number,
            mood,
            stage,
        )


def without_change(world: World) -> World:
    """The same world, A/A."""
    return replace(world, change=0.0)
