"""The sentences of the Trace view, in Markdown: where the time went, and what is odd about the trace."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from tailsight_analysis import Trace, TraceMoved, TraceRequest, TraceSpan
from tailsight_dashboard.charts_trace import CYCLE, FAILED, NO_NAME, ORPHAN, REPEATED
from tailsight_dashboard.format import count, duration, plain, share, signed_duration

MOST_HOSTS = 3


def headline(trace: Trace) -> str:
    """Say how long the request took and what most of it was: `94.2 ms; 88 % is queue`; of several, the longest."""
    longest = max(trace.requests, key=lambda request: request.duration_ms)
    if len(trace.requests) == 1:
        return f"{_title(trace, longest)} took **{duration(longest.duration_ms)}**{_most(longest)}"
    return (
        f"{count(len(trace.requests))} requests; the longest, {_title(trace, longest)}, took "
        f"**{duration(longest.duration_ms)}**{_most(longest)}"
    )


def about(trace: Trace) -> str:
    """Say which trace it is: its id, its start and its size."""
    return f"Trace `{trace.trace_id}` · started {plain(trace.start_text)} · {_spans(trace.span_count)}"


def request_title(trace: Trace, request: TraceRequest) -> str:
    """Name one of several requests."""
    return f"{_title(trace, request)}, {duration(request.start_ms)} after the first"


def remarks(trace: Trace) -> Iterator[str]:
    """Say what was left out, moved or mended, in a sentence each."""
    if left_out := trace.span_count - len(trace.spans):
        path_ms = sum(request.duration_ms for request in trace.requests) - sum(span.path_ms for span in trace.spans)
        yield (
            f"{count(left_out)} of {_spans(trace.span_count)} are folded (\\+N: so many below a span); together they "
            f"have {duration(max(0.0, path_ms))} of the critical path. Shown are those with the most."
        )
    failed = sum(span.status == "ERROR" for span in trace.spans)
    if failed:
        yield f"{_spans(failed)} (marked {FAILED}) failed."
    if trace.without_root:
        yield "No span is a root: the earliest without a parent counts as the request; its caller may yet come."
    if trace.orphans:
        names = "names" if trace.orphans == 1 else "name"
        yield f"{_spans(trace.orphans)} (marked {ORPHAN}) {names} a parent that is not in the trace."
    if trace.cycles:
        names = "names" if trace.cycles == 1 else "name"
        yield f"{_spans(trace.cycles)} (marked {CYCLE}) {names} a parent that is among its own descendants: cut there."
    if trace.repeated:
        has = "has" if trace.repeated == 1 else "have"
        yield f"{_spans(trace.repeated)} (marked {REPEATED}) {has} the id of another span; time counts once."
    if trace.outside:
        yield f"{_spans(trace.outside)} {'belongs' if trace.outside == 1 else 'belong'} to no request."
    if trace.moved:
        hosts = "; ".join(_moved(moved) for moved in trace.moved[:MOST_HOSTS])
        if len(trace.moved) > MOST_HOSTS:
            hosts += f"; {count(len(trace.moved) - MOST_HOSTS)} more hosts"
        yield f"Clocks disagree. Moved to where they fit into their parents: {hosts}. Stored times are unchanged."


def span_headline(span: TraceSpan) -> str:
    """Say what one span took, and when."""
    return (
        f"**{plain(span.name or NO_NAME)}** took {duration(span.duration_ms)}, from {duration(span.start_ms)} on; "
        f"{duration(span.self_ms)} by itself, {duration(span.path_ms)} on the critical path."
    )


def _title(trace: Trace, request: TraceRequest) -> str:
    entry = next((span for span in trace.spans if span.span_id == request.span_id and span.is_request), None)
    if entry is None:
        return f"request {request.span_id}"
    return plain(f"{entry.service}: {entry.name or NO_NAME}" if entry.service else entry.name or NO_NAME)


def _most(request: TraceRequest) -> str:
    steps = [*((stage.stage, stage.contribution_ms) for stage in request.stages), ("", request.unaccounted_ms)]
    name, most_ms = max(steps, key=lambda step: step[1])
    if not most_ms:
        return "."
    part = most_ms / request.duration_ms
    where = plain(name) if name else "time that no stage accounts for"
    return f"; **{'all' if part >= 0.995 else share(part)}** of it is **{where}**."


def _moved(moved: TraceMoved) -> str:
    least, most = signed_duration(moved.least_ms), signed_duration(moved.most_ms)
    by = most if least == most else f"{least} to {most}"
    return f"{_spans(moved.spans)} of {plain(moved.host) or 'an unnamed host'} by {by}"


def _spans(number: int) -> str:
    return "1 span" if number == 1 else f"{count(number)} spans"


def stages(trace: Trace) -> list[tuple[str, str]]:
    """Name the stages of a trace's spans with their services, those with the most of the critical path first."""
    path_ms: dict[tuple[str, str], float] = {}
    for span in trace.spans:
        if span.stage:
            place = (span.service, span.stage)
            path_ms[place] = path_ms.get(place, 0.0) + span.path_ms
    return sorted(path_ms, key=lambda place: (-path_ms[place], place))


def samples_of_it(samples: int) -> str:
    """Say how many samples of stacks are of the trace itself; empty for none."""
    if not samples:
        return ""
    return "1 sample of this trace" if samples == 1 else f"{count(samples)} samples of this trace"


def no_profile(stages: Sequence[tuple[str, str]]) -> str:
    """Say that no stage of a trace has a profile, and how to take one of the service that took most of it."""
    service = shlex.quote(" ".join(stages[0][0].replace("`", "").split()))
    return f"Which code these stages ran: no profile says. `tailsight profile --service {service}` takes one."
