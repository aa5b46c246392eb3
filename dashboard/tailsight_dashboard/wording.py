"""The sentences that say what a view found, in Markdown: the answer before the charts."""

from __future__ import annotations

from tailsight_analysis import Breakdown, Interval, ResponseTimes, Tail
from tailsight_dashboard.format import NO_STAGE_HELP, count, duration, group_name, plain, quantile, share, within


def tail_headline(tail: Tail) -> str:
    """Give the answer: `p99 is 41.2 ms; 61 % of the extra 28 ms is queue`."""
    begin = f"{quantile(tail.quantile)} is **{duration(tail.threshold_ms)}**"
    if tail.is_rough:
        begin += f" (roughly: the tail is {_requests(tail.held.tail)})"
    if tail.total.excess_ms <= 0:
        return f"{begin}; the tail takes no longer than typical requests."
    steps = [*((step.stage, step) for step in tail.stages), ("", tail.unaccounted)]
    name, most = max(steps, key=lambda step: step[1].excess_ms)
    part = "all" if most.excess_share >= 0.995 else share(most.excess_share)
    where = plain(name) if name else "time that no stage accounts for"
    return f"{begin}; **{part}** of the extra {duration(tail.total.excess_ms)} is **{where}**."


def tail_method(tail: Tail) -> str:
    """Say what was compared with what, and from how many requests the means come."""
    sentence = (
        f"The tail, the slowest {count(tail.tail_requests)} of {count(tail.requests)} requests, takes "
        f"{duration(tail.total.tail_ms)} on average, the {count(tail.typical_requests)} typical ones (between p40 and "
        f"p60) {duration(tail.total.typical_ms)}: the difference is the extra time."
    )
    if tail.stored:
        sentence += (
            f" These are estimates: the store holds {count(tail.stored.tail)} requests of the tail and "
            f"{count(tail.stored.typical)} typical ones, of {count(tail.stored.requests)} that were kept."
        )
    if tail.is_sampled:
        sentence += (
            f" Means and shares come from {count(tail.tail_sampled)} tail and {count(tail.typical_sampled)} typical "
            "requests, drawn at random."
        )
    return sentence


def nothing_stands_out(tail: Tail) -> str:
    """Say that no attribute value was found, and what that is worth."""
    if not tail.attributes_tested:
        return "The requests carry no attribute values that could be compared."
    few = " With so few tail requests, only strong differences could be seen." if tail.held.tail < 20 else ""
    more = " The causes above rest on ranges and on what holds within a stage." if tail.causes else ""
    return (
        f"None of the {count(tail.attributes_tested)} attribute values tested is more frequent in the tail than "
        f"chance and bursts explain.{few}{more}"
    )


def bounds_help(name: str, interval: Interval | None) -> str | None:
    """Say within which bounds a quantile lies, or how many requests that lacks; None where nobody looked."""
    if interval is None:
        return None
    more = (
        f" Not enough data for both bounds: {_requests(interval.missing)} more are needed." if interval.missing else ""
    )
    return f"With 95 % confidence {name} is {within(interval.low, interval.high)} ms.{more}"


def stages_headline(answer: Breakdown) -> str:
    """Say how long requests take, and where most of their time goes: `p99 is 419 ms; 69 % of the time is queue`."""
    if answer.requests is None:
        return ""
    begin = f"p99 of the requests is **{duration(answer.requests.p99_ms)}**"
    rows = [row for row in answer.rows if row.path_share is not None]
    if not rows:
        return f"{begin}."
    most = max(rows, key=lambda row: row.path_share or 0.0)
    name = plain(group_name(answer.by[0], most.group[answer.by[0]]))
    what = "is" if answer.by == ("stage",) else f"belongs to {answer.by[0]}"
    return f"{begin}; **{share(most.path_share)}** of the requests' time {what} **{name}**."


def requests_notes(answer: Breakdown) -> str:
    """Say what the requests' figures rest on: a weighted sample, very few beyond p99.9; empty where neither."""
    notes = []
    if answer.requests is None:
        return ""
    if answer.requests.stored is not None:
        notes.append(
            f"Estimates: {_requests(answer.requests.stored)} that were kept stand for {count(answer.requests.count)}."
        )
    if answer.requests.p999_is_rough:
        notes.append("p99.9 is a rough figure: fewer than 10 requests lie beyond it.")
    return " ".join(notes)


def response_headline(times: ResponseTimes) -> str:
    """Say how much longer callers waited than the service worked: `response p99 is 90 ms, service p99 41.2 ms`."""
    if times.response is None or times.service is None:
        return ""
    return (
        f"From when {_requests(times.count)} should have started, p99 is **{duration(times.response.p99_ms)}**; from "
        f"when they did, {duration(times.service.p99_ms)}."
    )


def response_ignored(times: ResponseTimes) -> str:
    """Say how many intended starts could not be used; empty where all could."""
    if not times.ignored:
        return ""
    return (
        f"Left out: {_requests(times.ignored)} whose intended start is more than an hour before the actual one, or "
        "unreadable."
    )


def groups_left_out(answer: Breakdown, shown: int) -> str:
    """Say how many groups the charts leave to the table; empty where none."""
    rows = len(answer.rows)
    if rows <= shown:
        return ""
    return f"The charts show the {shown} of {count(rows)} with the most time; the table has all."


def shares_method(answer: Breakdown) -> str:
    """Say what latency and critical path mean, from how many requests shares come, and what `(no stage)` is."""
    notes = ["Latencies are of whole spans, with what runs inside them. The critical path is what requests wait for."]
    if answer.requests and answer.sampled_requests < answer.requests.stored_count:
        notes.append(
            f"Shares come from {count(answer.sampled_requests)} of {count(answer.requests.stored_count)} requests, "
            "drawn at random."
        )
    if answer.by == ("stage",) and any(not row.group["stage"] for row in answer.rows):
        notes.append(NO_STAGE_HELP)
    return " ".join(notes)


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"
