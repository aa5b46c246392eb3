"""Which of a gate's comparisons matter most: the order in which every report shows them."""

from __future__ import annotations

from collections.abc import Sequence

from tailsight_analysis.gating.result import Compared, MetricVerdict

_ORDER: tuple[MetricVerdict, ...] = ("regression", "inconclusive", "improvement", "pass")


def by_importance(comparisons: Sequence[Compared]) -> list[Compared]:
    """Sort: regressions first, by how far they surely lie above the tolerance; then what is open, faster, and fine.

    What is open is in the order of its p-value: where a change is likeliest, first.
    """

    def weight(row: Compared) -> tuple[int, float]:
        place = _ORDER.index(row.verdict)
        if row.verdict == "inconclusive":
            return place, 1.0 if row.p_value is None else row.p_value
        if row.verdict == "improvement":
            return place, row.ci_high if row.ci_high is not None else row.ratio
        end = row.ci_low if row.verdict == "regression" else row.ci_high
        bound = row.tolerance if row.verdict == "regression" else row.margin
        return place, bound - ((row.ratio if end is None else end) - 1)

    return sorted(comparisons, key=weight)
