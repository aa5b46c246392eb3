"""What makes both sides unlike, beside time: said first, since a slower GPU is no change of the code."""

from __future__ import annotations

from collections.abc import Sequence

from tailsight_analysis.gating.samples import RunSample, Series
from tailsight_analysis.gating.settings import GateSettings

_FROM_SHARE = 0.005


def differences(
    baseline: Sequence[RunSample], candidate: Sequence[RunSample], settings: GateSettings
) -> tuple[str, ...]:
    """Sentences, the most important first."""
    result = []
    sides = (_abouts(baseline), _abouts(candidate))
    for key in sorted(set(sides[0]) | set(sides[1])):
        before, after = sides[0].get(key, set()), sides[1].get(key, set())
        if before != after:
            result.append(f"{key}: baseline {_listed(before)}, candidate {_listed(after)}")
    before_series, after_series = _shares(baseline), _shares(candidate)
    for name, here, there in (
        ("baseline", before_series, after_series),
        ("candidate", after_series, before_series),
    ):
        result += [
            f"{series.name} is only in the {name}: not compared"
            for series in sorted(set(here) - set(there))
            if not settings.is_ignored(series) and here[series] >= _FROM_SHARE
        ]
    return tuple(result)


def _abouts(side: Sequence[RunSample]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for run in side:
        for key, value in run.about.items():
            found.setdefault(key, set()).add(value)
    return found


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values)) or "not said"


def _shares(side: Sequence[RunSample]) -> dict[Series, float]:
    """Spans of a series, as a share of the requests (or of the largest series)."""
    counts: dict[Series, int] = {}
    for run in side:
        for series, cells in run.series.items():
            counts[series] = counts.get(series, 0) + int(cells.count.sum())
    most = max(counts.values(), default=1) or 1
    return {series: count / most for series, count in counts.items()}
