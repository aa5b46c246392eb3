"""Trace: where the time of one request went, span by span."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import Filters, NoSpansError, QuestionError, Trace
from tailsight_dashboard import charts, charts_trace, links, source, states, tables_trace, wording_trace
from tailsight_dashboard.filters import Scope, choice, entry
from tailsight_dashboard.format import clock, count, duration, plain
from tailsight_dashboard.selection import QUANTILES, SPANS

MOST_REQUESTS = 5  # whose contributions are shown, the longest
MOST_LINES = 25  # of the table that are shown without a scrollbar of its own
NAME_PX = 320
MOST_LINKS = 8  # to profiles: of the stages with the most of the critical path
PATH_HELP = "What the request waited for: at each moment one span. Its pieces add up to the request's duration."
SELF_HELP = (
    "Self: the span's duration without that of the spans below it that it waited for; of a call to another host, the "
    "network. Critical path: for how long the request waited for the span itself. Choose a line for its attributes."
)


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    trace_id = entry(
        "id",
        "Trace id",
        placeholder="32 hexadecimal digits, or the first 4 or more",
        help="Looked for in all of the store, whatever the time and the filters above.",
        max_chars=80,
        width=420,
    )
    if not trace_id:
        offer(scope)
        return
    try:
        answer = source.ask_trace(trace_id, int(scope.selection.spans))
    except NoSpansError as error:
        if source.extent() is None:
            raise
        states.no_trace(error)
        return
    except QuestionError as error:
        states.cannot_answer(error)
        return
    trace = answer.value
    with st.container(gap=None):
        st.caption(f"As of **{clock(answer.asked_ns)}** · {wording_trace.about(trace)}")
        st.markdown(f"## {wording_trace.headline(trace)}")
    metrics(trace)
    left, right = st.columns([5, 2], gap="medium")
    with left:
        waterfall(trace)
    with right:
        contributions(trace)
    profiles(scope, trace)
    spans(trace)


def offer(scope: Scope) -> None:
    """Without an id: offer traces of what is looked at."""
    choice("quantile", "Examples of the tail at or above", tuple(QUANTILES))
    answer = source.ask_tail(scope.window, scope.filters, QUANTILES[scope.selection.quantile])
    tail = answer.value
    st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(tail.window.label)}")
    st.markdown(
        f"Requests of the tail take {duration(tail.total.tail_ms)} on average, typical ones "
        f"{duration(tail.total.typical_ms)}. These are near the middle of each:"
    )
    links.examples(scope, tail)


def metrics(trace: Trace) -> None:
    """Show the trace in figures."""
    with st.container(horizontal=True, key="trace-metrics"):
        if len(trace.requests) > 1:
            st.metric("Requests", count(len(trace.requests)), border=True)
        longest = max(request.duration_ms for request in trace.requests)
        st.metric("Duration" if len(trace.requests) == 1 else "Longest", duration(longest), border=True)
        rest = sum(request.unaccounted_ms for request in trace.requests)
        st.metric("Unaccounted", duration(rest), border=True, help="Time on the critical path that no stage explains")
        st.metric("Spans", count(trace.span_count), border=True)


def waterfall(trace: Trace) -> None:
    """Draw the waterfall, and say what is odd about it."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("Waterfall (ms)", anchor=False, help=PATH_HELP)
        if trace.span_count > int(SPANS[0]):
            choice("spans", "Spans", SPANS, format_func=lambda most: f"{most} spans", label_visibility="collapsed")
    st.plotly_chart(charts_trace.waterfall(trace), config=charts.CONFIG, key="trace-waterfall")
    if remarks := list(wording_trace.remarks(trace)):
        st.caption("  \n".join(remarks))


def contributions(trace: Trace) -> None:
    """Show what each request waited for."""
    st.subheader("What the request waited for", anchor=False, help=PATH_HELP)
    longest = sorted(trace.requests, key=lambda request: -request.duration_ms)[:MOST_REQUESTS]
    for request in sorted(longest, key=lambda request: request.start_ms):
        if len(trace.requests) > 1:
            st.markdown(wording_trace.request_title(trace, request))
        st.dataframe(
            tables_trace.contributions(request),
            hide_index=True,
            height="content",
            key=f"contributions-{request.span_id}",
        )
    if len(longest) < len(trace.requests):
        st.caption(f"The longest {len(longest)} of {count(len(trace.requests))} requests.")


def profiles(scope: Scope, trace: Trace) -> None:
    """Link to the profiles of the trace's stages, and say how many samples are of the trace itself."""
    held = source.profiled_extent()
    stages = wording_trace.stages(trace)
    if held is None or not stages:
        if stages:
            st.caption(wording_trace.no_profile(stages))
        return
    services = Filters(service=tuple(sorted({service for service, _ in stages})))
    ever = {(each.service, each.stage): each for each in source.ask_profiled(held, services) if each.samples}
    here = {(each.service, each.stage) for each in source.ask_profiled(scope.window, services) if each.samples}
    own = {(each.service, each.stage): each.samples for each in source.ask_profiled(held, services, trace.trace_id)}
    found = [place for place in stages if place in ever][:MOST_LINKS]
    if not found:
        st.caption(wording_trace.no_profile(stages))
        return
    is_here = scope.window.since_ns <= trace.start_ns < scope.window.until_ns and here.issuperset(found)
    named = [(*place, wording_trace.samples_of_it(own.get(place, 0))) for place in found]
    links.profiles(scope, named, all_time=not is_here)


def spans(trace: Trace) -> None:
    """Show the spans as a table, and all that the chosen one says."""
    st.subheader("Spans", anchor=False)
    chosen = st.dataframe(
        tables_trace.spans(trace),
        hide_index=True,
        key="spans-table",
        on_select="rerun",
        selection_mode="single-row",
        height="content" if len(trace.spans) <= MOST_LINES else "auto",
        column_config={"Span": st.column_config.Column(width=NAME_PX)},
    )
    rows = [row for row in chosen.selection.rows if row < len(trace.spans)]
    if not rows:
        st.caption(SELF_HELP)
        return
    span = trace.spans[rows[0]]
    st.markdown(wording_trace.span_headline(span))
    left, right = st.columns(2, gap="medium")
    with left:
        st.dataframe(tables_trace.facts(span), hide_index=True, height="content", key="span-facts")
    with right:
        if span.attributes:
            st.dataframe(tables_trace.attributes(span.attributes), hide_index=True, key="span-attributes")
        else:
            st.markdown("It has no attributes.")
        if span.events:
            st.dataframe(tables_trace.events(span.events), hide_index=True, key="span-events")


if __name__ == "__main__":
    show()
