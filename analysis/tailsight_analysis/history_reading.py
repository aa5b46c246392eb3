"""Fetch a history: its units in order of time, what their spans and requests took, and what the requests were."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.changes.units import Line, Mix, Point, Unit
from tailsight_analysis.gating.estimates import estimate
from tailsight_analysis.gating.samples import RunSample, Series
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.covariates import INPUT_KEYS, LEAST_SHARE
from tailsight_analysis.scope import NS_PER_MS, Filters, Window, iso, scope_parameters
from tailsight_analysis.statistics.intervals import Cells
from tailsight_storage import Store

BLOCKS = 32
ENOUGH_FOR_LENGTHS = 200_000  # spans
# Of fewer spans or requests in a unit, the metric says nothing about it.
LEAST_COUNT: Mapping[str, int] = {"p50": 20, "mean": 20, "p95": 60, "p99": 200, "jitter": 200}
_MANTISSA_BITS = 52
_COARSE_BITS = 7  # cells of 1 ÷ 128 of a power of two …
EXACT_UP_TO = 50_000  # … in units of more spans; by unit, so that new units change no figure of old ones


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a history looks, and what its units are: 'version', 'run' or 'time' in stretches of `unit_ns`."""

    window: Window
    filters: Filters
    unit: str
    unit_ns: int


def fetch_units(store: Store, asked: Asked) -> tuple[list[Unit], int]:
    """Units in order of their first span, and how many are left out: stretches of time that the window cuts off."""
    bound = scope_parameters(asked.window, asked.filters)
    rows = store.ask(query("history_units"), **bound, unit=asked.unit, unit_ns=asked.unit_ns)
    units, cut = [], 0
    for row in rows:
        name = str(row["unit"])
        if asked.unit == "time" and (int(name) + 1) * asked.unit_ns > asked.window.until_ns:
            cut += 1
            continue
        seen = [tuple(dict.fromkeys(str(each) for each in row[key] if each)) for key in ("versions", "runs")]
        units.append(Unit(name, int(row["first_ns"]), int(row["last_ns"]), int(row["spans"]), *seen))
    return units, cut


def named(units: Sequence[Unit], asked: Asked) -> list[Unit]:
    """Give stretches of time the names that people read: when they begin."""
    if asked.unit != "time":
        return list(units)
    return [replace(each, name=iso(int(each.name) * asked.unit_ns)[:19] + "Z") for each in units]


