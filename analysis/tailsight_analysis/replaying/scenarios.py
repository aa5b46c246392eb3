"""What could be different: a change of one stage, or of several, as `whatif` is asked about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.errors import QuestionError

FASTER = 0.8  # of the ranking: 20 % less time
TYPICAL = 0.5


@dataclass(frozen=True, slots=True)
class Scenario:
    """One change of all the `stages` named; exactly one of the others says which.

    `times`: their own work takes so many times as long, 0.8 for 20 % faster. `at`: none takes more than this quantile
    of the stage's work, 0.5 for its median. `on`: they run on this hardware type. Raises QuestionError where it makes
    no sense.
    """

    stages: tuple[str, ...]
    times: float | None = None
    at: float | None = None
    on: str | None = None

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise QuestionError("a scenario changes a stage: name one, like compute")
        if [self.times, self.at, self.on].count(None) != 2:
            raise QuestionError("a scenario is one change: choose one of times, at and on")
        if self.times is not None and not 0 <= self.times <= 100:
            raise QuestionError(f"{self.times:g} times as long is no change to replay: use 0 to 100, like 0.8")
        if self.at is not None and not 0 <= self.at <= 1:
            raise QuestionError(f"{self.at:g} is no quantile: use 0 to 1, like 0.5")

    @property
    def change(self) -> str:
        """What is different, in words: `20 % faster`, `at its p50`, `on NVIDIA L4`."""
        if self.times is not None:
            return f"{abs(1 - self.times) * 100:.4g} % {'faster' if self.times <= 1 else 'slower'}"
        if self.at is not None:
            return f"at its p{self.at * 100:g}"
        return f"on {self.on}"

    @property
    def label(self) -> str:
        """Stages and change: `queue + compute at its p50`."""
        return f"{' + '.join(self.stages)} {self.change}"

    def to_json(self) -> dict[str, Any]:
        """Plain data: what was asked; the kinds of change that it is not are null."""
        return {"stages": list(self.stages), "times": self.times, "at": self.at, "on": self.on, "label": self.label}


def default_scenarios(stages: tuple[str, ...]) -> tuple[Scenario, ...]:
    """For every stage: 20 % faster, and at its median."""
    return tuple(
        scenario for name in stages for scenario in (Scenario((name,), times=FASTER), Scenario((name,), at=TYPICAL))
    )
