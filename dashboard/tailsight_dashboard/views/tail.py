"""Tail: why the slow requests are slow, by their stages and attributes against those of typical requests."""

from __future__ import annotations

import streamlit as st

from tailsight_analysis import Cause, Tail
from tailsight_dashboard import charts, links, source, tables, whatif, wording, wording_causes
from tailsight_dashboard.filters import Scope, choice
from tailsight_dashboard.format import UNACCOUNTED_HELP, clock, count, duration, plain, quantile
from tailsight_dashboard.selection import QUANTILES
from tailsight_dashboard.wording_basis import missing

MOST_CAUSES = 4  # that are shown at once
CAUSES_HELP = (
    "A stage, and the conditions under which it takes longer in the tail than in typical requests: values of "
    "attributes and columns, ranges of numbers, load, states of devices."
)


def show() -> None:
    """Draw the page."""
    scope: Scope = st.session_state["scope"]
    head = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    with head:
        found = st.container(gap="xsmall", width=840)
        choice("quantile", "Tail: requests at or above", tuple(QUANTILES))
    answer = source.ask_tail(scope.window, scope.filters, QUANTILES[scope.selection.quantile])
    tail = answer.value
    with found:
        with st.container(gap=None):
            st.caption(f"As of **{clock(answer.asked_ns)}** · {plain(tail.window.label)}")
            st.markdown(f"## {wording.tail_headline(tail)}")
        if tail.causes and tail.causes[0].conditions:
            st.markdown(f"{wording_causes.headline(tail.causes[0])}.")
    metrics(tail)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("From typical to tail (ms)", anchor=False, help=UNACCOUNTED_HELP)
        st.plotly_chart(charts.from_typical_to_tail(tail), config=charts.CONFIG, key="waterfall")
    with right:
        st.subheader("Mean time a request", anchor=False)
        st.dataframe(tables.excess(tail), hide_index=True, height="content", key="excess")
        st.caption(" ".join([wording.tail_method(tail), *missing(tail.data)]))
    causes(scope, tail)
    whatif.show(scope)
    attributes(tail)
    examples(scope, tail)


def metrics(tail: Tail) -> None:
    """Show what is compared, in figures."""
    with st.container(horizontal=True, key="tail-metrics"):
        name = quantile(tail.quantile)
        bounds = wording.bounds_help(name, tail.threshold_interval)
        st.metric(f"{name} of the requests", duration(tail.threshold_ms), border=True, help=bounds)
        st.metric("Tail requests", count(tail.tail_requests), border=True)
        st.metric("Mean of the tail", duration(tail.total.tail_ms), border=True)
        st.metric("Typical requests", count(tail.typical_requests), border=True, help="Between p40 and p60")
        st.metric("Mean of the typical", duration(tail.total.typical_ms), border=True)


def causes(scope: Scope, tail: Tail) -> None:
    """Show the causes, what explains most first, each with traces that have it."""
    st.subheader("What makes the tail slow", anchor=False, help=CAUSES_HELP)
    if not tail.causes:
        st.markdown(wording_causes.no_cause())
        return
    for cause in tail.causes[:MOST_CAUSES]:
        one_cause(scope, tail, cause)
    if rest := tail.causes[MOST_CAUSES:]:
        with st.expander("1 smaller one" if len(rest) == 1 else f"{count(len(rest))} smaller ones"):
            for cause in rest:
                one_cause(scope, tail, cause)
    st.caption(wording_causes.method())


def one_cause(scope: Scope, tail: Tail, cause: Cause) -> None:
    """Show one cause: its name and share, what speaks for it, other names of it, and examples."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(wording_causes.headline(cause))
        st.caption(wording_causes.evidence(cause, tail))
        if others := wording_causes.same_as(cause):
            st.caption(others)
        if cause.examples:
            links.traces(scope, "Traces:", cause.examples)


def examples(scope: Scope, tail: Tail) -> None:
    """Link to traces of both classes."""
    if tail.examples.tail or tail.examples.typical:
        st.subheader("Example traces", anchor=False, help="Near the median duration of the tail and of the typical")
        links.examples(scope, tail)


def attributes(tail: Tail) -> None:
    """Show which attribute values tail requests have more often."""
    st.subheader("What tail requests have more often", anchor=False)
    if not tail.attributes:
        st.markdown(wording.nothing_stands_out(tail))
        return
    st.dataframe(tables.attributes(tail.attributes), hide_index=True, height="content", key="attributes")
    st.caption(
        "Tail, Typical: share of the requests that have the value. Lift: how many times as often, ≥ where no typical "
        f"request has it. p-values are corrected for the {count(tail.attributes_tested)} values tested."
    )


if __name__ == "__main__":
    show()
