"""Run the page again from time to time."""

from __future__ import annotations

import streamlit as st


def rerun_every(seconds: float) -> None:
    """Run the whole page again every so many seconds, for as long as each run calls this."""
    is_first = [True]

    @st.fragment(run_every=seconds)
    def tick() -> None:
        if is_first:
            is_first.clear()  # the fragment's own call, within the page's run
        else:
            st.rerun()

    tick()
