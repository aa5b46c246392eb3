"""Every column of figures on screen has the figure that the function's JSON has under its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import pandas as pd
import pytest
from analysis import brute_force, every_question
from analysis.every_question import ALL, QUESTIONS
from pandas.io.formats.style import Styler

from tailsight_analysis import Store, hardware, pareto
from tailsight_dashboard import tables, tables_hardware, tables_jitter, tables_whatif

PRICES = {"L4": 0.7, "H100": 3.0, "CPU": 0.1}


@pytest.fixture(scope="module")
def answers(engine: Store) -> Iterator[dict[str, Any]]:
    brute_force.insert(engine, every_question.spans())
    found = {name: ask(engine, ALL) for name, ask in QUESTIONS.items()}
    found |= {"hardware": hardware(engine, ALL, prices=PRICES), "pareto": pareto(engine, ALL, prices=PRICES)}
    yield found
    engine.run("TRUNCATE TABLE spans")


def _types(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for comparison in answer["comparisons"] for each in comparison["types"]]


def _rows(name: str) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    return lambda answer: list(answer[name])


def _requests_and_rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [answer["requests"], *answer["rows"]]


def _latencies(answer: Any) -> Styler:
    return tables.latencies(answer.rows, "stage")


TABLES: dict[str, tuple[str, Callable[[Any], Styler], Callable[[dict[str, Any]], list[dict[str, Any]]], dict[str, str]]]
TABLES = {
    "stages": ("breakdown", _latencies, _rows("rows"), {
        "Spans": "count", "p50 (ms)": "p50_ms", "p90 (ms)": "p90_ms", "p95 (ms)": "p95_ms", "p99 (ms)": "p99_ms",
        "p99.9 (ms)": "p999_ms", "max (ms)": "max_ms", "jitter p99−p50 (ms)": "jitter_ms", "Errors": "error_rate",
        "Critical path": "path_share",
    }),
    "jitter": ("jitter", tables_jitter.measures, _requests_and_rows, {
        "Count": "count", "p50 (ms)": "p50_ms", "p99 (ms)": "p99_ms", "p99−p50 (ms)": "jitter_ms", "IQR (ms)": "iqr_ms",
        "CV": "cv", "RFC 3550 (ms)": "interarrival_jitter_ms",
    }),
    "queues": ("queueing", tables_jitter.stations, _rows("stations"), {
        "Workers": "workers", "Busy": "utilisation", "Items a second": "arrivals_per_s", "Service time (ms)": "service_ms",
        "Wait (ms)": "wait.mean_ms", "p99 wait (ms)": "wait.p99_ms", "In the queue": "little.in_queue",
    }),
    "hardware": ("hardware", tables_hardware.types, _types, {
        "Count": "count", "Raw p50 (ms)": "raw.p50_ms", "Raw p99 (ms)": "raw.p99_ms", "Raw mean (ms)": "raw.mean_ms",
        "Raw": "raw.mean_ratio", "Like with like": "standardised.mean_ratio.value",
        "At p99": "standardised.p99_ratio.value",
    }),
    "use": ("hardware", tables_hardware.uses, _rows("uses"), {
        "Devices": "devices", "Requests": "requests", "Busy (ms)": "busy_ms", "Utilised": "utilisation",
    }),
    "variance": ("variance", tables_hardware.stages_of_variance, lambda answer: answer["total"]["stages"], {
        "Mean (ms)": "mean_ms", "SD (ms)": "sd_ms", "Alone": "own_share", "With others": "joint_share", "Share": "share",
        "Usual": "usual_share",
    }),
    "variance by hardware": ("variance", tables_hardware.hardware_of_variance, _rows("hardware"), {
        "Requests": "request_share", "Mean (ms)": "mean_ms", "SD (ms)": "sd_ms", "Within": "within_share",
        "Between": "between_share",
    }),
    "variants": ("pareto", tables_hardware.variants, _rows("variants"), {
        "Requests": "requests", "Quality": "quality", "p50 (ms)": "p50_ms", "p99 (ms)": "p99_ms",
    }),
    "what if": ("whatif", tables_whatif.outcomes, _rows("outcomes"), {
        "p90 (ms)": "tail.replayed_ms", "Change (ms)": "tail.delta_ms", "p50 (ms)": "p50.replayed_ms",
    }),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_the_functions_values(answers: dict[str, Any], table: str) -> None:
    question, build, rows_of, columns = TABLES[table]
    rows, frame = rows_of(answers[question].to_json()), build(answers[question]).data  # type: ignore[attr-defined]
    assert rows
    for title, key in columns.items():
        expected = [reduce(lambda value, name: value and value[name], key.split("."), row) for row in rows]
        shown = [None if pd.isna(value) else value for value in list(frame[title])[: len(rows)]]
        assert shown == pytest.approx(expected), title


def test_costs_are_of_a_thousand_requests(answers: dict[str, Any]) -> None:
    uses = answers["hardware"].to_json()["uses"]
    frame = tables_hardware.uses(answers["hardware"]).data  # type: ignore[attr-defined]
    assert list(frame["Cost busy"]) == pytest.approx([1000 * use["cost_busy"] for use in uses])
    assert list(frame["Cost paid"]) == pytest.approx([1000 * use["cost_paid"] for use in uses])
    variants = tables_hardware.variants(answers["pareto"]).data  # type: ignore[attr-defined]
    assert list(variants["Cost of 1,000"]) == pytest.approx(
        [1000 * each["cost"] for each in answers["pareto"].to_json()["variants"]]
    )
