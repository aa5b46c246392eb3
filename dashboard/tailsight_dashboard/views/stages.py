"""Stages: how long each stage takes, how that moves, and where the requests' time goes."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import DIMENSIONS, Breakdown, LatencySummary, ResponseTimes, Timeline
from tailsight_dashboard import charts, source, tables, wording
from tailsight_dashboard.filters import Scope, choice
from tailsight_dashboard.format import NO_STAGE_HELP, clock, count, duration, length, plain, share
from tailsight_dashboard.selection import SCALES
from tailsight_dashboard.wording_basis import missing

RESPONSE_HELP = (
    "Response time runs from when a request should have started (`intended_start`), service time from when it did. A "
    "load generator that waits for answers sends late: service time alone hides what callers waited."
)


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    selection = scope.selection
    answer = source.ask_breakdown(scope.window, scope.filters, selection.by)
    moving = source.ask_timeline(scope.window, scope.filters)
    with st.container(gap=None):
        st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(answer.value.window.label)}")
        if headline := wording.stages_headline(answer.value):
            st.markdown(f"## {headline}")
    requests_metrics(answer.value.requests)
    if notes := " ".join([wording.requests_notes(answer.value), *missing(answer.value.data)]).strip():
        st.caption(notes)
    if answer.value.response:
        response(answer.value.response)
    over_time(moving, log=selection.scale == "log")
    groups(answer.value, log=selection.scale == "log")


def requests_metrics(requests: LatencySummary | None) -> None:
    """Show the requests as wholes."""
    if requests is None:
        st.info("No whole requests here: these spans belong to requests that the filters or the time leave out.")
        return
    with st.container(horizontal=True, key="requests"):
        st.metric("Requests", count(requests.count), border=True)
        st.metric("p50", duration(requests.p50_ms), border=True)
        st.metric("p99", duration(requests.p99_ms), border=True, help=wording.bounds_help("p99", requests.p99_interval))
        st.metric("p99.9", duration(requests.p999_ms), border=True)
        st.metric("Jitter", duration(requests.jitter_ms), border=True, help="p99 − p50 of the requests")
        st.metric("Errors", share(requests.error_rate), border=True, help="Requests whose status is ERROR")


def response(times: ResponseTimes) -> None:
    """Show response time beside service time, where requests say when they should have started."""
    st.subheader("Response and service time (ms)", anchor=False, help=RESPONSE_HELP)
    if headline := wording.response_headline(times):
        st.markdown(headline)
        st.dataframe(tables.response(times), hide_index=True, height="content", key="response")
    if ignored := wording.response_ignored(times):
        st.caption(ignored)


def over_time(timeline: Timeline, *, log: bool) -> None:
    """Draw latency over time."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("Latency over time (ms; times in UTC)", anchor=False)
        choice("scale", "Latency axis", SCALES, format_func=lambda scale: f"{scale} axis", label_visibility="collapsed")
    if not timeline.points and not timeline.requests:
        st.markdown("No stage and no request started in this time.")
        return
    st.plotly_chart(charts.latency_over_time(timeline, log=log), config=charts.CONFIG, key="over-time")
    st.caption(f"A point sums up {length(timeline.bucket_ns / 1e9)} of {plain(timeline.window.label)}.")


def groups(answer: Breakdown, *, log: bool) -> None:
    """Draw the quantiles, the shares and the table, by stage or by another dimension."""
    dimension = answer.by[0]
    choice("by", "Group by", DIMENSIONS)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader(f"Latency by {dimension} (ms)", anchor=False)
        figure = charts.quantiles(answer.rows, dimension, log=log)
        st.plotly_chart(figure, config=charts.CONFIG, key="quantiles")
    with right:
        st.subheader("Where the requests' time goes (%)", anchor=False, help=NO_STAGE_HELP)
        if any(row.path_share is not None for row in answer.rows):
            figure = charts.path_shares(answer.rows, dimension)
            st.plotly_chart(figure, config=charts.CONFIG, key="path-shares")
        else:
            st.markdown("Unknown: no whole request is among these spans.")
    if left_out := wording.groups_left_out(answer, charts.MOST_GROUPS):
        st.caption(left_out)
    st.dataframe(tables.latencies(answer.rows, dimension), hide_index=True, key="latencies")
    st.caption(wording.shares_method(answer))


if __name__ == "__main__":
    show()
