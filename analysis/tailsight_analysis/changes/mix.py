"""Did the workload change where the latency did? A longer prompt or another model makes slower, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.changes.split import level, split_at
from tailsight_analysis.changes.units import Mix

LEAST_SHARE = 0.05  # of the requests or spans, that must have moved
LEAST_LENGTH = 0.05  # of the input's length
LEVEL = 0.01  # of all that is tested at one change
INPUT_LENGTH = "input length"
_LEAST_UNITS = 3
_PHI = 0.4  # of a workload from unit to unit: a few units cannot tell


@dataclass(frozen=True, slots=True)
class MixShift:
    """`kind` (model, operation, hardware) had this share with `value` before and after; or the mean input length."""

    kind: str
    value: str
    before: float
    after: float

    @property
    def size(self) -> float:
        """How far it moved, as a share: of the requests, or of the length."""
        if self.kind == INPUT_LENGTH:
            return abs(self.after / self.before - 1)
        return abs(self.after - self.before)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "value": self.value, "before": self.before, "after": self.after}


def mix_shifts(before: Sequence[Mix], after: Sequence[Mix]) -> tuple[MixShift, ...]:
    """Say what moved from the units before a change to those after it, by more than units differ by themselves.

    The largest first. Of each kind and value the levels are compared as those of latencies are (`split_at`); with fewer
    than three units on a side, size alone decides.
    """
    units = [*before, *after]
    kinds = sorted({pair for unit in units for pair in unit.shares})
    shifts = []
    tests = len(kinds) + 1
    for kind, value in kinds:
        shares = [unit.shares.get((kind, value), 0.0) for unit in units]
        if found := _moved(shares, len(before), LEAST_SHARE, tests):
            shifts.append(MixShift(kind, value, *found))
    lengths = [unit.input_length for unit in units]
    known = [length for length in lengths if length is not None]
    if len(known) == len(units) and (found := _moved(known, len(before), math.log1p(LEAST_LENGTH), tests)):
        shifts.append(MixShift(INPUT_LENGTH, "", math.exp(found[0]), math.exp(found[1])))
    return tuple(sorted(shifts, key=lambda shift: (-shift.size, shift.kind, shift.value)))


def _moved(numbers: Sequence[float], at: int, least: float, tests: int) -> tuple[float, float] | None:
    values = np.array(numbers)
    before, after = level(values[:at]), level(values[at:])
    if abs(after - before) < least:
        return None
    if min(at, len(values) - at) >= _LEAST_UNITS and split_at(values, at, phi=_PHI).p_value * tests > LEVEL:
        return None
    return before, after
