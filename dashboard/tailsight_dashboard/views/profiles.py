"""Profiles: which code a slow stage runs, in flame graphs of the samples of all its requests, tail against typical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tailsight_analysis import AnalysisError, Filters, NotEnoughDataError, Window
from tailsight_analysis.flames import (
    FlameSideOf,
    ProfiledStage,
    RecordedProfile,
    StageDifference,
    StageFlame,
    top_functions,
)
from tailsight_analysis.profiles import State
from tailsight_dashboard import charts_profiles, flame_component, source, states, tables_profiles
from tailsight_dashboard import wording_profiles as wording
from tailsight_dashboard.filters import Scope, choice, pick, remember, widen
from tailsight_dashboard.format import clock, count, plain, share
from tailsight_dashboard.selection import ALL_TIME, GRAPHS, SIDES

VIEW = "profiles"
MOST_LINES = 15  # of a table that are shown without a scrollbar of its own
TAIL, TYPICAL = FlameSideOf("tail", classes=("tail",)), FlameSideOf("typical", classes=("typical",))
NAMES = {"all": "All", "tail": "Tail", "typical": "Typical", "difference": "Difference"}
SIDE_NAMES = {"classes": "tail : typical", "runs": "two runs"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at: where, and the two sides that are compared; None where there are no two runs."""

    window: Window
    filters: Filters
    stage: str
    sides: tuple[FlameSideOf, FlameSideOf] | None


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    window = whole(scope)
    answer = source.ask_profiles(window, scope.filters)
    head = st.container(gap="xsmall")
    with head.container(gap=None):
        st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(window.label)}")
        title = st.empty()
    if not answer.value:
        nothing(scope, title)
        return
    stages = source.ask_profiled(window, scope.filters)
    with st.container(horizontal=True, vertical_alignment="bottom", key="profile-choices"):
        asked = choices(scope, window, stages)
    difference = compared(asked)
    flame = pooled(asked, ())
    first, *others = answers(asked, difference, flame)
    title.markdown(f"## {first}")
    head.markdown("  \n".join(others))
    if isinstance(flame, StageFlame):
        metrics(flame, [each for each in stages if asked.stage in ("", each.stage)])
        graph_and_table(asked, difference)
    recordings(answer.value, stages)


def whole(scope: Scope) -> Window:
    """Return the time that is looked at; all time is that of the samples, too: they may be kept longer than spans."""
    if scope.selection.time != ALL_TIME:
        return scope.window
    held = source.profiled_extent()
    if held is None:
        return scope.window
    return Window(min(held.since_ns, scope.window.since_ns), max(held.until_ns, scope.window.until_ns))


def choices(scope: Scope, window: Window, stages: Sequence[ProfiledStage]) -> Asked:
    """Draw the choices, and return what they mean."""
    samples: dict[str, int] = {}
    for each in stages:
        if each.stage:
            samples[each.stage] = samples.get(each.stage, 0) + each.samples
    named = {name: f"{name} · {count(number)} samples" for name, number in samples.items()}
    stage = pick("stage", "Stage", list(named), "", lambda name: named.get(name, "All stages"), width=280)
    sides = choice("sides", "Compare", SIDES, format_func=SIDE_NAMES.__getitem__)
    filters = replace(scope.filters, stage=(stage,) if stage else ())
    if sides == "classes":
        return Asked(window, filters, stage, (TAIL, TYPICAL))
    runs = sorted({run for each in stages for run in each.runs})
    if len(runs) < 2:
        return Asked(window, filters, stage, None)
    first = pick("first", "Run", runs, runs[-1], width=200)
    second = pick("second", "Against run", runs, next(run for run in runs if run != first), width=200)
    if first == second:
        return Asked(window, filters, stage, None)
    return Asked(window, filters, stage, (FlameSideOf(first, runs=(first,)), FlameSideOf(second, runs=(second,))))


def compared(asked: Asked) -> StageDifference | AnalysisError | None:
    """Compare the two sides; an error that says why not is an answer, too."""
    if asked.sides is None:
        return None
    try:
        with st.spinner("Comparing …"):
            return source.ask_difference(asked.window, asked.filters, *asked.sides).value
    except AnalysisError as error:
        return error


def pooled(asked: Asked, classes: tuple[str, ...]) -> StageFlame | AnalysisError:
    """Pool the samples; an error that says why not is an answer, too."""
    try:
        return source.ask_flame(asked.window, asked.filters, classes).value
    except AnalysisError as error:
        return error


def answers(
    asked: Asked, difference: StageDifference | AnalysisError | None, flame: StageFlame | AnalysisError
) -> list[str]:
    """Say what was found, the difference first; or what is missing for it."""
    if isinstance(flame, AnalysisError):
        more = [wording.RECORD_MORE] if isinstance(flame, NotEnoughDataError) else []
        return [states.sentence(flame), *more]
    most = wording.flame_headline(flame, top_functions(flame.flame), asked.stage)
    if isinstance(difference, StageDifference) and asked.sides:
        return [*wording.difference_headline(difference, *asked.sides, asked.stage), most]
    return [states.sentence(difference) if isinstance(difference, AnalysisError) else wording.TWO_RUNS, most]


