"""Is a candidate slower than a baseline? The runs of both sides are fetched and judged: see docs/analysis/gate.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.comparison.sides import Side
from tailsight_analysis.confidence import ALL_BLOCKS_UP_TO, BLOCKS, Scale, cells_of_row
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError
from tailsight_analysis.gating.calibration import calibrate
from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.lengths import Lengths
from tailsight_analysis.gating.result import Calibration, Compared, Judgement, Needed
from tailsight_analysis.gating.samples import REQUESTS, Ints, RunSample, Series
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun, joined, standardise
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.covariates import INPUT_KEYS, LEAST_SHARE
from tailsight_analysis.scope import NS_PER_MS, describe, scope_parameters
from tailsight_analysis.statistics.intervals import Cells
from tailsight_storage import Store

# Runs so near in time are read together: what lies around one (sql/around.sql) is around the other.
_NEAR_NS = 3_600_000_000_000
_ENOUGH_FOR_KEYS = 200_000  # spans
_COARSE_STEPS = 2  # of input lengths, in eighths of an octave, where there are very many spans

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
    """Judge both sides on the baseline's mix. Pure. Raises NotEnoughDataError where they have nothing in common."""
    alike = standardise(baseline, candidate)
    try:
        return judge(alike.baseline, alike.candidate, settings, calibration, alike.differences)
    except NotEnoughDataError as error:
        if not alike.differences:
            raise
        raise NotEnoughDataError(f"{error}: {'; '.join(alike.differences)}") from error


def fetch_runs(store: Store, side: Side) -> list[StratifiedRun]:
    """Fetch the runs of a window: by their label; what carries none is one run. In the order of time."""
    bound = scope_parameters(side.window, side.filters)
    rows = store.ask(query("gate_runs"), **bound)
    if not rows:
        raise NoSpansError(f"no requests in {describe(side.window, side.filters)}")
    shape = request_parameters(store, side.window, side.filters)
    spans = sum(int(row["spans"]) for row in rows)
    inputs = {
        "input_key": _input_key(store, side, spans),
        "step_width": 1 if spans <= ALL_BLOCKS_UP_TO else _COARSE_STEPS,
    }
    runs = [run for near in _near(rows) for run in _fetch(store, near, shape, inputs)]
    if not runs:
        raise NoSpansError(f"no requests in {describe(side.window, side.filters)}")
    return runs


def _input_key(store: Store, side: Side, spans: int) -> str:
    """Find the first of INPUT_KEYS that enough of the traces carry; "" where there is none."""
    bounds = {"since_ns": side.window.since_ns, "until_ns": side.window.until_ns}
    one_in = max(1, spans // _ENOUGH_FOR_KEYS)
    rows = store.ask(query("gate_inputs"), **bounds, keys=list(INPUT_KEYS), one_in=one_in)
    carried = {str(row["key"]) for row in rows if row["traces"] >= LEAST_SHARE * row["whole"]}
    return next((key for key in INPUT_KEYS if key in carried), "")


def _near(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Put runs together that lie near each other in time. `rows` are in the order of their beginnings."""
    together: list[Mapping[str, Any]] = []
    last_ns = 0
    for row in rows:
        if together and int(row["first_ns"]) - last_ns > _NEAR_NS:
            yield together
            together = []
        together.append(row)
        last_ns = max(last_ns, int(row["last_ns"]))
    yield together


def _fetch(
    store: Store, rows: Sequence[Mapping[str, Any]], shape: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Iterator[StratifiedRun]:
    """Fetch runs of sql/gate_runs.sql. `shape` binds what requests of the whole window are like."""
    scales = [Scale.of_run(int(row["spans"]), int(row["first_ns"]), int(row["last_ns"])) for row in rows]
    bound = {
        **shape,
        "since_ns": min(int(row["first_ns"]) for row in rows),
        "until_ns": max(int(row["last_ns"]) for row in rows) + 1,
        **inputs,
        "runs": [str(row["run"]) for row in rows],
        "blocks": BLOCKS,
        "units_shift": [scale.cell_shift for scale in scales],
        "units_first_ns": [scale.first_ns for scale in scales],
        "units_block_ns": [scale.block_ns for scale in scales],
    }
    units_last_ns = [int(row["last_ns"]) for row in rows]
    requests = _strata(store.columns(query("gate_requests"), **bound, units_last_ns=units_last_ns), scales)
    of_spans = query("gate_spans_joined" if bound["weighted"] or inputs["input_key"] else "gate_spans")
    stages = _strata(store.columns(of_spans, **{name: bound[name] for name in of_spans.parameters}), scales)
    for place, (row, scale) in enumerate(zip(rows, scales, strict=True), 1):
        if not requests.get(place):
            continue
        found = {**requests[place], **stages.get(place, {})}
        series = {each: {kind: stratum.cells for kind, stratum in kinds.items()} for each, kinds in found.items()}
        steps = {each: {kind: stratum.steps for kind, stratum in kinds.items()} for each, kinds in found.items()}
        about = {name: ", ".join(row[name]) for name in ("hardware", "model") if row[name]}
        lengths = Lengths(inputs["input_key"], inputs["step_width"], steps) if inputs["input_key"] else None
        yield StratifiedRun(str(row["run"]), scale.first_ns, series, about, lengths)


@dataclass(frozen=True, slots=True)
class _Stratum:
    """Durations of one kind, and beside each cell how long the inputs were."""

    cells: Cells
    steps: Ints


def _strata(
    columns: Mapping[str, np.ndarray[Any, Any]], scales: Sequence[Scale]
) -> dict[int, dict[Series, dict[str, _Stratum]]]:
    """Sort cells by run (its place, from 1), series and kind."""
    result: dict[int, dict[Series, dict[str, _Stratum]]] = {}
    if not columns:
        return result
    # of requests the hardware is a part of the kind, of spans a part of the series
    is_span = "stage" in columns
    order = np.lexsort((columns["step"], columns["code"], columns["block"], columns["kind"], columns["place"]))
    place, kind = columns["place"][order], columns["kind"][order]
    first = np.flatnonzero(np.append(True, (place[1:] != place[:-1]) | (kind[1:] != kind[:-1])))
    for chosen in np.split(order, first[1:]):
        text = {
            name: str(columns[name][chosen[0]]) for name in ("stage", "hardware", "name", "model") if name in columns
        }
        number = int(columns["place"][chosen[0]])
        cells = {
            "codes": columns["code"][chosen],
            "blocks": columns["block"][chosen],
            **{name: columns[name][chosen] for name in ("counts", "weights", "weights2")},
        }
        stratum = _Stratum(_in_ms(cells_of_row(cells, scales[number - 1])), columns["step"][chosen].astype(np.int64))
        series = Series(text["stage"], text["hardware"]) if is_span else REQUESTS
        name = _kind(text["name"], text["model"], "" if is_span else text["hardware"])
        kinds = result.setdefault(number, {}).setdefault(series, {})
        known = kinds.get(name)
        kinds[name] = (
            stratum
            if known is None
            else _Stratum(joined([known.cells, stratum.cells]), np.concatenate((known.steps, stratum.steps)))
        )
    return result


def _kind(*parts: object) -> str:
    """Name a kind: `POST /chat, llama-8b, NVIDIA L4`."""
    return ", ".join(str(part) for part in parts if part) or "(not said)"


def _in_ms(cells: Cells) -> Cells:
    return replace(cells, value=cells.value / NS_PER_MS, width=cells.width / NS_PER_MS)
