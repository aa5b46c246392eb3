"""Hardware: which type is how much faster at the same work, and why requests differ; accuracy against speed."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import PRICES_ENV, Hardware
from tailsight_dashboard import charts, charts_hardware, pareto, source, tables_hardware, variance
from tailsight_dashboard import wording_hardware as wording
from tailsight_dashboard.filters import Scope
from tailsight_dashboard.format import clock, plain
from tailsight_dashboard.tables_jitter import UNKNOWN

MOST_LINES = 15  # of the table that are shown without a scrollbar of its own


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    answer = source.ask_hardware(scope.window, scope.filters)
    result = answer.value
    first, *others = wording.headline(result)
    with st.container(gap=None):
        st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(result.window.label)}")
        st.markdown(f"## {first}")
    if others:
        st.markdown("  \n".join(others))
    compared(result)
    used(result)
    variance.show(scope)
    pareto.show(scope)


def compared(result: Hardware) -> None:
    """Draw the ratios, and show them beside the raw figures."""
    if not result.comparisons:
        if result.unknown_share >= 1:
            st.markdown(
                "Say where a service runs with `tailsight.configure(hardware=…)`, or the resource attribute "
                "`tailsight.hardware`."
            )
        return
    shown = charts_hardware.compared(result.comparisons)
    if shown:
        st.subheader("Like with like", anchor=False, help=wording.LIKE_WITH_LIKE_HELP)
        st.plotly_chart(charts_hardware.ratios(result.comparisons), config=charts.CONFIG, key="ratios")
    else:
        st.subheader("By stage (raw)", anchor=False)
    if len(shown) > charts_hardware.MOST_ROWS:
        st.caption(f"Drawn are {charts_hardware.MOST_ROWS} of {len(shown)}; the table has all.")
    lines = sum(len(comparison.types) for comparison in result.comparisons)
    st.dataframe(
        tables_hardware.types(result),
        hide_index=True,
        key="types",
        height="content" if lines <= MOST_LINES else "auto",
        placeholder=UNKNOWN,
    )
    if notes := wording.notes(result):
        st.caption(notes)


def used(result: Hardware) -> None:
    """Show what requests take of each type, with costs and energy where they are known."""
    if not wording.shown_uses(result):
        return
    st.subheader("What requests take of it", anchor=False, help=wording.USE_HELP)
    st.dataframe(tables_hardware.uses(result), hide_index=True, height="content", key="uses", placeholder=UNKNOWN)
    st.caption(wording.use_notes(result, list(source.prices()), PRICES_ENV))


if __name__ == "__main__":
    show()