def metrics(found: StageFlame, stages: Sequence[ProfiledStage]) -> None:
    """Show the samples in figures."""
    totals = charts_profiles.state_totals(found.flame)
    ambiguous = sum(each.ambiguous for each in stages)
    everything = ambiguous + sum(each.samples for each in stages)
    with st.container(horizontal=True, key="profile-metrics"):
        st.metric("Samples", count(found.flame.samples), border=True)
        st.metric("Requests", count(found.flame.requests), border=True, help="That have a sample")
        for name, state in (("Waiting for the GIL", State.GIL), ("Waiting otherwise", State.WAITING)):
            st.metric(name, share(totals[state] / found.flame.samples), border=True)
        st.metric(
            "Ambiguous",
            share(ambiguous / everything if everything else 0.0),
            border=True,
            help="Samples that may be of several stages. They are left out, never guessed.",
        )


def graph_and_table(asked: Asked, difference: StageDifference | AnalysisError | None) -> None:
    """Draw the graph that is chosen, and its functions as a table."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("Flame graph", anchor=False, help=wording.EXPLANATION, width="content")
        graph = choice("graph", "Samples", GRAPHS, format_func=NAMES.__getitem__, label_visibility="collapsed")
    if graph == "difference":
        if isinstance(difference, StageDifference):
            drawn(asked, charts_profiles.of_difference(difference), wording.DIFFERENCE_EXPLANATION)
            differences(difference)
        else:
            st.markdown(states.sentence(difference) if difference else wording.TWO_RUNS)
        return
    found = pooled(asked, () if graph == "all" else (graph,))
    if isinstance(found, AnalysisError):
        st.markdown(states.sentence(found))
    else:
        drawn(asked, charts_profiles.of_states(found.flame), wording.flame_basis(found))
    if isinstance(difference, StageDifference):
        differences(difference)
    if not isinstance(found, AnalysisError):
        functions(found)


@st.fragment
def drawn(asked: Asked, data: dict[str, Any], basis: str) -> None:
    """Draw a flame graph. A fragment: to search asks the store for nothing."""
    graph = str(st.session_state["graph"])
    flame_component.flame(
        data,
        of=repr((asked.stage, asked.sides, graph)),
        search=str(st.session_state.get("search") or ""),
        searched=lambda text: remember("search", text, VIEW),
        key="flame",
    )
    st.caption(" ".join(filter(None, [basis, wording.left_out(data["left_out"])])))


def differences(found: StageDifference) -> None:
    """Show which functions differ, with how sure that is."""
    names = f"{plain(found.difference.name_a)} against {plain(found.difference.name_b)}"
    st.subheader(f"Functions: {names}", anchor=False, help=wording.DIFFERENCE_HELP)
    if not found.functions:
        st.markdown(wording.SAME_FUNCTIONS)
        return
    table = tables_profiles.differences(found)
    number = min(len(found.functions), tables_profiles.MOST_ROWS)
    st.dataframe(table, hide_index=True, height="content" if number <= MOST_LINES else "auto", key="flame-differences")
    st.caption(wording.difference_basis(found))


def functions(found: StageFlame) -> None:
    """Show the functions, those that ran most themselves first."""
    st.subheader("Functions by their own time", anchor=False, help=wording.FUNCTIONS_HELP)
    rows = top_functions(found.flame)
    table = tables_profiles.functions(rows, found.flame)
    st.dataframe(table, hide_index=True, height="content" if len(rows) <= MOST_LINES else "auto", key="flame-functions")
    if len(rows) > tables_profiles.MOST_ROWS:
        st.caption(f"The first {count(tables_profiles.MOST_ROWS)} of {count(len(rows))}.")


def recordings(profiles: Sequence[RecordedProfile], stages: Sequence[ProfiledStage]) -> None:
    """Show the recordings that the samples are of."""
    st.subheader("Recordings", anchor=False, help=wording.RECORDINGS_HELP)
    st.markdown(" ".join([wording.recorded(profiles), *wording.rests_on(profiles, stages)]))
    st.dataframe(
        tables_profiles.recordings(profiles),
        hide_index=True,
        height="content" if len(profiles) <= MOST_LINES else "auto",
        key="recordings",
    )


def nothing(scope: Scope, title: DeltaGenerator) -> None:
    """Say that there are no samples here, where some are, and how to take some."""
    held = source.profiled_extent()
    limits = f" with {plain(scope.filters.label)}" if scope.filters.label else ""
    title.markdown(f"## {wording.NOTHING}")
    st.markdown(wording.nothing_here(f"{plain(scope.window.label)}{limits}", plain(held.label) if held else ""))
    if held:
        with st.container(horizontal=True):
            st.button("Show all time", on_click=widen, kwargs={"all_time": True}, type="primary")
            if scope.filters.label:
                st.button("Clear the filters", on_click=widen, kwargs={"no_filters": True})
    st.markdown(wording.NONE)
    [service] = scope.filters.service[:1] or ("my-service",)
    st.code(wording.commands(service), language="bash", wrap_lines=True)
    st.caption(wording.THEN)


if __name__ == "__main__":
    show()
