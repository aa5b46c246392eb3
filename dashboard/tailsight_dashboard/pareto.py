"""Quality against latency: the part of the Hardware view that weighs variants where requests carry a quality."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import NotEnoughDataError
from tailsight_dashboard import charts, charts_pareto, source, states, tables_hardware, wording_pareto
from tailsight_dashboard.filters import Scope, choice
from tailsight_dashboard.selection import VARIANTS
from tailsight_dashboard.tables_jitter import UNKNOWN


def show(scope: Scope) -> None:
    """Draw the section, or say what it takes."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("Accuracy against speed", anchor=False, help=wording_pareto.PARETO_HELP)
        by = choice("variants", "Variants by", VARIANTS, label_visibility="collapsed")
    with states.in_words():
        try:
            result = source.ask_pareto(scope.window, scope.filters, by).value
        except NotEnoughDataError:
            st.markdown(wording_pareto.no_quality(by))
            return
        st.markdown(wording_pareto.headline(result))
        left, right = st.columns([2, 3], gap="medium")
        if any(variant.quality for variant in result.variants):
            with left:
                figure = charts_pareto.quality_against_latency(result)
                st.plotly_chart(figure, config=charts.CONFIG, key="pareto")
        with right:
            st.dataframe(
                tables_hardware.variants(result),
                hide_index=True,
                height="content",
                key="variants-table",
                placeholder=UNKNOWN,
            )
            st.caption(wording_pareto.notes(result))
