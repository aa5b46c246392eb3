"""Since which version, run or moment is what slower? Change points of every stage on every hardware type.

See docs/analysis/regressions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.changes.history import LEAST_CHANGE, SLOWER, HistoryChange, history_changes, with_mixes
from tailsight_analysis.changes.settings import DEFAULT_SETTINGS
from tailsight_analysis.changes.units import Line, Unit
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.history_reading import Asked, fetch_lines, fetch_mixes, fetch_units, named
from tailsight_analysis.scope import NO_FILTERS, NS_PER_S, Filters, Window, describe
from tailsight_storage import Store

BY = ("version", "run", "time")
METRICS = ("p50", "p95", "p99", "mean", "jitter")
LEAST_UNITS = DEFAULT_SETTINGS.fewest_points
NEWEST_UNJUDGED = DEFAULT_SETTINGS.newest_unjudged  # units: what began with them may be outliers, so far
_FEWEST_SHOWN = 6  # units, from which a history is shown, though no change may show
MOST_UNITS = 2_000
POINTS = 60  # stretches of time, at most, where nobody says how long one is
_LENGTHS_S = (1, 5, 15, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400, 28 * 86400)
_ONE = {"version": "version", "run": "run", "time": "whole stretch of time"}


@dataclass(frozen=True, slots=True)
class Regressions:
    """The answer: `units` in order of time, the `lines` that were looked at, and `changes`, the latest first.

    `short_lines` have fewer than eight points, and could not change. `bucket_s` is the length of a stretch of time;
    None by version or run.
    """

    window: Window
    filters: Filters
    by: str
    metrics: tuple[str, ...]
    least_change: float
    bucket_s: float | None
    units: tuple[Unit, ...]
    lines: tuple[Line, ...]
    changes: tuple[HistoryChange, ...]

    @property
    def short_lines(self) -> int:
        """How many lines have too few points for any change."""
        return sum(1 for line in self.lines if len(line.points) < LEAST_UNITS)

    @property
    def slower(self) -> tuple[HistoryChange, ...]:
        """Changes for the worse."""
        return tuple(change for change in self.changes if change.direction == SLOWER)

    def changes_of(self, line: Line) -> tuple[HistoryChange, ...]:
        """Return the changes of one line, the earliest first."""
        key = (line.stage, line.hardware, line.metric)
        return tuple(each for each in reversed(self.changes) if (each.stage, each.hardware, each.metric) == key)

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/regressions.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "by": self.by,
            "metrics": list(self.metrics),
            "least_change": self.least_change,
            "bucket_s": self.bucket_s,
            "changes": [change.to_json(self.units) for change in self.changes],
            "units": [unit.to_json() for unit in self.units],
            "series": [
                {
                    "stage": line.stage,
                    "hardware": line.hardware,
                    "metric": line.metric,
                    "points": [point.to_json() for point in line.points],
                    "change_units": [change.first_after for change in self.changes_of(line)],
                }
                for line in self.lines
            ],
            "short_series": self.short_lines,
            "newest_unjudged": NEWEST_UNJUDGED,
        }


def regressions(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    by: str = "version",
    metrics: Sequence[str] = METRICS,
    least_change: float = LEAST_CHANGE,
    bucket_s: float | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> Regressions:
    """Find the changes of each stage, hardware type and metric, and of the requests, over versions, runs or time.

    `bucket_s` is the length of a stretch of time, for `by` time: else one that gives at most 60. `said` is told what is
    being done. Raises QuestionError for what cannot be asked, NoSpansError where nothing matches, NotEnoughDataError
    where there are fewer than six units.
    """
    asked = Asked(window, filters, _checked(by), _unit_ns(window, by, bucket_s))
    chosen = _checked_metrics(metrics)
    if not 0 <= least_change < float("inf"):
        raise QuestionError(f"a least change of {least_change:g} makes no sense: use a share, like 0.05")
    said("Reading the history")
    units, cut = fetch_units(store, asked)
    if not units and not cut:
        raise NoSpansError(f"no spans with a {by} in {describe(window, filters)}")
    what = {"version": "versions", "run": "runs", "time": "whole stretches of time"}[by]
    if len(units) < _FEWEST_SHOWN:
        short, found = LEAST_UNITS - len(units), f"{len(units)} {what if len(units) != 1 else _ONE[by]}"
        raise NotEnoughDataError(
            f"{found} in {describe(window, filters)}: a change needs {LEAST_UNITS} or more to show, "
            f"{short} more" + (", or shorter stretches" if by == "time" else "")
        )
    if len(units) > MOST_UNITS:
        raise QuestionError(f"{len(units):,} {what} are too many: narrow the window, so that there are {MOST_UNITS:,}")
    said("Reading latencies")
    lines = fetch_lines(store, asked, units, chosen)
    said("Looking for changes")
    changes = history_changes(lines, least_change)
    if changes:
        said("Reading what was asked")
        changes = with_mixes(changes, fetch_mixes(store, asked, units))
    return Regressions(
        window,
        filters,
        by,
        chosen,
        least_change,
        asked.unit_ns / NS_PER_S if by == "time" else None,
        tuple(named(units, asked)),
        tuple(lines),
        changes,
    )


def _checked(by: str) -> str:
    if by not in BY:
        raise QuestionError(f"no history over {by!r}: use {', '.join(BY)}")
    return by


def _checked_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(metrics))
    unknown = [name for name in chosen if name not in METRICS]
    if unknown or not chosen:
        raise QuestionError(f"no metric {', '.join(map(repr, unknown)) or 'at all'}: use {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in chosen)


def _unit_ns(window: Window, by: str, bucket_s: float | None) -> int:
    if bucket_s is not None and by != "time":
        raise QuestionError(f"a history over {by} has no stretches of time: leave their length out, or use time")
    if bucket_s is not None and not bucket_s >= 1:
        raise QuestionError(f"a stretch of {bucket_s:g} s is too short: use 1 s or more")
    if bucket_s is None:
        bucket_s = next((length for length in _LENGTHS_S if window.duration_s <= POINTS * length), _LENGTHS_S[-1])
    return round(bucket_s * NS_PER_S)
