"""Which stages make requests differ, in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Variance, VarianceTerm
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    MINUS,
    NO_VALUE,
    bar,
    new_table,
    note_lines,
    percent,
    printable,
    requests_text,
    significant,
    title_line,
)

LEAST_SHARE = 0.005  # of the variance, for a stage to be shown
LEAST_PAIR = 0.02  # of the variance, for a pair to be shown
MOST_PAIRS = 8
HEAVY = 0.5  # share of the variance in the slowest hundredth, from which on that is said
NO_HARDWARE = "(no hardware)"


def render_variance(result: Variance) -> RenderableType:
    """Verdict in a sentence, stages with their shares, pairs that vary together, hardware types."""
    parts: list[RenderableType] = [
        title_line("Why requests differ", result.window, result.filters.label),
        Text(verdict(result), style="bold"),
        Text(_figures(result) + "\n"),
    ]
    if not result.total.sd_ms:
        return Group(*parts)
    parts += [_stages(result), *note_lines(_notes(result))]
    pairs = [term for term in result.total.terms if term.kind == "covariance" and abs(term.share) >= LEAST_PAIR]
    if pairs:
        parts += [Text(""), _pairs(pairs[:MOST_PAIRS])]
    if any(part.hardware for part in result.hardware):
        parts += [Text(""), _hardware(result)]
    return Group(*parts)


def verdict(result: Variance) -> str:
    """Say in one sentence where the variance comes from."""
    total = result.total
    if not total.sd_ms:
        return f"All requests take {significant(total.mean_ms)} ms: nothing varies."
    first, *others = total.stages
    text = f"{percent(first.share)} of the requests' variance is {_name(first.stage)}{_interval(first.share_interval)}"
    if first.share < 0.8 and others and others[0].share >= 0.1:
        text += f", {percent(others[0].share)} is {_name(others[0].stage)}{_interval(others[0].share_interval)}"
    if result.between_share >= 0.05:
        text += f"; {percent(result.between_share)} of it lies between hardware types"
    return f"{text}."


def _figures(result: Variance) -> str:
    total = result.total
    return (
        f"{requests_text(result.requests)}: mean {significant(total.mean_ms)} ms, standard deviation "
        f"{significant(total.sd_ms)} ms, coefficient of variation {significant(total.cv)}."
    )


def _stages(result: Variance) -> RenderableType:
    table = new_table()
    table.add_column("stage", overflow="fold", min_width=10)
    for heading in ("mean ms", "sd ms", "alone", "joint"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("share", no_wrap=True)
    table.add_column("usual", justify="right", no_wrap=True)
    hidden = [stage for stage in result.total.stages if abs(stage.share) < LEAST_SHARE]
    for stage in result.total.stages:
        if stage in hidden:
            continue
        table.add_row(
            Text(_name(stage.stage)),
            significant(stage.mean_ms),
            significant(stage.sd_ms),
            percent(stage.own_share),
            percent(stage.joint_share),
            f"{percent(stage.share):>6}{_interval(stage.share_interval)} {bar(stage.share, 6)}",
            percent(stage.usual_share),
        )
    if hidden:
        table.add_row(
            f"{len(hidden)} more", significant(sum(stage.mean_ms for stage in hidden)), NO_VALUE,
            percent(sum(stage.own_share for stage in hidden)), percent(sum(stage.joint_share for stage in hidden)),
            f"{percent(sum(stage.share for stage in hidden)):>6}",
            percent(sum(stage.usual_share for stage in hidden)), style="dim",
        )  # fmt: skip
    table.rows[-1].end_section = True
    table.add_row(
        "whole request", significant(result.total.mean_ms), significant(result.total.sd_ms),
        percent(sum(stage.own_share for stage in result.total.stages)),
        percent(sum(stage.joint_share for stage in result.total.stages)),
        f"{percent(1):>6}", percent(1), style="bold",
    )  # fmt: skip
    return table


def _pairs(terms: list[VarianceTerm]) -> RenderableType:
    table = new_table()
    table.add_column("vary together", overflow="fold", min_width=16)
    table.add_column("share", no_wrap=True)
    table.add_column("correlation", justify="right", no_wrap=True)
    for term in terms:
        names = " + ".join(_name(stage) for stage in term.stages)
        correlation = NO_VALUE if term.correlation is None else f"{term.correlation:.2f}".replace("-", MINUS)
        table.add_row(Text(names), f"{percent(term.share):>6}{_interval(term.share_interval)}", correlation)
    return table


def _hardware(result: Variance) -> RenderableType:
    table = new_table()
    table.add_column("hardware", overflow="fold", min_width=12)
    for heading in ("requests", "mean ms", "sd ms", "within", "between"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("mostly", overflow="fold", min_width=12)
    for part in result.hardware:
        first = part.ledger.stages[0] if part.ledger and part.ledger.sd_ms else None
        table.add_row(
            Text(printable(part.hardware) or NO_HARDWARE),
            percent(part.request_share),
            significant(part.mean_ms),
            significant(part.sd_ms),
            percent(part.within_share),
            percent(part.between_share),
            Text(f"{_name(first.stage)} {percent(first.share)}" if first else NO_VALUE),
        )
    table.rows[-1].end_section = True
    within = sum(part.within_share for part in result.hardware)
    table.add_row(
        "all", percent(1), significant(result.total.mean_ms), significant(result.total.sd_ms), percent(within),
        percent(result.between_share), "", style="bold",
    )  # fmt: skip
    return table


def _notes(result: Variance) -> list[str]:
    notes = [
        "“alone” is a stage's variance, “joint” half of its covariances; “usual” is the share without the slowest 1 %."
    ]
    if result.total.slowest_share >= HEAVY:
        notes.append(
            f"The slowest 1 % of the requests have {percent(result.total.slowest_share)} of the variance: it speaks of "
            "few requests, and another window may give another answer."
        )
    if result.weighted:
        notes.append(f"Estimates: {requests_text(result.stored)} that were kept stand for {result.requests:,}.")
    if result.sampled < result.stored:
        notes.append(f"Figures come from {result.sampled:,} of {requests_text(result.stored)}.")
    return [*notes, *data_notes(result.data)]


def _name(stage: str) -> str:
    return printable(stage) or "unaccounted"


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = (f"{round(end * 100)}".replace("-", MINUS) for end in interval)
    return f" [{low}{' to ' if interval[0] < 0 else '–'}{high}]"
