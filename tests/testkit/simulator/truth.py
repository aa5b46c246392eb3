"""What is true of a case, and which answers a careful expert accepts. The page of the docs argues for each rule."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from testkit.simulator.engine import Outcome
from testkit.simulator.noise import Floats
from testkit.simulator.pipeline import Service
from testkit.simulator.traffic import Key

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A condition that is right: a key with one of `values`, or with the `side` ("high", "low") of `pivot`.

    `places` are the stages and services at which it may be said to hold; none means anywhere.
    """

    key: str
    values: tuple[str, ...] = ()
    side: str = ""
    pivot: float = 0.0
    places: tuple[str, ...] = ()

    def accepts(self, key: str, text: str, on: str = "") -> bool:
        """Say whether a named condition is this one: its value as text, or a range (`≥ 24`, `24 – 64`, `< 1200`)."""
        if key != self.key or (on and self.places and on not in self.places):
            return False
        if not self.side:
            return not self.values or text.lower() in {value.lower() for value in self.values}
        low, high = read_range(text)
        return low >= self.pivot if self.side == "high" else high <= self.pivot


def read_range(text: str) -> tuple[float, float]:
    """Read the ends of a range from its text; infinite where it is open, the same twice where it is one number."""
    # a dash between digits parts two numbers; elsewhere it is a sign
    numbers = [
        float(n.replace(",", "")) for n in _NUMBER.findall(re.sub(r"(?<=[\d\s])[-–—…]+(?=[\d\s])|\.\.", " ", text))
    ]
    if not numbers:
        return -np.inf, np.inf
    if len(numbers) == 1 and re.search(r"≥|>|at least|above|from|or more|\+\s*$|∞|inf", text):
        return numbers[0], np.inf
    if len(numbers) == 1 and re.search(r"≤|<|at most|below|up to|to|or less", text):
        return -np.inf, numbers[0]
    return min(numbers), max(numbers)


@dataclass(frozen=True, slots=True)
class Truth:
    """One injected cause. `share` is the part of the tail's excess that goes away without it, by simulating it again."""

    kind: str
    variant: str
    key: Key
    stage: str
    services: tuple[str, ...]  # where it may be said to be
    conditions: tuple[Accepted, ...]  # any of them will do
    period_ms: float = 0.0  # to name it will do as well
    hardware: str = ""
    share: float = 0.0
    stage_share: float = 0.0
    affected: float = 0.0
    shift: float = 0.0  # of the stage's mean from the baseline run to the candidate run, in standard errors

    @property
    def has_condition(self) -> bool:
        """Whether there is a condition to be found: a stage that is slow at random has none."""
        return bool(self.conditions or self.period_ms)


def same_hosts(service: Service, hosts: Collection[int], places: tuple[str, ...]) -> tuple[Accepted, ...]:
    """Return every label that holds on exactly these hosts of the service: they say the same, so each is right."""
    found = []
    first = service.hosts[min(hosts)].says()
    for key, value in first.items():
        if {n for n, host in enumerate(service.hosts) if host.says()[key] == value} == set(hosts):
            found.append(Accepted(key, (value,), places=places))
    return tuple(found)


def classes(duration_ms: Floats, quantile: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks of tail and of typical requests, as docs/analysis/tail.md defines them."""
    threshold, low, high = np.quantile(duration_ms, (quantile, 0.4, 0.6))
    return duration_ms >= threshold, (duration_ms >= low) & (duration_ms <= high)


def excess(values: Floats, tail: npt.NDArray[np.bool_], typical: npt.NDArray[np.bool_]) -> float:
    """Mean in the tail minus mean in typical requests."""
    return float(values[tail].mean() - values[typical].mean())


def shares(injected: Outcome, without: Outcome, key: Key, quantile: float) -> tuple[float, float]:
    """Which part of the excess the cause makes: of the request's duration, and in its stage's own time."""
    tail, typical = classes(injected.duration_ms, quantile)
    whole = excess(injected.duration_ms, tail, typical)
    return (
        excess(injected.duration_ms - without.duration_ms, tail, typical) / whole,
        excess(injected.own_ms[key] - without.own_ms[key], tail, typical) / whole,
    )


def leading_stage(outcome: Outcome, quantile: float) -> str:
    """Return the stage whose own time, over all services, grows most from typical requests to the tail."""
    tail, typical = classes(outcome.duration_ms, quantile)
    grown: dict[str, float] = {}
    for (_, stage), own_ms in outcome.own_ms.items():
        grown[stage] = grown.get(stage, 0.0) + excess(own_ms, tail, typical)
    return max(grown, key=lambda stage: grown[stage])


def shift(candidate: Floats, baseline: Floats) -> float:
    """Tell by how many standard errors two runs' means differ."""
    error = np.sqrt(candidate.var() / len(candidate) + baseline.var() / len(baseline))
    return float((candidate.mean() - baseline.mean()) / error) if error else 0.0
