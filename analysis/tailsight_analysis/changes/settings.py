"""What counts as a change of a series."""

from __future__ import annotations

from dataclasses import dataclass

from tailsight_analysis.errors import QuestionError

MIN_SEGMENT = 3
LEAST_CHANGE = 0.02


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Both are checked when they are set; QuestionError.

    `min_segment` is how many points a level has at least: what lasts shorter is an outlier. `least_change` is the
    effect-size floor: how much a level must differ from the one before, as a share of it; `least_difference` is
    another, in the unit of the values.
    """

    min_segment: int = MIN_SEGMENT
    least_change: float = LEAST_CHANGE
    least_difference: float = 0.0

    def __post_init__(self) -> None:
        if self.min_segment < MIN_SEGMENT:
            raise QuestionError(
                f"a level of {self.min_segment} points cannot be told from outliers: use {MIN_SEGMENT} or more"
            )
        if not 0 <= self.least_change < float("inf"):
            raise QuestionError(f"a least change of {self.least_change:g} makes no sense: use a share, like 0.05")


DEFAULT_SETTINGS = ChangeSettings()
