"""What both sides have and a gate cannot compare, and why: silence would look like a pass."""

from __future__ import annotations

from collections.abc import Sequence

from tailsight_analysis.gating.result import Compared
from tailsight_analysis.gating.samples import REQUESTS, Series
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun

_LEAST_REQUESTS = 2
_MOST_NAMED = 3

Runs = Sequence[StratifiedRun]


def not_compared(compared: Sequence[Compared], baseline: Runs, candidate: Runs, settings: GateSettings) -> list[str]:
    """Name the metrics, of what both sides have of one kind, that are in no comparison."""
    there = {(row.stage, row.hardware, row.metric) for row in compared}
    result = []
    for series in sorted(_series(baseline) & _series(candidate)):
        missing = [each for each in settings.metrics if (series.stage, series.hardware, each) not in there]
        if not missing or settings.is_ignored(series) or not _kinds(baseline, series) & _kinds(candidate, series):
            continue
        result.append(f"Not compared: {series.name} {', '.join(missing)} (no run of a side has two of them)")
    return result


def why_nothing(baseline: Runs, candidate: Runs, settings: GateSettings) -> str:
    """Say why two sides with requests have nothing that is compared."""
    if all(settings.is_ignored(each) for each in _series(baseline) & _series(candidate)):
        return "the settings ignore all that baseline and candidate have in common"
    kinds = _kinds(baseline, REQUESTS), _kinds(candidate, REQUESTS)
    if not kinds[0] & kinds[1]:
        named = [", or ".join(sorted(each)[:_MOST_NAMED]) for each in kinds]
        return f"no request of the candidate is like one of the baseline: they are {named[0]}, and {named[1]}"
    for name, runs in (("baseline", baseline), ("candidate", candidate)):
        if _most(runs, REQUESTS) < _LEAST_REQUESTS:
            return f"no run of the {name} has two requests: record longer ones"
    return "baseline and candidate have nothing in common"


def _series(runs: Runs) -> set[Series]:
    return {series for run in runs for series in run.series}


def _kinds(runs: Runs, series: Series) -> set[str]:
    return {kind for run in runs for kind in run.series.get(series, {})}


def _most(runs: Runs, series: Series) -> int:
    """Count the requests, or spans, of the run that has the most of them."""
    counts = (sum(int(cells.count.sum()) for cells in run.series.get(series, {}).values()) for run in runs)
    return max(counts, default=0)
