"""Side by side: the part of Regressions that compares two versions, runs or moments; it waits to be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import streamlit as st

from tailsight_analysis import AnalysisError, Comparison, HistoryChange, Side, StorageError, Window
from tailsight_analysis.changes.units import Unit
from tailsight_dashboard import charts, charts_compare, source, states, tables_compare, wording_compare
from tailsight_dashboard.filters import Scope, pick
from tailsight_dashboard.format import clock
from tailsight_dashboard.source import Answer
from tailsight_dashboard.wording_regressions import UNITS, unit_name

_KEPT, _OVER = "compare answer", "compared over"
_LEAST = 2  # names, to choose two


@dataclass(slots=True)
class _Kept:
    """The last answer of this session, and the choices that it is of."""

    choices: tuple[object, ...] = ()
    answer: Answer[Comparison] | None = None


def show(scope: Scope, over: str, units: Sequence[Unit], slower: Sequence[HistoryChange]) -> None:
    """Draw the section. What is offered: the history's units, else what the filters offer.

    Without a choice, the two sides of the latest change for the worse, else the last two; of stretches of time, all
    before and all after that change, because one has few requests.
    """
    state = st.session_state
    if state.get(_OVER, over) != over:
        state["baseline"] = state["candidate"] = None
    state[_OVER] = over
    noun, nouns = UNITS[over]
    st.subheader("Side by side", anchor=False, help=wording_compare.EXPLANATION)
    names = [unit.name for unit in units]
    if not names and over != "time":
        names = source.ask_choices(scope.window)[over]
    if len(names) < _LEAST:
        st.markdown(wording_compare.too_few(nouns))
        return
    before, after = names[-2], names[-1]
    levels: dict[str, tuple[Unit, Unit]] = {}
    if slower and units:
        change = slower[0]
        before, after = units[change.last_before].name, units[change.first_after].name
        if over == "time":
            moment = unit_name(after, over)
            before, after = f"all before {moment}", f"all from {moment}"
            levels = {
                before: (units[change.first_before], units[change.last_before]),
                after: (units[change.first_after], units[change.last_after]),
            }
    with st.container(horizontal=True, vertical_alignment="bottom", key="sides"):
        named = partial(unit_name, by=over)
        baseline = pick("baseline", f"Baseline {noun}", names, before, named, width=280)
        candidate = pick("candidate", f"Candidate {noun}", names, after, named, width=280)
    if baseline == candidate:
        st.markdown(f"Choose two different {nouns}.")
        return
    levels |= {unit.name: (unit, unit) for unit in units}
    selection = scope.selection
    chosen = (source.dsn(), selection.time, selection.since, selection.until, scope.filters, over, baseline, candidate)
    _answered(_side(scope, over, baseline, levels), _side(scope, over, candidate, levels), chosen)


def _side(scope: Scope, over: str, name: str, levels: Mapping[str, tuple[Unit, Unit]]) -> Side:
    if over == "time":
        first, last = levels[name]
        return Side(Window(first.first_ns, last.last_ns + 1), scope.filters)
    return Side(scope.window, replace(scope.filters, **{over: (name,)}))


@st.fragment
def _answered(baseline: Side, candidate: Side, choices: tuple[object, ...]) -> None:
    """Draw a button, and the answer since it was pressed, for as long as the choices stay.

    A fragment: the rest of the page can be used meanwhile, and Live does not ask again. A window that ends now
    moves on; the answer says of which it is.
    """
    kept: _Kept = st.session_state.setdefault(_KEPT, _Kept())
    if kept.choices != choices:
        kept.choices, kept.answer = choices, None
    label = "Compare again" if kept.answer else "Compare"
    if st.button(label, icon=":material/compare_arrows:", key="compare"):
        _ask(baseline, candidate, kept)
    elif kept.answer is None:
        st.caption(wording_compare.EXPLANATION)
    if kept.answer:
        _draw(kept.answer)


def _ask(baseline: Side, candidate: Side, kept: _Kept) -> None:
    kept.answer = None
    try:
        with st.spinner("Comparing …", show_time=True):
            # kept before Streamlit has a chance to run the page again instead, as Live does
            kept.answer = source.ask_compare(baseline, candidate)
    except AnalysisError as error:
        st.markdown(f"{states.sentence(error)} {wording_compare.MORE}")
    except StorageError:
        source.forget()
        st.rerun()  # the whole page: it says that the store is away


def _draw(answer: Answer[Comparison]) -> None:
    result = answer.value
    st.caption(f"As of **{clock(answer.asked_ns)}** · {wording_compare.sides(result)}")
    st.markdown(wording_compare.headline(result))
    for column, name in zip(st.columns(2, gap="medium"), charts_compare.DRAWN, strict=True):
        with column:
            st.markdown(wording_compare.went(name, result.findings.differences[name]))
            st.plotly_chart(
                charts_compare.parts(result.findings.differences[name]), config=charts.CONFIG, key=f"parts-{name}"
            )
    st.dataframe(tables_compare.differences(result), hide_index=True, height="content", key="differences")
    if tables_compare.has_places(result):
        st.markdown("**Where**")
        st.dataframe(tables_compare.places(result), hide_index=True, height="content", key="places")
    if notes := wording_compare.notes(result):
        st.caption(notes)
