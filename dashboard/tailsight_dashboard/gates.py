"""Gate reports: the part of Regressions that lists what gates found, and opens one of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import streamlit as st

from tailsight_analysis import QuestionError
from tailsight_analysis.gate_reports import ListedReport
from tailsight_analysis.gating.kept import KeptReport
from tailsight_dashboard import charts, charts_gates, source, states, tables_gates
from tailsight_dashboard import wording_gates as wording
from tailsight_dashboard.filters import pick
from tailsight_dashboard.states import DEFAULT_ENDPOINT, ENDPOINT_ENV

VIEW = "regressions"
MOST_LISTED = 50
MOST_LINES = 8  # of the list, without a scrollbar of its own
MOST_COMPARED = 20


def are_kept() -> bool:
    """Whether the store has any report."""
    return bool(source.ask_gate_reports(MOST_LISTED + 1).value)


def show() -> None:
    """Draw the section: the list, and one report, the latest unless another is chosen."""
    st.subheader("Gate reports", anchor=False, help=wording.EXPLANATION)
    found = source.ask_gate_reports(MOST_LISTED + 1).value
    if not found:
        endpoint = os.environ.get(ENDPOINT_ENV, DEFAULT_ENDPOINT).removesuffix("/v1/traces").rstrip("/")
        st.markdown(wording.NONE)
        st.code(wording.COMMANDS.format(endpoint=endpoint), language="bash", wrap_lines=True)
        return
    listed, more = found[:MOST_LISTED], len(found) > MOST_LISTED
    st.markdown(wording.listed(listed, more=more))
    st.dataframe(
        tables_gates.reports(listed),
        hide_index=True,
        height="content" if len(listed) <= MOST_LINES else "auto",
        key="gate-reports",
    )
    names = _names(listed)
    chosen = pick("report", "Report", list(names), listed[0].id, lambda each: names.get(each, each), width="stretch")
    try:
        report = source.ask_gate_report(chosen).value
    except QuestionError as error:  # it is gone since the list was read
        st.markdown(states.sentence(error))
        return
    _open(report)


def _names(listed: Sequence[ListedReport]) -> dict[str, str]:
    """Name the reports to choose from, by their ids; and an older one that the address names by id or first digits."""
    names = {each.id: wording.name(each) for each in listed}
    asked = str(st.session_state.get("report") or "")
    if asked and asked not in names:
        try:
            report = source.ask_gate_report(asked).value
        except QuestionError:
            return names  # the choice says that there is none
        st.session_state["report"] = report.id
        names.setdefault(report.id, f"{wording.minute(report.at_ns)} · {report.judgement.verdict} · {report.title}")
    return names


def _open(report: KeptReport) -> None:
    st.markdown(wording.title(report), help=wording.MEANINGS[report.judgement.verdict])
    st.markdown("  \n".join([*wording.unlike(report), wording.headline(report)]))
    rows = charts_gates.shown(report)
    st.plotly_chart(charts_gates.changes(rows), config=charts.CONFIG, key="gate-changes")
    st.caption(wording.drawn(report, len(rows)))
    number = len(report.judgement.comparisons)
    st.dataframe(
        tables_gates.comparisons(report),
        hide_index=True,
        height="content" if number <= MOST_COMPARED else "auto",
        key="gate-comparisons",
    )
    st.markdown(wording.sides(report))
    st.caption("  \n".join([wording.calibration(report), *wording.reasons(report), wording.judged(report)]))
