"""The tables of the Hardware view: pure functions from what analysis returns to pandas Stylers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import Estimate, Hardware, Pareto, Ratio, Variance
from tailsight_dashboard.format import UNACCOUNTED, count, milliseconds, share, within
from tailsight_dashboard.tables import styled
from tailsight_dashboard.tables_jitter import UNKNOWN, or_unknown
from tailsight_dashboard.wording_hardware import shown_uses, times, title
from tailsight_dashboard.wording_jitter import REQUESTS
from tailsight_dashboard.wording_pareto import front, label
from tailsight_dashboard.wording_variance import NO_HARDWARE, bounds

REFERENCE = "reference"
THOUSAND = 1000  # requests, that costs are of


def types(result: Hardware) -> Styler:
    """Build the table of comparisons: raw figures, and beside them the ratios like with like, where there are any."""
    lines = [(comparison, each) for comparison in result.comparisons for each in comparison.types]
    ours = [each.standardised for _, each in lines]
    is_reference = [each.hardware == comparison.reference for comparison, each in lines]
    frame = pd.DataFrame(
        {
            "Of": [title(comparison) for comparison, _ in lines],
            "Hardware": [each.hardware for _, each in lines],
            "Count": [each.count for _, each in lines],
            "Raw p50 (ms)": [each.raw_p50_ms for _, each in lines],
            "Raw p99 (ms)": [each.raw_p99_ms for _, each in lines],
            "p99 within (ms)": [within(each.raw_p99_interval.low, each.raw_p99_interval.high) for _, each in lines],
            "Raw mean (ms)": [each.raw_mean_ms for _, each in lines],
            "Raw": [each.raw_ratio for _, each in lines],
            "Like with like": [each.mean_ratio.value if each else None for each in ours],
            "95 %": [
                REFERENCE if first else _interval(each.mean_ratio) if each else UNKNOWN
                for each, first in zip(ours, is_reference, strict=True)
            ],
            "At p99": [each.p99_ratio.value if each and each.p99_ratio else None for each in ours],
            "Comparable": [
                None if first else each.comparable_share for (_, each), first in zip(lines, is_reference, strict=True)
            ],
        }
    )
    if all(is_reference):
        frame = frame.drop(columns=["Raw", "Like with like", "95 %", "At p99", "Comparable"])
    formats: dict[str, Callable[[Any], str]] = {
        "Count": count,
        **dict.fromkeys(("Raw p50 (ms)", "Raw p99 (ms)", "Raw mean (ms)"), milliseconds),
        **dict.fromkeys(("Raw", "Like with like", "At p99"), or_unknown(times)),
        "Comparable": or_unknown(share),
    }
    return styled(frame, {title: write for title, write in formats.items() if title in frame})


def uses(result: Hardware) -> Styler:
    """Build the table of what requests take of each type: busy time, cost and energy where known."""
    found = shown_uses(result)
    with_price = any(use.price_per_hour is not None for use in found)
    with_power = any(use.power_w is not None for use in found)
    costs = {
        "Cost busy": [_thousand(use.cost_busy) for use in found],
        "Cost paid": [_thousand(use.cost_paid) for use in found],
    }
    energy = {
        "Power (W)": [use.power_w for use in found],
        "Busy (J)": [use.energy_busy_j for use in found],
        "In all (J)": [use.energy_j for use in found],
    }
    frame = pd.DataFrame(
        {
            "Hardware": [use.hardware or NO_HARDWARE for use in found],
            "Devices": [use.devices for use in found],
            "Requests": [use.requests for use in found],
            "Busy (ms)": [use.busy_ms for use in found],
            "95 % (ms)": [_bounds_ms(use.busy_interval_ms) for use in found],
            "Utilised": [use.utilisation for use in found],
            **(costs if with_price else {}),
            **(energy if with_power else {}),
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Devices": count,
        "Requests": count,
        "Busy (ms)": milliseconds,
        "Utilised": or_unknown(share),
        **(dict.fromkeys(costs, or_unknown(_figures)) if with_price else {}),
        **(dict.fromkeys(energy, or_unknown(_figures)) if with_power else {}),
    }
    return styled(frame, formats)


def stages_of_variance(result: Variance) -> Styler:
    """Build the table of the ledger: what each stage adds by itself, and with others; and the requests as wholes."""
    stages = result.total.stages
    frame = pd.DataFrame(
        {
            "Stage": [*(each.stage or UNACCOUNTED for each in stages), REQUESTS],
            "Mean (ms)": [*(each.mean_ms for each in stages), result.total.mean_ms],
            "SD (ms)": [*(each.sd_ms for each in stages), result.total.sd_ms],
            "Alone": [*(each.own_share for each in stages), sum(each.own_share for each in stages)],
            "With others": [*(each.joint_share for each in stages), sum(each.joint_share for each in stages)],
            "Share": [*(each.share for each in stages), sum(each.share for each in stages)],
            "95 %": [*(bounds(each.share_interval).strip(" []") or UNKNOWN for each in stages), ""],
            "Usual": [*(each.usual_share for each in stages), sum(each.usual_share for each in stages)],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        **dict.fromkeys(("Mean (ms)", "SD (ms)"), milliseconds),
        **dict.fromkeys(("Alone", "With others", "Share", "Usual"), share),
    }
    return styled(frame, formats)


def hardware_of_variance(result: Variance) -> Styler:
    """Build the table of what lies within each hardware type, and between them."""
    parts = result.hardware
    frame = pd.DataFrame(
        {
            "Hardware": [part.hardware or NO_HARDWARE for part in parts],
            "Requests": [part.request_share for part in parts],
            "Mean (ms)": [part.mean_ms for part in parts],
            "SD (ms)": [part.sd_ms for part in parts],
            "Within": [part.within_share for part in parts],
            "Between": [part.between_share for part in parts],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        **dict.fromkeys(("Mean (ms)", "SD (ms)"), milliseconds),
        **dict.fromkeys(("Requests", "Within", "Between"), share),
    }
    return styled(frame, formats)


def variants(result: Pareto) -> Styler:
    """Build the table of variants: the best quality first, those without any last."""
    found = result.variants
    with_cost = any(variant.cost is not None for variant in found)
    frame = pd.DataFrame(
        {
            " / ".join(result.by).capitalize(): [label(variant) for variant in found],
            "Requests": [variant.requests for variant in found],
            "Quality": [variant.quality.value if variant.quality else None for variant in found],
            "95 %": [_ends(variant.quality, _figures) for variant in found],
            "p50 (ms)": [variant.p50_ms.value for variant in found],
            "p99 (ms)": [variant.p99_ms.value for variant in found],
            "95 % of p99 (ms)": [_ends(variant.p99_ms, milliseconds) for variant in found],
            **({"Cost of 1,000": [_thousand(variant.cost) for variant in found]} if with_cost else {}),
            "On the front": [front(variant) for variant in found],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Requests": count,
        "Quality": or_unknown(_figures),
        **dict.fromkeys(("p50 (ms)", "p99 (ms)"), milliseconds),
        **({"Cost of 1,000": or_unknown(_figures)} if with_cost else {}),
    }
    return styled(frame, formats)


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return UNKNOWN
    return f"{times(ratio.low).rstrip('×')} to {times(ratio.high)}"


def _bounds_ms(interval: tuple[float, float] | None) -> str:
    return " to ".join(milliseconds(bound) for bound in interval) if interval else UNKNOWN


def _ends(estimate: Estimate | None, write: Callable[[float], str]) -> str:
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    if low is None:
        return UNKNOWN if high is None else f"≤ {write(high)}"
    return f"≥ {write(low)}" if high is None else f"{write(low)} to {write(high)}"


def _thousand(cost: float | None) -> float | None:
    return None if cost is None else cost * THOUSAND


def _figures(value: float) -> str:
    """Three figures, however small: costs of a request are."""
    return count(round(value)) if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
