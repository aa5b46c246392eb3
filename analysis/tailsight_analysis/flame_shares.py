"""Two runs whose samples belong to no request (imported profiles, background threads), function by function.

Without requests there is nothing that could be counted as independent: samples of one recording follow each other. So
shares of samples are set beside each other, and how certain a difference is, is not said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.flames import (
    FlameSideOf,
    FunctionTotals,
    RecordedProfile,
    StageFlame,
    stage_flame,
    top_functions,
)
from tailsight_analysis.scope import Filters, Window
from tailsight_storage import Store


@dataclass(frozen=True, slots=True)
class FunctionShares:
    """A function in both runs: samples with it on the stack, and their share of the run's. `difference` is a − b."""

    function: str
    file: str
    samples_a: int
    samples_b: int
    share_a: float
    share_b: float
    self_share_a: float
    self_share_b: float

    @property
    def difference(self) -> float:
        """Return by how much the share in a is larger."""
        return self.share_a - self.share_b

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/profiles.md."""
        return {name: getattr(self, name) for name in self.__slots__} | {"share_difference": self.difference}


@dataclass(frozen=True, slots=True)
class RunShares:
    """Two runs; `ms_*` is what their samples stand for in all. Functions whose shares differ most come first."""

    name_a: str
    name_b: str
    samples_a: int
    samples_b: int
    ms_a: float
    ms_b: float
    functions: tuple[FunctionShares, ...]
    profiles: tuple[RecordedProfile, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/profiles.md."""
        return {
            "name_a": self.name_a,
            "name_b": self.name_b,
            "samples_a": self.samples_a,
            "samples_b": self.samples_b,
            "ms_a": self.ms_a,
            "ms_b": self.ms_b,
            "functions": [each.to_json() for each in self.functions],
        }


def run_shares(store: Store, window: Window, filters: Filters, a: FlameSideOf, b: FlameSideOf) -> RunShares:
    """Compare all samples of two runs, of requests and others. Raises NotEnoughDataError and StorageError."""
    of_a, of_b = (_flame(store, window, filters, side) for side in (a, b))
    totals_a, totals_b = (
        {(each.function, each.file): each for each in top_functions(found.flame)} for found in (of_a, of_b)
    )
    size_a, size_b = of_a.flame.samples, of_b.flame.samples
    functions = []
    for function, file in totals_a.keys() | totals_b.keys():
        own_a, all_a = _counts(totals_a.get((function, file)))
        own_b, all_b = _counts(totals_b.get((function, file)))
        functions.append(
            FunctionShares(function, file, all_a, all_b, all_a / size_a, all_b / size_b, own_a / size_a, own_b / size_b)
        )
    functions.sort(key=lambda each: (-abs(each.difference), -each.share_a - each.share_b, each.function, each.file))
    profiles = {each.id: each for each in (*of_a.profiles, *of_b.profiles)}
    return RunShares(
        a.name, b.name, size_a, size_b, of_a.flame.ms, of_b.flame.ms, tuple(functions), tuple(profiles.values())
    )


def _flame(store: Store, window: Window, filters: Filters, side: FlameSideOf) -> StageFlame:
    try:
        return stage_flame(store, window, replace(filters, run=side.runs), outside=True)
    except NotEnoughDataError as error:
        raise NotEnoughDataError(f"run {side.name}: {error}", error.missing) from None


def _counts(totals: FunctionTotals | None) -> tuple[int, int]:
    return (0, 0) if totals is None else (totals.self_samples, totals.total_samples)
