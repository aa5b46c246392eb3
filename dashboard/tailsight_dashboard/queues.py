"""Queues: the part of the Jitter view that says how busy each is, and what one more worker would change."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import NoSpansError, Queueing
from tailsight_dashboard import charts, charts_jitter, source, states, tables_jitter, wording_queues
from tailsight_dashboard.filters import Scope
from tailsight_dashboard.format import count

MOST_QUEUES = 2  # that are shown in detail
MOST_LINES = 12  # of the table that are shown without a scrollbar of its own


def show(scope: Scope) -> None:
    """Draw the section, or say why it cannot be."""
    st.subheader("Queues", anchor=False, help=wording_queues.QUEUES_HELP)
    with states.in_words():
        try:
            result = source.ask_queueing(scope.window, scope.filters).value
        except NoSpansError:
            st.markdown("No span here is of the stage **queue**, so nothing is known of waiting.")
            return
        _draw(result)


def _draw(result: Queueing) -> None:
    columns = st.columns(MOST_QUEUES, gap="medium")
    for place, (column, station) in enumerate(zip(columns, result.stations, strict=False)):
        with column:
            st.markdown(wording_queues.headline(station))
            st.plotly_chart(charts_jitter.waits(station), config=charts.CONFIG, key=f"waits-{place}")
            st.caption(" ".join(wording_queues.checks(station)))
    lines = len(result.stations)
    st.dataframe(
        tables_jitter.stations(result),
        hide_index=True,
        key="queues",
        placeholder=tables_jitter.UNKNOWN,
        height="content" if lines <= MOST_LINES else "auto",
    )
    notes = [wording_queues.looked_at(result)]
    if lines > MOST_QUEUES:
        notes.append(f"Drawn are the {MOST_QUEUES} of {count(lines)} queues with the longest waits.")
    if any(notes):
        st.caption(" ".join(notes))
