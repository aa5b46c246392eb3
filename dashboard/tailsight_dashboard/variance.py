"""Why requests differ: the part of the Hardware view with the ledger of their variance."""

from __future__ import annotations

import streamlit as st

from tailsight_dashboard import charts, charts_variance, source, states, tables_hardware, wording_variance
from tailsight_dashboard.filters import Scope


def show(scope: Scope) -> None:
    """Draw the section, or say why it cannot be."""
    st.subheader("Why requests differ", anchor=False, help=wording_variance.VARIANCE_HELP)
    with states.in_words():
        result = source.ask_variance(scope.window, scope.filters).value
        st.markdown(wording_variance.headline(result))
        if not result.total.sd_ms:
            return
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.plotly_chart(charts_variance.shares(result), config=charts.CONFIG, key="variance-shares")
            if len(result.hardware) > 1:
                st.dataframe(
                    tables_hardware.hardware_of_variance(result),
                    hide_index=True,
                    height="content",
                    key="variance-hardware",
                )
        with right:
            st.markdown("What varies alone, and together", help=wording_variance.MAP_HELP)
            st.plotly_chart(charts_variance.together(result.total), config=charts.CONFIG, key="variance-map")
        st.dataframe(
            tables_hardware.stages_of_variance(result), hide_index=True, height="content", key="variance-stages"
        )
        st.caption(wording_variance.notes(result))
