"""What a gate compares: runs, each with the durations of its requests and of its stages, counted in cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.intervals import Cells

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REQUEST = "request"  # the stage's name, in settings and in words, of whole requests


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What is compared: the requests as wholes (both empty), or the spans of a stage on a type of hardware."""

    stage: str = ""
    hardware: str = ""

    @property
    def is_request(self) -> bool:
        """Whether these are the requests as wholes."""
        return not self.stage and not self.hardware

    @property
    def name(self) -> str:
        """Human text: `request`, `compute`, `compute on NVIDIA L4`."""
        stage = self.stage or (REQUEST if self.is_request else "(no stage)")
        return f"{stage} on {self.hardware}" if self.hardware else stage


REQUESTS = Series()


@dataclass(frozen=True, slots=True)
class RunSample:
    """One run of one side.

    `series` has the durations in ms, of each series; blocks are numbers that ascend with time within the run.
    `start_ns` is when the run began, in nanoseconds since 1970: it says which runs were taken in turn. `about` is what
    was measured and on what (hardware, model, mix), key by key, so that a report can say first where sides differ.
    """

    label: str
    start_ns: int
    series: Mapping[Series, Cells]
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many requests it has."""
        cells = self.series.get(REQUESTS)
        return 0 if cells is None else int(cells.count.sum())


def run_of_values(label: str, start_ns: int, durations_ms: Mapping[Series, Sequence[float] | Floats]) -> RunSample:
    """Make a run of durations in the order of time: in 64 blocks of as many each, or one each if they are fewer."""
    return RunSample(label, start_ns, {series: cells_of(np.asarray(each)) for series, each in durations_ms.items()})


def cells_of(durations_ms: Floats, blocks: int = 64) -> Cells:
    """Count durations in the order of time, one cell each."""
    count = len(durations_ms)
    block = np.arange(count, dtype=np.int64) * min(blocks, count) // max(count, 1)
    return Cells.of_values(np.asarray(durations_ms, dtype=np.float64), block, np.ones(count))
