"""All that a gate has to say, whatever the form: the judgement, of what, by which settings, and what else to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.gating.result import Compared, Judgement, MetricVerdict
from tailsight_analysis.gating.samples import REQUEST
from tailsight_analysis.gating.settings import ANY, GateSettings
from tailsight_analysis.scope import iso
from tailsight_cli._errors import FINE, NOT_ENOUGH_DATA
from tailsight_cli.gating.config import GateConfig
from tailsight_cli.gating.sampling import Side, requests_of
from tailsight_cli.gating.values import nearest

REGRESSION_FOUND = 1
MOST_OPEN = 10  # of what is not decided, shown
_ORDER: tuple[MetricVerdict, ...] = ("regression", "inconclusive", "improvement", "pass")


@dataclass(frozen=True, slots=True)
class GateReport:
    """A gate's answer. `notes` are sentences beside the judgement's own; `exit_code` is what the command ends with."""

    judgement: Judgement
    baseline: Side
    candidate: Side
    config: GateConfig
    notes: tuple[str, ...]
    exit_code: int

    def of_verdict(self, *verdicts: MetricVerdict) -> list[Compared]:
        """Return the comparisons with one of these verdicts, the most important first."""
        return [each for each in by_importance(self.judgement.comparisons) if each.verdict in verdicts]

    def shown(self) -> list[Compared]:
        """Return the comparisons that the verdict rests on: where something is slower, what is open matters less."""
        open_ = [] if self.judgement.verdict == "regression" else self.of_verdict("inconclusive")[:MOST_OPEN]
        return by_importance([*self.of_verdict("regression", "improvement"), *open_])

    def folded(self) -> list[Compared]:
        """Return the others."""
        shown = self.shown()
        return [each for each in by_importance(self.judgement.comparisons) if each not in shown]

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/gate.md."""
        stored, settings = self.config.calibration, self.config.settings
        return {
            **self.judgement.to_json(),
            "notes": list(self.notes),
            "exit_code": self.exit_code,
            "baseline": _side(self.baseline),
            "candidate": _side(self.candidate),
            "settings": _settings(settings),
            "config": str(self.config.path) if self.config.path else None,
            "calibrated": {"created": stored.created, "machine": stored.machine} if stored else None,
        }


def report(judgement: Judgement, sides: Sequence[Side], config: GateConfig, on_inconclusive: str | None) -> GateReport:
    """Put together what a gate found."""
    baseline, candidate = sides
    return GateReport(
        judgement, baseline, candidate, config, _notes(baseline, candidate, config), _code(judgement, on_inconclusive)
    )


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
        return place, row.tolerance - ((row.ratio if end is None else end) - 1)

    return sorted(comparisons, key=weight)


def _code(judgement: Judgement, on_inconclusive: str | None) -> int:
    if judgement.verdict == "regression":
        return REGRESSION_FOUND
    if judgement.verdict == "pass":
        return FINE
    return {"pass": FINE, "fail": REGRESSION_FOUND}.get(on_inconclusive or "", NOT_ENOUGH_DATA)


def _side(side: Side) -> dict[str, Any]:
    return {
        "sources": list(side.sources),
        "commits": list(side.commits),
        "runs": [{"run": run.label, "start": iso(run.start_ns), "requests": requests_of(run)} for run in side.runs],
    }


def _settings(settings: GateSettings) -> dict[str, Any]:
    return {
        "tolerance": settings.tolerance,
        "tolerances": {".".join(key): value for key, value in settings.tolerances.items()},
        "limits_ms": {".".join(key): value for key, value in settings.limits_ms.items()},
        "ignore": list(settings.ignored_stages),
        "metrics": list(settings.metrics),
        "confidence": settings.confidence,
    }


def _notes(baseline: Side, candidate: Side, config: GateConfig) -> tuple[str, ...]:
    notes = []
    if baseline.machines and candidate.machines and not baseline.machines & candidate.machines:
        notes.append(
            "The sides were recorded on different machines: what differs may be the machine. Record both on one, in "
            "turns (`tailsight record -o base.otlp.zst -o cand.otlp.zst --repeat 10 …`)."
        )
    machines = {run.about["machine"] for run in (*baseline.runs, *candidate.runs) if "machine" in run.about}
    stored = config.calibration
    if stored and stored.machine and machines and stored.machine not in machines:
        notes.append(f"The calibration is of another machine ({stored.machine}): calibrate on this one.")
    notes += _unknown_stages(baseline, candidate, config)
    return (*notes, *baseline.notes, *candidate.notes)


def _unknown_stages(baseline: Side, candidate: Side, config: GateConfig) -> list[str]:
    """Name stages of the settings that no run has: misspelt, or no longer there."""
    settings = config.settings
    known = {series.stage or REQUEST for run in (*baseline.runs, *candidate.runs) for series in run.series} | {ANY}
    named = (*settings.ignored_stages, *(stage for stage, _ in (*settings.tolerances, *settings.limits_ms)))
    result = []
    for stage in dict.fromkeys(named):
        if stage not in known:
            near = nearest(stage, known - {ANY})
            hint = f"; did you mean {near!r}?" if near else ""
            result.append(f"The settings name the stage {stage!r}, which no run has{hint}")
    return result
