"""The sentences of the Jitter view, in Markdown: what varies most, and how."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tailsight_analysis import Jitter, JitterRow
from tailsight_dashboard.format import count, duration, group_name, length, p_value, plain, share
from tailsight_dashboard.wording_basis import missing

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
REQUESTS = "requests"
MOST_MISSING = 3  # groups whose missing spans are named
MEASURES_HELP = (
    "p99 − p50: how much longer slow ones take than usual ones, with its 95 % interval. IQR: between p25 and p75. CV: "
    "standard deviation ÷ mean. RFC 3550: how much one differs from the next on the same host."
)
NOT_LOOKED = (
    "No stage has what it takes to look for a period: at least 200 spans one after another, over a time that is long "
    "against the time between them."
)
ONE_MODE = "No distribution shows more than one mode."


def headline(result: Jitter) -> str:
    """Say what jitters most, and whether it has a period: `queue jitters most … come back every 700 ms`."""
    sentences = []
    if result.requests:
        sentences.append(f"p99 − p50 of the requests is **{_figure(result.requests)}**")
    stages = stages_of(result)
    if stages:
        most = stages[0]
        by = f"by {_figure(most)}" if result.requests else f"by **{_figure(most)}**"
        sentences.append(f"**{name(most)}** jitters most, {by}")
    row = next((row for row in [*stages[:1], *_requests(result), *stages] if row.spike), None)
    if row and row.spike:
        whose = "its slow ones" if stages and row is stages[0] else f"slow {name(row)}"
        whose = "slow ones" if row is result.requests else whose
        return f"{'; '.join(sentences)}. {whose[:1].upper()}{whose[1:]} come back **every {period_length(row)}**."
    end = ", and no period was found" if any(row.scanned for row in [*_requests(result), *stages]) else ""
    return f"{'; '.join(sentences)}{end}."


def stages_of(result: Jitter) -> list[JitterRow]:
    """Return the groups that are stages: spans without one are mostly the requests themselves."""
    return [row for row in result.rows if row.group["stage"] or not result.requests]


def name(row: JitterRow) -> str:
    """Name a group in Markdown: `queue on NVIDIA L4`, or `requests`."""
    return plain(label(row))


def label(row: JitterRow) -> str:
    """Name a group as it is, for tables and charts."""
    if "stage" not in row.group:
        return REQUESTS
    stage, hardware = group_name("stage", row.group["stage"]), row.group["hardware"]
    return f"{stage} on {hardware}" if hardware else stage


def period_length(row: JitterRow) -> str:
    """Write how long the period is."""
    return length(row.spike.period.period_ns / NS_PER_S) if row.spike else ""


def period(row: JitterRow) -> str:
    """Say what comes back: `requests: the slowest 3 % come back every 700 ms; 96 % of them are in step`."""
    if row.spike is None:
        return ""
    found = row.spike.period
    chance = p_value(found.p_value)
    return (
        f"**{name(row)}**: slow ones (the slowest {share(found.slow_share)}) come back every "
        f"**{period_length(row)}**; {share(found.strength)} of them are in step, over {count(found.cycles)} periods, "
        f"the first at {moment(row.spike.first_ns)} (p {chance if chance.startswith('<') else f'= {chance}'})."
    )


def no_period(result: Jitter) -> str:
    """Say which periods were looked for in vain."""
    scanned = [row.scanned for row in [*_requests(result), *result.rows] if row.scanned]
    if not scanned:
        return NOT_LOOKED
    shortest, longest = min(low for low, _ in scanned), max(high for _, high in scanned)
    return f"None between {length(shortest / NS_PER_S)} and {length(longest / NS_PER_S)}: slow ones come when they may."


def modes(row: JitterRow) -> str:
    """Say where the modes are: `2 modes: 83 % around 0.48 ms, 17 % around 9.27 ms; gap at 0.72 ms`."""
    if row.modes is None:
        return f"**{name(row)}**: too few values, or too coarse ones, to tell modes apart."
    if len(row.modes.modes) == 1:
        return f"**{name(row)}**: one mode, around {duration(row.modes.modes[0].at / NS_PER_MS)}."
    peaks = ", ".join(f"**{share(mode.share)} around {duration(mode.at / NS_PER_MS)}**" for mode in row.modes.modes)
    gaps = " and ".join(duration(gap / NS_PER_MS) for gap in row.modes.gaps)
    return (
        f"**{name(row)}**: {len(row.modes.modes)} modes, {peaks}; {'gap' if len(row.modes.gaps) == 1 else 'gaps'} at "
        f"{gaps}."
    )


def deadlines(result: Jitter) -> Iterator[str]:
    """Say for each group that has a deadline how many missed it, and how many in a row."""
    for row in [*_requests(result), *stages_of(result)]:
        if found := row.deadlines:
            begin = f"**{name(row)}**: **{share(found.rate)}** of {count(round(found.count))} missed their deadline"
            if found.streak is None:
                yield f"{begin} (of sampled ones, streaks are not known)."
            elif found.streak_from_ns is None:
                yield f"{begin}."
            else:
                yield f"{begin}; the longest streak is {count(found.streak)}, from {moment(found.streak_from_ns)}."


def streams(result: Jitter) -> Iterator[str]:
    """Say how far apart the items of streams come, for each group that has streams."""
    for row in [*_requests(result), *stages_of(result)]:
        if gaps := row.gaps:
            yield (
                f"**{name(row)}**: between the items of {count(gaps.streams)} streams, {duration(gaps.p50_ms)} (p50) "
                f"to {duration(gaps.p99_ms)} (p99), at most {duration(gaps.max_ms)}."
            )


def notes(result: Jitter) -> str:
    """Say what the figures rest on."""
    found = []
    if result.weighted:
        stored = result.requests.stored if result.requests else None
        kept = f"{count(stored)} requests that were kept stand for all; " if stored else ""
        found.append(f"Estimates: {kept}what depends on their order (RFC 3550, streaks) is not known.")
    if result.accuracy:
        found.append(f"Quantiles are within {share(result.accuracy)} of the exact ones.")
    if result.in_order != result.window:
        found.append(f"RFC 3550, deadlines, streams and periods: of the latest part, {plain(result.in_order.label)}.")
    short = [row for row in [*_requests(result), *result.rows] if row.spread.missing]
    if short:
        named = ", ".join(f"{name(row)} {count(row.spread.missing)}" for row in short[:MOST_MISSING])
        more = f" and {len(short) - MOST_MISSING} others" if len(short) > MOST_MISSING else ""
        found.append(f"Not enough data for an interval; still needed: {named}{more}.")
    return " ".join([*found, *missing(result.data)])


def moment(time_ns: int) -> str:
    """Write a time to the millisecond."""
    return f"{datetime.fromtimestamp(time_ns // NS_PER_S, UTC):%H:%M:%S}.{time_ns // NS_PER_MS % 1000:03} UTC"


def _figure(row: JitterRow) -> str:
    text = duration(row.spread.above_median.value / NS_PER_MS)
    return f"about {text}" if row.spread.missing else text


def _requests(result: Jitter) -> list[JitterRow]:
    return [result.requests] if result.requests else []
