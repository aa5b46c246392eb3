"""Noise as services have it: log-normal, heavy tails, and drift that is correlated over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats = npt.NDArray[np.float64]
FAMILIES = ("lognormal", "pareto", "student")
DRIFT_STEP_MS = 250.0


@dataclass(frozen=True, slots=True)
class Noise:
    """A multiplicative noise of mean near 1. `scale` is the standard deviation of the logarithm of its body."""

    family: str
    scale: float

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Draw factors (count,), all above 0."""
        normal = rng.standard_normal(count)
        body = np.exp(self.scale * normal - self.scale**2 / 2)
        if self.family == "pareto":  # a few in a hundred have a tail of their own
            rare = rng.random(count) < 0.03
            return np.where(rare, body * np.minimum(1 + rng.pareto(2.5, count), 6), body)
        if self.family == "student":
            return np.exp(self.scale * np.clip(rng.standard_t(5, count), -4, 6) * 0.8)
        return body


def random_noise(rng: np.random.Generator, least: float = 0.08, most: float = 0.3) -> Noise:
    """Choose a family and a scale."""
    return Noise(str(rng.choice(FAMILIES, p=(0.6, 0.2, 0.2))), float(rng.uniform(least, most)))


def drift(rng: np.random.Generator, length_ms: float, sigma: float, correlation_s: float) -> Floats:
    """Draw an AR(1) process in the logarithm as factors, one every DRIFT_STEP_MS, stationary from its start."""
    steps = int(length_ms / DRIFT_STEP_MS) + 2
    phi = float(np.exp(-DRIFT_STEP_MS / 1000 / correlation_s))
    shocks = rng.standard_normal(steps) * sigma * np.sqrt(1 - phi**2)
    shocks[0] = rng.standard_normal() * sigma
    return np.exp(lfilter([1.0], [1.0, -phi], shocks))
