"""Every figure in a terminal's table is the one that the function's JSON has, to three digits, under its heading."""

import io
import re
from collections.abc import Iterator
from functools import reduce

import pytest
from analysis import brute_force, every_question
from analysis.every_question import ALL, QUESTIONS
from rich.console import Console, Group, RenderableType
from rich.table import Table

from tailsight_analysis import hardware, pareto
from tailsight_cli.render.breakdown import render_breakdown
from tailsight_cli.render.compare import render_comparison
from tailsight_cli.render.fitting import FittingTable
from tailsight_cli.render.hardware import render_hardware
from tailsight_cli.render.jitter import render_jitter
from tailsight_cli.render.pareto import render_pareto
from tailsight_cli.render.queue import render_queueing
from tailsight_cli.render.tail import render_tail
from tailsight_cli.render.variance import render_variance
from tailsight_cli.render.whatif import render_whatif

PRICES = {"L4": 0.7, "H100": 3.0, "CPU": 0.1}
RENDER = {
    "breakdown": render_breakdown, "tail": render_tail, "variance": render_variance, "jitter": render_jitter,
    "hardware": render_hardware, "queueing": render_queueing, "whatif": render_whatif, "compare": render_comparison,
    "pareto": render_pareto,
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(engine) -> Iterator[dict]:
    brute_force.insert(engine, every_question.spans())
    found = {name: ask(engine, ALL) for name, ask in QUESTIONS.items()}
    found |= {"hardware": hardware(engine, ALL, prices=PRICES), "pareto": pareto(engine, ALL, prices=PRICES)}
    yield found
    engine.run("TRUNCATE TABLE spans")


def tables(part: RenderableType, screen: Console) -> Iterator[Table]:
    """All tables of a report, as they are before a terminal is too narrow for them."""
    if isinstance(part, Group):
        for each in part.renderables:
            yield from tables(each, screen)
    elif isinstance(part, Table):
        yield part
    elif isinstance(part, FittingTable) or type(part).__name__ in ("_JitterTable", "_BreakdownTable"):
        for each in part.__rich_console__(screen, screen.options):
            yield from tables(each, screen)


def columns_of(answer, name: str, *headings: str) -> dict[str, list[str]]:
    """The cells of the first table that has these headings, by heading; of equal headings the last."""
    for found in tables(RENDER[name](answer), Console(file=io.StringIO(), width=300)):
        columns = {str(each.header): [str(cell) for cell in each.cells] for each in found.columns}
        if set(headings) <= set(columns):
            return columns
    raise AssertionError(f"no table with {headings}")


def number(cell: str) -> tuple[float, float]:
    """The first figure of a cell, a share as a part of 1, and half of its last digit: as far as rounding may move it."""
    text = re.search(r"[−+]?[\d,]*\.?\d+", cell)[0].replace(",", "").replace("−", "-")
    unit = 0.01 if "%" in cell else 1.0
    decimals = len(text.partition(".")[2])
    return float(text) * unit, 0.5000001 * 10**-decimals * unit


def check(cells: list[str], expected: list[float | None]) -> None:
    for cell, value in zip(cells, expected, strict=True):
        if value is None:
            assert cell in ("–", "", "(reference)")
            continue
        shown, rounding = number(cell)
        if "<" in cell:
            assert 0 < abs(value) < shown
        elif shown == 0:
            assert abs(value) < 0.001
        else:
            assert shown == pytest.approx(value, rel=1e-9, abs=rounding)


def at(row: dict, keys: str):
    return reduce(lambda value, name: value.get(name) if value else None, keys.split("."), row)


TABLES = {
    "breakdown": ("breakdown", lambda a: [a["requests"], *a["rows"]],
     {"count": "count", "p50": "p50_ms", "p90": "p90_ms", "p95": "p95_ms", "p99": "p99_ms", "p99.9": "p999_ms",
      "max": "max_ms", "jitter": "jitter_ms", "errors": "error_rate"}),
    "tail by stage": ("tail", lambda a: [*a["stages"], a["unaccounted"], a["total"]],
     {"tail ms": "tail_ms", "typical ms": "typical_ms", "excess ms": "excess_ms", "share of excess": "excess_share"}),
    "attributes of the tail": ("tail", lambda a: a["attributes"], {"lift": "lift", "tail": "tail_share", "typical": "typical_share"}),
    "variance by stage": ("variance", lambda a: [s for s in a["total"]["stages"] if abs(s["share"]) >= 0.001],
     {"mean ms": "mean_ms", "sd ms": "sd_ms", "alone": "own_share", "joint": "joint_share", "share": "share",
      "usual": "usual_share"}),
    "variance by hardware": ("variance", lambda a: a["hardware"],
     {"requests": "request_share", "mean ms": "mean_ms", "sd ms": "sd_ms", "within": "within_share",
      "between": "between_share"}),
    "jitter": ("jitter", lambda a: [a["requests"], *a["rows"]],
     {"count": "count", "p50": "p50_ms", "p99": "p99_ms", "p99−p50": "jitter_ms", "IQR": "iqr_ms", "CV": "cv",
      "RFC 3550": "interarrival_jitter_ms"}),
    "use of hardware": ("hardware", lambda a: a["uses"], {"devices": "devices", "busy ms": "busy_ms", "utilised": "utilisation"}),
    "hardware": ("hardware", lambda a: [each for c in a["comparisons"] for each in ({}, *c["types"])],
     {"count": "count", "p50 ms": "raw.p50_ms", "p99 ms": "raw.p99_ms", "raw": "raw.mean_ratio",
      "like with like": "standardised.mean_ratio.value", "at p99": "standardised.p99_ratio.value"}),
    "queues": ("queueing", lambda a: a["stations"],
     {"workers": "workers", "busy": "utilisation", "items/s": "arrivals_per_s", "service": "service_ms",
      "wait": "wait.mean_ms", "p99 wait": "wait.p99_ms"}),
    "what if": ("whatif", lambda a: [{"p50": {"replayed_ms": a["p50_ms"]}, "tail": {"replayed_ms": a["quantile_ms"]}}, *a["outcomes"]],
     {"p50 ms": "p50.replayed_ms", "p90 ms": "tail.replayed_ms", "change ms": "tail.delta_ms"}),
    "variants": ("pareto", lambda a: a["variants"],
     {"requests": "requests", "quality": "quality", "p50 ms": "p50_ms", "p99 ms": "p99_ms"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_the_functions_values(answers, name):
    question, rows_of, columns = TABLES[name]
    shown = columns_of(answers[question], question, *columns)
    rows = rows_of(answers[question].to_json())
    assert rows
    for heading, keys in columns.items():
        # below the rows there may be a sum
        check(shown[heading][: len(rows)], [at(row, keys) for row in rows])


def test_costs_are_of_a_thousand_requests(answers):
    shown = columns_of(answers["hardware"], "hardware", "cost busy")
    uses = answers["hardware"].to_json()["uses"]
    check(shown["cost busy"], [1000 * use["cost_busy"] for use in uses])
    check(shown["cost paid"], [1000 * use["cost_paid"] for use in uses])
    variants = answers["pareto"].to_json()["variants"]
    check(columns_of(answers["pareto"], "pareto", "cost")["cost"], [1000 * each["cost"] for each in variants])


def test_the_waits_of_one_more_worker_are_those_of_queueing(answers):
    station = answers["queueing"].to_json()["stations"][0]
    shown = columns_of(answers["queueing"], "queueing", "waits", "mean")
    kinds = ["wait", "replay", "formula", "replay_one_more", "formula_one_more"]
    assert shown["waits"] == [
        "measured", "replayed, 1 worker", "by formula, 1 worker", "replayed, 2 workers", "by formula, 2 workers",
    ]  # fmt: skip
    check(shown["mean"], [station[kind]["mean_ms"] for kind in kinds])
    check(shown["p99"], [station[kind]["p99_ms"] for kind in kinds])


def test_parts_of_the_change_are_those_of_compare(answers):
    answer = answers["compare"].to_json()
    for name in ("p50", "p99"):
        parts = answer["request"][name] | answer["mix"][name]
        keys = ("baseline_ms", "candidate_ms", "workload_ms", "hardware_ms", "slowdown_ms", "delta_ms")
        check(columns_of(answers["compare"], "compare", "p50", "p99")[name], [parts[key] for key in keys])
