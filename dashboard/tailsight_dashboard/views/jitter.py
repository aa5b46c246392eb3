"""Jitter: how much latencies vary, whether in modes or with a period, and how long queues make wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import streamlit as st

from tailsight_analysis import Jitter, JitterRow
from tailsight_dashboard import charts, charts_jitter, queues, source, tables_jitter, wording_jitter
from tailsight_dashboard.filters import Scope, entry
from tailsight_dashboard.format import clock, count, duration, plain, share

NS_PER_MS = 1_000_000
MOST_SHOWN = 4  # distributions, and periods
MOST_LINES = 15  # of the table that are shown without a scrollbar of its own
DEADLINE_HELP = (
    "For every request, in the place of those that requests have themselves (`tailsight.deadline_ms`). Empty: theirs."
)
MODES_HELP = "Over a logarithmic axis. Dashed: the gap between two modes; bold: the share of each."
PERIOD_HELP = (
    "All periods laid over each other: how many of the spans that begin in each part of a period are slow. Dashed: how "
    "many are slow at any time."
)


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    head = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="top")
    with head:
        found = st.container(gap=None, width=840)
        given = entry("deadline", "Deadline (ms)", placeholder="theirs", help=DEADLINE_HELP, max_chars=12, width=160)
    deadline_ms = read_deadline(given)
    answer = source.ask_jitter(scope.window, scope.filters, deadline_ms)
    result = answer.value
    with found:
        st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(result.window.label)}")
        st.markdown(f"## {wording_jitter.headline(result)}")
    if given and deadline_ms is None:
        st.warning(f"{plain(given)} is no deadline: write milliseconds above 0, like 50.", icon=":material/timer_off:")
    metrics(result)
    measures(result)
    distributions(result)
    periods(result)
    deadlines(result)
    queues.show(scope)


def read_deadline(text: str) -> float | None:
    """Read milliseconds above 0; None for anything else."""
    try:
        value = float(text.removesuffix("ms").strip() or "0")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def metrics(result: Jitter) -> None:
    """Show the requests as wholes."""
    if result.requests is None:
        return
    row = result.requests
    with st.container(horizontal=True, key="jitter-metrics"):
        st.metric("Requests", count(row.count), border=True)
        st.metric("p99 − p50", duration(row.spread.above_median.value / NS_PER_MS), border=True)
        st.metric("IQR", duration(row.spread.middle_half.value / NS_PER_MS), border=True, help="p75 − p25")
        if row.spread.cv:
            st.metric("CV", f"{row.spread.cv.value:.2f}", border=True, help="Standard deviation ÷ mean")
        if row.interarrival:
            mean = duration(row.interarrival.mean_ns / NS_PER_MS)
            st.metric("RFC 3550", mean, border=True, help="How much a request differs from the one before it")
        if row.deadlines:
            st.metric("Missed deadlines", share(row.deadlines.rate), border=True)


def measures(result: Jitter) -> None:
    """Draw p99 − p50 of each stage and hardware, and show all measures."""
    st.subheader("Jitter by stage and hardware (ms)", anchor=False, help=wording_jitter.MEASURES_HELP)
    rows = wording_jitter.stages_of(result)
    if rows:
        st.plotly_chart(charts_jitter.spreads(rows), config=charts.CONFIG, key="spreads")
    if (more := len(rows) - charts_jitter.MOST_GROUPS) > 0:
        st.caption(f"The {charts_jitter.MOST_GROUPS} with the largest; the table has {count(more)} more.")
    lines = len(result.rows)
    st.dataframe(
        tables_jitter.measures(result),
        hide_index=True,
        key="measures",
        placeholder=tables_jitter.UNKNOWN,
        height="content" if lines <= MOST_LINES else "auto",
    )
    if notes := wording_jitter.notes(result):
        st.caption(notes)


def distributions(result: Jitter) -> None:
    """Draw the requests' distribution, and those that have several modes."""
    st.subheader("Distributions", anchor=False, help=MODES_HELP)
    several = [row for row in wording_jitter.stages_of(result) if row.modes and len(row.modes.modes) > 1]
    first = [result.requests] if result.requests else []
    if not several:
        st.markdown(wording_jitter.ONE_MODE)
    shown = [row for row in [*first, *several] if row.histogram][:MOST_SHOWN]
    side_by_side(shown, wording_jitter.modes, charts_jitter.distribution, "distribution")
    if (more := len(first) + len(several) - len(shown)) > 0 and several:
        st.caption(f"{count(more)} more have several modes.")


def periods(result: Jitter) -> None:
    """Draw what comes back, or say what was looked for in vain."""
    st.subheader("Periods", anchor=False, help=PERIOD_HELP)
    first = [result.requests] if result.requests else []
    found = [row for row in [*first, *wording_jitter.stages_of(result)] if row.spike]
    if not found:
        st.markdown(wording_jitter.no_period(result))
    side_by_side(found[:MOST_SHOWN], wording_jitter.period, charts_jitter.phases, "phases")
    if (more := len(found) - MOST_SHOWN) > 0:
        st.caption(f"{count(more)} more come back.")


def deadlines(result: Jitter) -> None:
    """Say how many missed their deadline; and how far apart the items of streams come."""
    if missed := list(wording_jitter.deadlines(result)):
        st.subheader("Deadlines", anchor=False)
        st.markdown("  \n".join(missed))
    if apart := list(wording_jitter.streams(result)):
        st.subheader("Streams", anchor=False)
        st.markdown("  \n".join(apart))


def side_by_side(
    rows: Sequence[JitterRow], say: Callable[[JitterRow], str], draw: Callable[[JitterRow], go.Figure], key: str
) -> None:
    """Draw two groups a line, each with its sentence above."""
    for begin in range(0, len(rows), 2):
        for place, column in enumerate(st.columns(2, gap="medium"), start=begin):
            if place < len(rows):
                with column:
                    st.markdown(say(rows[place]))
                    st.plotly_chart(draw(rows[place]), config=charts.CONFIG, key=f"{key}-{place}")


if __name__ == "__main__":
    show()
