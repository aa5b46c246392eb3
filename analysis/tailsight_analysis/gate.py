"""Is a candidate slower than a baseline? The runs of both sides are fetched and judged: see docs/analysis/gate.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tailsight_analysis.comparison.sides import Side
from tailsight_analysis.confidence import Scale, cells_of_row, span_cells
from tailsight_analysis.errors import NoSpansError
from tailsight_analysis.gating.calibration import calibrate
from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.result import Calibration, Compared, Judgement, Needed
from tailsight_analysis.gating.samples import REQUESTS, RunSample, Series
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun, joined, standardise
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NS_PER_MS, Window, describe, scope_parameters
from tailsight_analysis.statistics.intervals import Cells
from tailsight_storage import Store

__all__ = [
    "Calibration",
    "Compared",
    "GateSettings",
    "Judgement",
    "Needed",
    "RunSample",
    "Series",
    "calibrate",
    "fetch_runs",
    "gate",
    "judge",
    "judge_stratified",
]


def gate(
    store: Store,
    baseline: Sequence[Side],
    candidate: Sequence[Side],
    settings: GateSettings | None = None,
    calibration: Calibration | None = None,
) -> Judgement:
    """Judge the candidate's runs against the baseline's. A window may hold several runs, told apart by their label.

    Raises NoSpansError where a part has no request, NotEnoughDataError where the sides have nothing in common.
    """
    before, after = ([run for part in side for run in fetch_runs(store, part)] for side in (baseline, candidate))
    return judge_stratified(before, after, settings or GateSettings(), calibration)


def judge_stratified(
    baseline: Sequence[StratifiedRun],
    candidate: Sequence[StratifiedRun],
    settings: GateSettings,
    calibration: Calibration | None = None,
) -> Judgement:
    """Judge both sides on the baseline's mix. Pure."""
    alike = standardise(baseline, candidate)
    return judge(alike.baseline, alike.candidate, settings, calibration, alike.differences)


def fetch_runs(store: Store, side: Side) -> list[StratifiedRun]:
    """Fetch the runs of a window: by their label; what carries none is one run. In the order of time."""
    bound = scope_parameters(side.window, side.filters)
    found = store.ask(query("gate_runs"), **bound)
    shape = request_parameters(store, side.window, side.filters)
    runs = [run for row in found if (run := _fetch(store, side, row, shape)) is not None]
    if not runs:
        raise NoSpansError(f"no requests in {describe(side.window, side.filters)}")
    return runs


def _fetch(store: Store, side: Side, row: Mapping[str, Any], shape: Mapping[str, Any]) -> StratifiedRun | None:
    """Fetch one run of sql/gate_runs.sql. `shape` binds what requests of the whole window are like."""
    first_ns, last_ns = int(row["first_ns"]), int(row["last_ns"])
    window = Window(first_ns, last_ns + 1)
    filters = replace(side.filters, run=(str(row["run"]),))
    scale = Scale.of_run(int(row["spans"]), first_ns, last_ns)
    scope = scope_parameters(window, filters)
    found = store.ask(query("gate_requests"), **{**shape, **scope}, **scale.parameters)
    requests = {
        _kind(each["operation"], each["models"], each["types"]): _in_ms(cells_of_row(each, scale))
        for each in found
        if len(each["codes"])
    }
    if not requests:
        return None
    series: dict[Series, dict[str, Cells]] = {REQUESTS: requests}
    asked = {**scope, "by": ["stage", "hardware", "name", "model"], "weighted": bool(shape["weighted"])}
    for (stage, hardware, name, model), cells in span_cells(store, asked, scale).items():
        if stage:  # spans without one are requests, and what nobody named
            kinds = series.setdefault(Series(stage, hardware), {})
            kind = _kind(name, model)
            kinds[kind] = joined([kinds[kind], _in_ms(cells)]) if kind in kinds else _in_ms(cells)
    about = {name: ", ".join(row[name]) for name in ("hardware", "model") if row[name]}
    return StratifiedRun(str(row["run"]), first_ns, series, about)


def _kind(*parts: object) -> str:
    """Name a kind: `POST /chat, llama-8b, NVIDIA L4`."""
    return ", ".join(str(part) for part in parts if part) or "(not said)"


def _in_ms(cells: Cells) -> Cells:
    return replace(cells, value=cells.value / NS_PER_MS, width=cells.width / NS_PER_MS)
