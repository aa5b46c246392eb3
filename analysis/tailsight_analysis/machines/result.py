"""What the comparison of hardware types says, as plain data. See `hardware.py` and docs/analysis/hardware.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.quality import DataQuality
from tailsight_analysis.scope import Filters, Window
from tailsight_analysis.statistics.intervals import Interval
from tailsight_analysis.statistics.standardise import Ratio


@dataclass(frozen=True, slots=True)
class Covariate:
    """What work is sorted by before types are compared: `operation`, `model`, `batch_size` or `input_length`.

    `key` is the attribute that a number comes from.
    """

    name: str
    key: str | None = None

    @property
    def label(self) -> str:
        """As it is said in a sentence."""
        return self.name.replace("_", " ")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "key": self.key}


@dataclass(frozen=True, slots=True)
class Standardised:
    """A type and the reference over the same mix of work, in ms, and how many times as long it takes.

    `because` is the covariate whose mix explains most of why the raw ratio is another, None where it hardly is; `more`
    says whether the type's mean of that number is above the reference's, None where it is no number. `p_value` is of
    "no difference", corrected for all comparisons; None where there is no interval.
    """

    mean_ms: float
    p50_ms: float
    p99_ms: float
    reference_mean_ms: float
    reference_p50_ms: float
    reference_p99_ms: float
    mean_ratio: Ratio
    p50_ratio: Ratio | None
    p99_ratio: Ratio | None
    p_value: float | None
    because: Covariate | None = None
    more: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "mean_ms": self.mean_ms,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "reference_mean_ms": self.reference_mean_ms,
            "reference_p50_ms": self.reference_p50_ms,
            "reference_p99_ms": self.reference_p99_ms,
            "mean_ratio": _ratio(self.mean_ratio),
            "p50_ratio": _ratio(self.p50_ratio),
            "p99_ratio": _ratio(self.p99_ratio),
            "p_value": self.p_value,
            "because": {**self.because.to_json(), "more": self.more} if self.because else None,
        }


@dataclass(frozen=True, slots=True)
class HardwareType:
    """One type's figures, raw and like with like. `count` is an estimate where only a part was looked at, as `sampled`.

    The raw p50's and p99's intervals are 95 %, in ms. `raw_ratio` is of the means. `comparable_share` is the share of
    this type's and the reference's work that lies in strata that both have; `standardised` is None of the reference
    itself, and where too little is comparable.
    """

    hardware: str
    hosts: int
    count: int
    sampled: int
    raw_mean_ms: float
    raw_p50_ms: float
    raw_p99_ms: float
    raw_p50_interval: Interval
    raw_p99_interval: Interval
    raw_ratio: float | None
    comparable_share: float
    standardised: Standardised | None

    @property
    def missing(self) -> dict[str, int]:
        """How many more pieces of work it takes until a quantile has both bounds, 0 where it has."""
        return {"p50": self.raw_p50_interval.missing, "p99": self.raw_p99_interval.missing}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "hardware": self.hardware,
            "hosts": self.hosts,
            "count": self.count,
            "sampled": self.sampled,
            "raw": {
                "mean_ms": self.raw_mean_ms,
                "p50_ms": self.raw_p50_ms,
                "p99_ms": self.raw_p99_ms,
                "p50_interval_ms": [self.raw_p50_interval.low, self.raw_p50_interval.high],
                "p99_interval_ms": [self.raw_p99_interval.low, self.raw_p99_interval.high],
                "missing": {name: more for name, more in self.missing.items() if more},
                "mean_ratio": self.raw_ratio,
            },
            "comparable_share": self.comparable_share,
            "standardised": self.standardised.to_json() if self.standardised else None,
        }


@dataclass(frozen=True, slots=True)
class HardwareComparison:
    """The hardware types that do one kind of work: a stage's own time, or whole requests (`stage` is None).

    `types` begins with the reference, then the slowest like with like; those that cannot be compared are last.
    """

    stage: str | None
    reference: str
    types: tuple[HardwareType, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "of": "requests" if self.stage is None else "stage",
            "stage": self.stage,
            "reference": self.reference,
            "types": [each.to_json() for each in self.types],
        }


@dataclass(frozen=True, slots=True)
class HardwareUse:
    """How long requests keep a type's devices busy, what that costs, and how much energy it takes.

    `requests` used it at all; per such request: `busy_ms` with its interval, `cost_busy` (busy time at the price, as if
    devices were always busy) and `cost_paid` (all time of all devices at the price), in the price's currency;
    `energy_busy_j` (busy time at the mean power) and `energy_j` (all energy of all devices). `utilisation` is busy time
    as a share of all devices' time. None where no price, no power or no time is known.
    """

    hardware: str
    devices: int
    requests: int
    busy_ms: float
    busy_interval_ms: tuple[float, float] | None
    utilisation: float | None
    price_per_hour: float | None
    cost_busy: float | None
    cost_paid: float | None
    power_w: float | None
    energy_busy_j: float | None
    energy_j: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "hardware": self.hardware,
            "devices": self.devices,
            "requests": self.requests,
            "busy_ms": self.busy_ms,
            "busy_interval_ms": list(self.busy_interval_ms) if self.busy_interval_ms else None,
            "utilisation": self.utilisation,
            "price_per_hour": self.price_per_hour,
            "cost_busy": self.cost_busy,
            "cost_paid": self.cost_paid,
            "power_w": self.power_w,
            "energy_busy_j": self.energy_busy_j,
            "energy_j": self.energy_j,
        }


@dataclass(frozen=True, slots=True)
class Hardware:
    """The answer: comparisons, whole requests first, then stages with the most time first; and the use of each type.

    `requests` are all, an estimate where `weighted`; the store has `stored` of them, and figures come from `sampled`.
    `unknown_share` is the share of the stages' own time that was spent on no known hardware.
    """

    window: Window
    filters: Filters
    requests: int
    stored: int
    sampled: int
    weighted: bool
    covariates: tuple[Covariate, ...]
    unknown_share: float
    comparisons: tuple[HardwareComparison, ...]
    uses: tuple[HardwareUse, ...]
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/hardware.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "data": self.data.to_json() if self.data else None,
            "requests": self.requests,
            "weighted": self.weighted,
            "stored_requests": self.stored,
            "sampled_requests": self.sampled,
            "covariates": [covariate.to_json() for covariate in self.covariates],
            "unknown_share": self.unknown_share,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "uses": [use.to_json() for use in self.uses],
        }


def _ratio(ratio: Ratio | None) -> dict[str, Any] | None:
    if ratio is None:
        return None
    interval = None if ratio.low is None and ratio.high is None else [ratio.low, ratio.high]
    return {"value": ratio.value, "interval": interval}