def fetch_lines(store: Store, asked: Asked, units: Sequence[Unit], metrics: Sequence[str]) -> list[Line]:
    """Each metric of the requests and of every stage on every hardware type, over the units that have enough of it."""
    bound = _bound(asked, units)
    parameters = request_parameters(store, asked.window, asked.filters)
    weighted = bool(parameters["weighted"])
    shifts = [0 if unit.spans <= EXACT_UP_TO else _MANTISSA_BITS - _COARSE_BITS for unit in units]
    cells: dict[int, dict[Series, Cells]] = {}
    of_cells = {
        "blocks": BLOCKS,
        "units_shift": shifts,
        "units_first_ns": [unit.first_ns for unit in units],
        "units_block_ns": [(unit.last_ns - unit.first_ns) // BLOCKS + 1 for unit in units],
    }
    found = store.ask(query("history_spans_weighted" if weighted else "history_spans"), **bound, **of_cells)
    for row in found:
        series = Series(str(row["stage"]), str(row["hardware"]))
        place = int(row["place"]) - 1
        cells.setdefault(place, {})[series] = _cells(row, shifts[place])
    for row in store.ask(query("history_requests"), **parameters, **_units_of(asked, units), **of_cells):
        place = int(row["place"]) - 1
        cells.setdefault(place, {})[Series()] = _cells(row, shifts[place])
    return _lines(units, cells, metrics)


def fetch_mixes(store: Store, asked: Asked, units: Sequence[Unit]) -> list[Mix]:
    """Fetch what the requests of each unit were."""
    shares: list[dict[tuple[str, str], float]] = [{} for _ in units]
    parameters = request_parameters(store, asked.window, asked.filters)
    for row in store.ask(query("history_operations"), **parameters, **_units_of(asked, units)):
        shares[int(row["place"]) - 1]["operation", str(row["value"])] = float(row["weight"])
    for row in store.ask(query("history_mix"), **_bound(asked, units)):
        shares[int(row["place"]) - 1][str(row["kind"]), str(row["value"])] = float(row["spans"])
    lengths = _input_lengths(store, asked, units)
    return [Mix(_shares(each), length) for each, length in zip(shares, lengths, strict=True)]


def _lines(units: Sequence[Unit], cells: Mapping[int, Mapping[Series, Cells]], metrics: Sequence[str]) -> list[Line]:
    points: dict[tuple[Series, str], list[Point]] = {}
    for place, unit in enumerate(units):
        of_unit = cells.get(place, {})
        keys = [(series, metric) for series in sorted(of_unit) for metric in metrics]
        found = estimate(RunSample(unit.name, unit.first_ns, of_unit), keys)
        errors = np.sqrt(np.maximum(np.diag(found.covariance), 0.0))
        for key, value, error in zip(keys, found.values.tolist(), errors.tolist(), strict=True):
            count = int(of_unit[key[0]].count.sum())
            if count >= LEAST_COUNT[key[1]] and np.isfinite(value) and np.isfinite(error):
                points.setdefault(key, []).append(Point(place, float(np.exp(value)), error, count))
    return [
        Line(series.stage, series.hardware, metric, _evenly_sure(of_line))
        for (series, metric), of_line in sorted(
            points.items(), key=lambda item: (item[0][0], metrics.index(item[0][1]))
        )
    ]


def _evenly_sure(points: Sequence[Point]) -> tuple[Point, ...]:
    """Give each point the error that as many requests have in the median unit so far: one unit's is known badly."""
    of_one: list[float] = []
    result = []
    for point in points:
        bisect.insort(of_one, point.error**2 * point.count)
        median = statistics.median(of_one)
        result.append(replace(point, error=math.sqrt(median / point.count)))
    return tuple(result)


def _input_lengths(store: Store, asked: Asked, units: Sequence[Unit]) -> list[float | None]:
    """Mean logarithm of the inputs' length in each unit, by the first key that every unit's spans carry."""
    found: dict[str, dict[int, tuple[int, float]]] = {}
    one_in = max(1, sum(unit.spans for unit in units) // ENOUGH_FOR_LENGTHS)
    for row in store.ask(query("history_inputs"), **_bound(asked, units), keys=list(INPUT_KEYS), one_in=one_in):
        found.setdefault(str(row["key"]), {})[int(row["place"]) - 1] = int(row["spans"]), float(row["mean_log"])
    most = max((sum(count for count, _ in each.values()) for each in found.values()), default=0)
    for key in INPUT_KEYS:
        carried = found.get(key, {})
        if sum(count for count, _ in carried.values()) >= max(1, LEAST_SHARE * most):
            return [carried[place][1] if place in carried else None for place in range(len(units))]
    return [None] * len(units)


def _shares(weights: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    totals: dict[str, float] = {}
    for (kind, _), weight in weights.items():
        totals[kind] = totals.get(kind, 0.0) + weight
    return {pair: weight / totals[pair[0]] for pair, weight in weights.items()}


def _bound(asked: Asked, units: Sequence[Unit]) -> dict[str, Any]:
    return {**scope_parameters(asked.window, asked.filters), **_units_of(asked, units)}


def _units_of(asked: Asked, units: Sequence[Unit]) -> dict[str, Any]:
    return {"unit": asked.unit, "unit_ns": asked.unit_ns, "units": [unit.name for unit in units]}


def _cells(row: Mapping[str, Any], shift: int) -> Cells:
    """Read a row of cells, in ms."""
    codes = np.asarray(row["codes"], dtype=np.uint64)
    low = (codes << np.uint64(shift)).view(np.float64)
    width = ((codes + np.uint64(1)) << np.uint64(shift)).view(np.float64) - low if shift else np.zeros(len(codes))
    return Cells(
        value=low / NS_PER_MS,
        width=width / NS_PER_MS,
        block=np.asarray(row["blocks"], dtype=np.int64),
        count=np.asarray(row["counts"], dtype=np.int64),
        weight=np.asarray(row["weights"], dtype=np.float64),
        weight2=np.asarray(row["weights2"], dtype=np.float64),
    )
