"""Regressions: what became slower since which version, run or moment; two side by side; gate reports; open alerts."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tailsight_analysis import NoSpansError, NotEnoughDataError, Regressions
from tailsight_dashboard import charts, charts_regressions, comparing, gates, links, source, states, tables_regressions
from tailsight_dashboard import wording_regressions as wording
from tailsight_dashboard.filters import Scope, choice
from tailsight_dashboard.format import clock, plain
from tailsight_dashboard.selection import METRICS, OVER, SCALES

MOST_LINES = 15  # of the table that are shown without a scrollbar of its own
NAMES = {"version": "Versions", "run": "Runs", "time": "Time"}


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    head = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="top")
    with head:
        found = st.container(gap="xsmall", width=840)
        over = choice("over", "Over", OVER, format_func=NAMES.__getitem__)
    result = look(scope, over, found)
    if result:
        series(scope, result)
        changes(scope, result)
    comparing.show(scope, over, result.units if result else (), result.slower if result else ())
    gates.show()
    alerts()


def look(scope: Scope, over: str, found: DeltaGenerator) -> Regressions | None:
    """Ask for the history and say what it tells, in the place that is meant for it; None where it is too short.

    Raises NoSpansError where there is nothing at all.
    """
    asked_ns = source.now_ns()
    try:
        with found, st.spinner("Looking for changes …"):
            answer = source.ask_regressions(scope.window, scope.filters, over)
    except NoSpansError:
        said = source.ask_choices(scope.window)
        if over == "time" or said[over] or not any(said.values()):
            raise
        sentences = [wording.nobody_says(over), wording.HOW_TO_SAY[over]]
        result = None
    except NotEnoughDataError as error:
        sentences = [wording.too_short(over), f"{states.sentence(error)} {wording.TOO_SHORT[over]}"]
        result = None
    else:
        asked_ns, result = answer.asked_ns, answer.value
        sentences = wording.headline(result)
    first, *others = sentences
    with found:
        with st.container(gap=None):
            st.caption(f"As of **{clock(asked_ns)}** · {plain(scope.window.label)}")
            st.markdown(f"## {first}")
        if others:
            st.markdown("  \n".join(others))
    return result


def series(scope: Scope, result: Regressions) -> None:
    """Draw the series of one metric, two a line, with their changes."""
    head = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom")
    with head:
        st.subheader(f"Over {NAMES[result.by].lower()} (ms)", anchor=False, help=wording.EXPLANATION, width="content")
        with st.container(horizontal=True, width="content"):
            metric = choice("metric", "Metric", METRICS, help=wording.METRIC_HELP)
            choice("scale", "Scale", SCALES)
    lines = charts_regressions.shown(result, metric)
    if not lines:
        st.markdown(wording.no_lines(metric))
    drawn = lines[: charts_regressions.MOST_CHARTS]
    for begin in range(0, len(drawn), 2):
        for place, column in enumerate(st.columns(2, gap="medium"), start=begin):
            if place < len(drawn):
                with column:
                    st.markdown(wording.title(drawn[place], result))
                    figure = charts_regressions.history(drawn[place], result, log=scope.selection.scale == "log")
                    st.plotly_chart(figure, config=charts.CONFIG, key=f"history-{place}")
    st.caption(wording.notes(result, drawn, len(lines) - len(drawn)))


def changes(scope: Scope, result: Regressions) -> None:
    """Show all changes, with links to where the first of them lasts."""
    if not result.changes:
        return
    st.subheader("Changes", anchor=False, help="p-values are among all series. Workload: what was asked changed, too.")
    st.dataframe(
        tables_regressions.changes(result),
        hide_index=True,
        height="content" if len(result.changes) <= MOST_LINES else "auto",
        key="changes",
    )
    if result.by != "time":
        first = result.slower[0] if result.slower else result.changes[0]
        links.version_or_run(scope, result.by, result.units[first.first_after].name)


def alerts() -> None:
    """Show the alerts that are open, whatever the time and the filters."""
    st.subheader("Open alerts", anchor=False, help="Of all of the store: the time and the filters do not limit them.")
    found = source.ask_open_alerts().value
    if not found:
        st.markdown(wording.NO_ALERTS)
        return
    st.markdown(wording.alert_headline(found))
    st.dataframe(tables_regressions.alerts(found), hide_index=True, height="content", key="alerts")


if __name__ == "__main__":
    show()
