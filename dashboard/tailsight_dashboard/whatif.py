"""What if: the part of the Tail view that replays requests, which takes seconds and so waits to be asked."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from tailsight_analysis import AnalysisError, StorageError, WhatIf
from tailsight_dashboard import charts, charts_whatif, source, states, tables_whatif, wording_whatif
from tailsight_dashboard.filters import Scope
from tailsight_dashboard.format import clock, plain
from tailsight_dashboard.selection import QUANTILES
from tailsight_dashboard.source import Answer

_KEPT = "what-if answer"


@dataclass(slots=True)
class _Kept:
    """The last answer of this session, and the choices that it is of."""

    choices: tuple[object, ...] = ()
    answer: Answer[WhatIf] | None = None


@st.fragment
def show(scope: Scope) -> None:
    """Draw the section: a button, and the answer since it was pressed, for as long as the choices stay.

    A fragment: the rest of the page can be used meanwhile, and Live does not ask again.
    """
    st.subheader("What if a stage were faster", anchor=False, help=wording_whatif.EXPLANATION)
    kept: _Kept = st.session_state.setdefault(_KEPT, _Kept())
    selection = scope.selection
    choices = (source.dsn(), selection.time, selection.since, selection.until, selection.filters, selection.quantile)
    if kept.choices != choices:
        kept.choices, kept.answer = choices, None
    label = "Replay again" if kept.answer else "Replay the requests"
    if st.button(label, icon=":material/replay:", key="replay"):
        _ask(scope, kept)
    elif kept.answer is None:
        st.caption(wording_whatif.EXPLANATION)
    if kept.answer:
        _draw(kept.answer)


def _ask(scope: Scope, kept: _Kept) -> None:
    kept.answer = None
    try:
        with st.spinner("Replaying the requests …", show_time=True):
            # kept before Streamlit has a chance to run the page again instead, as Live does
            kept.answer = source.ask_whatif(scope.window, scope.filters, QUANTILES[scope.selection.quantile])
    except AnalysisError as error:
        st.markdown(states.sentence(error))
    except StorageError:
        source.forget()
        st.rerun()  # the whole page: it says that the store is away


def _draw(answer: Answer[WhatIf]) -> None:
    result = answer.value
    st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(result.window.label)}")
    st.markdown(wording_whatif.headline(result))
    left, right = st.columns(2, gap="medium")
    with left:
        st.plotly_chart(charts_whatif.outcomes(result), config=charts.CONFIG, key="whatif-chart")
    with right:
        st.dataframe(tables_whatif.outcomes(result), hide_index=True, key="whatif-table")
        st.caption(wording_whatif.notes(result))
