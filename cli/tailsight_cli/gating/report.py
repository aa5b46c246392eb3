"""All that a gate has to say, whatever the form: the judgement, of what, by which settings, and what else to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.result import Compared, Judgement, MetricVerdict
from tailsight_analysis.gating.samples import REQUEST
from tailsight_analysis.gating.settings import ANY, GateSettings
from tailsight_analysis.scope import iso
from tailsight_cli._errors import FINE, NOT_ENOUGH_DATA
from tailsight_cli.gating.config import GateConfig
from tailsight_cli.gating.sampling import Side, requests_of
from tailsight_cli.gating.uncompared import not_compared
from tailsight_cli.gating.values import nearest

REGRESSION_FOUND = 1
MOST_OPEN = 10  # of what is not decided, shown
MOST_CHANGED = 40  # of what became slower, and of what became faster


@dataclass(frozen=True, slots=True)
class GateReport:
    """A gate's answer. `notes` are sentences beside the judgement's own; `exit_code` is what the command ends with.

    `judged_ns` is when it was given, in nanoseconds since 1970; `title` what was judged, in lists of reports.
    """

    judgement: Judgement
    baseline: Side
    candidate: Side
    config: GateConfig
    notes: tuple[str, ...]
    exit_code: int
    judged_ns: int = 0
    title: str = ""

    def of_verdict(self, *verdicts: MetricVerdict) -> list[Compared]:
        """Return the comparisons with one of these verdicts, the most important first."""
        return [each for each in by_importance(self.judgement.comparisons) if each.verdict in verdicts]

    def shown(self) -> list[Compared]:
        """Return the comparisons that the verdict rests on: where something is slower, what is open matters less."""
        open_ = self.undecided()[:MOST_OPEN] if self.judgement.verdict == "inconclusive" else []
        changed = (self.of_verdict(each)[:MOST_CHANGED] for each in ("regression", "improvement"))
        return by_importance([*(row for rows in changed for row in rows), *open_])

    def undecided(self) -> list[Compared]:
        """Return what is open and would have to pass, the most important first."""
        return [row for row in self.of_verdict("inconclusive") if row.decides]

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
            "judged": iso(self.judged_ns),
            "title": self.title,
            "baseline": _side(self.baseline),
            "candidate": _side(self.candidate),
            "settings": _settings(settings),
            "config": str(self.config.path) if self.config.path else None,
            "calibrated": {"created": stored.created, "machine": stored.machine} if stored else None,
        }


def report(
    judgement: Judgement,
    sides: Sequence[Side],
    config: GateConfig,
    on_inconclusive: str | None,
    *,
    judged_ns: int = 0,
    title: str = "",
) -> GateReport:
    """Put together what a gate found."""
    baseline, candidate = sides
    notes = (
        *not_compared(judgement.comparisons, baseline.runs, candidate.runs, config.settings),
        *_notes(baseline, candidate, config),
    )
    code = _code(judgement, on_inconclusive)
    return GateReport(judgement, baseline, candidate, config, notes, code, judged_ns, title)


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
        "branches": list(side.branches),
        "versions": list(side.versions),
        "runs": [{"run": run.label, "start": iso(run.start_ns), "requests": requests_of(run)} for run in side.runs],
    }


def _settings(settings: GateSettings) -> dict[str, Any]:
    return {
        "tolerance": settings.tolerance,
        "tolerances": {".".join(key): value for key, value in settings.tolerances.items()},
        "limits_ms": {".".join(key): value for key, value in settings.limits_ms.items()},
        "ignore": list(settings.ignored_stages),
        "metrics": list(settings.metrics),
        "tail_margin": settings.tail_margin,
        "decided_by": settings.decided_by,
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
