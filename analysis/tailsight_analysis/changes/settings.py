"""What counts as a change of a series."""

from __future__ import annotations

from dataclasses import dataclass

from tailsight_analysis.errors import QuestionError

MIN_SEGMENT = 3
FEWEST_POINTS = 8  # in which a change can be found: four and four; no order of fewer is rare enough
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

    @property
    def fewest_points(self) -> int:
        """In a series of fewer points, nothing can be found."""
        return max(FEWEST_POINTS, 2 * self.min_segment)

    @property
    def newest_unjudged(self) -> int:
        """How many points at the end of a series are too new to begin a level that can be told from outliers."""
        return self.min_segment

    def __post_init__(self) -> None:
        if self.min_segment < MIN_SEGMENT:
            raise QuestionError(
                f"a level of {self.min_segment} points cannot be told from outliers: use {MIN_SEGMENT} or more"
            )
        if not 0 <= self.least_change < float("inf"):
            raise QuestionError(f"a least change of {self.least_change:g} makes no sense: use a share, like 0.05")


DEFAULT_SETTINGS = ChangeSettings()
