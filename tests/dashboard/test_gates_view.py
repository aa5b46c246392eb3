"""Gate reports in the Regressions view, by AppTest against a real collector, and their sentences and charts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from dashboard.apptest import texts
from streamlit.testing.v1 import AppTest
from testkit.gate_reports import FINE, INCONCLUSIVE, OPEN, REGRESSION, REPORTS, TITLE, UNKNOWN, compared, made, request

from tailsight_analysis import Store
from tailsight_analysis.gate_reports import gate_report, gate_reports
from tailsight_analysis.gating.kept import KeptReport, kept_report
from tailsight_analysis.gating.result import Compared, Needed
from tailsight_dashboard import charts_gates, tables_gates
from tailsight_dashboard import wording_gates as wording
from tailsight_dashboard.charts_gates import MOST_ROWS, changes, shown
from tailsight_dashboard.colours import VERDICTS

KEPT = [kept_report(f"{number}" * 32, report.to_json()) for number, report in enumerate(REPORTS)]


def opened(app: AppTest, **address: str) -> AppTest:
    """Open the page over the last hour, as people do: the store has no spans at all."""
    app.query_params.update(address)
    app.run()
    app.switch_page("views/regressions.py")
    app.query_params.update(address)
    app.run()
    assert not app.exception, app.exception
    return app


def table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


def said(app: AppTest) -> str:
    return texts(app).replace("\\", "")


def test_the_latest_report_is_open_and_all_are_listed(gated_app: AppTest, gated_store: Store) -> None:
    listed = gate_reports(gated_store)
    app = opened(gated_app)
    assert "No spans yet" in texts(app)  # gates compare files
    assert "3 reports: 1 regression, 1 inconclusive, 1 pass." in texts(app)
    frame = table(app, "Decisive")
    assert list(frame["Verdict"]) == ["regression", "inconclusive", "pass"]
    assert list(frame["Judged (UTC)"]) == ["2026-05-28 20:46", "2026-05-28 20:36", "2026-05-28 20:26"]
    assert frame["What"][0] == TITLE
    assert frame["Baseline"][0] == "main 0123456789ab"
    assert frame["Candidate"][0] == "faster fedcba987654 (dirty)"
    assert list(frame["False alarms"]) == ["1 % [0.1 % to 5 %]", "—", "—"]
    assert frame["Decisive"][0].startswith("unlike: hardware: baseline NVIDIA L4")
    text = said(app)
    assert text.index("**Unlike:** hardware") < text.index("p99 of **compute on NVIDIA L4** went from 10.2 ms to")
    assert "+13 % [+8.1 % to +16 %], where +5 % is allowed. 1 more metric is slower, too." in text
    assert "Calibrated with 20 runs of the same code (AMD EPYC 9575F, 2 cores, 2026-05-01)" in text
    assert "false alarms in 1 % [0.1 % to 5 %] of 100 gates" in text
    assert f"report `{listed[0].id[:8]}`" in text
    rows = table(app, "To pass")
    assert list(rows["Change"]) == [1.127, 1.09, 1.02, 1.02, 0.8, 1.004, 1.004]
    assert list(rows["98 %"])[2:4] == ["−7 % to +14 %", "not known"]
    assert rows["Would decide"][2] == "12 more runs"
    assert rows["Allowed"][6] == "+5 %, 25.0 ms"
    assert len(app.get("plotly_chart")) == 1


@pytest.mark.parametrize("digits", [8, 32])
def test_a_link_opens_a_report_by_its_id_or_its_first_digits(
    gated_app: AppTest, gated_store: Store, digits: int
) -> None:
    wanted = gate_reports(gated_store)[1]
    app = opened(gated_app, report=wanted.id[:digits])
    assert not app.warning
    assert app.selectbox(key="report").value == wanted.id
    text = said(app)
    assert "1 of 2 metrics that must pass are not decided. 12 more runs a side would decide. First of all: p99" in text
    assert wording.NOT_CALIBRATED in texts(app)
    app.selectbox(key="report").select(gate_reports(gated_store)[2].id).run()
    assert "All 4 metrics that must pass are shown to be within what is allowed." in said(app)


def test_a_link_to_a_report_that_is_not_there_is_said_and_the_latest_is_open(gated_app: AppTest) -> None:
    app = opened(gated_app, report="[x](http://such.example)")
    assert len(app.warning) == 1
    assert "](" not in app.warning[0].value
    assert "**Regression**" in texts(app)


def test_a_report_older_than_the_list_can_be_opened(
    gated_app: AppTest, gated_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailsight_dashboard.gates.MOST_LISTED", 1)
    oldest = gate_reports(gated_store)[2]
    app = opened(gated_app, report=oldest.id)
    assert "The latest 1 report: 1 regression." in texts(app)
    assert "**Pass**" in texts(app)
    assert not app.warning


def test_all_time_of_a_store_without_spans_still_shows_reports(gated_app: AppTest) -> None:
    assert "3 reports" in texts(opened(gated_app, time="all"))


def test_without_reports_the_page_says_how_they_come(historic_app: AppTest) -> None:
    app = opened(historic_app, time="all")
    assert "No gate report is kept here." in texts(app)
    assert any("--keep http://127.0.0.1:4318" in code.value for code in app.code)
    app = opened(historic_app, time="all", report="0123")
    assert not app.warning


def test_an_empty_store_without_reports_is_as_it_was(app_on_empty: AppTest) -> None:
    assert "Gate reports" not in texts(opened(app_on_empty))


def of(verdict: str, *rows: object, needed: Needed | None = None) -> KeptReport:
    return kept_report("1" * 32, made(verdict, tuple(rows), (), minutes=0, needed=needed).to_json())


def test_a_limit_that_is_broken_is_said() -> None:
    over = request("p99", limit_ms=11.0, candidate_interval_ms=(11.2, 12.0))
    assert wording.headline(of("regression", over)) == (
        "p99 of **requests** is **11.5 ms** [11.2 to 12.0 ms], above its limit of 11.0 ms."
    )
    assert "above its limit of 11.0 ms; regression" in wording.finding_text(over)


def test_what_becomes_faster_and_what_more_requests_would_decide_is_said() -> None:
    faster = request("p50", ratio=0.8, ci_low=0.7, ci_high=0.9, verdict="improvement")
    assert wording.headline(of("pass", faster, request("p99", **FINE))).endswith("allowed. 1 metric is faster.")
    said = wording.headline(of("inconclusive", *INCONCLUSIVE, needed=Needed(3000, None)))
    assert "3,000 more requests a side would decide." in said
    assert wording.needed(Needed(None, 1)) == "1 more run"
    assert wording.needed(Needed(None, None)) == ""


def test_rows_are_named_as_in_the_terminal() -> None:
    rows = (
        request("p50"),
        compared("compute", hardware="*"),
        compared("", hardware="L4"),
        compared("compute", hardware=""),
    )
    names = ["requests", "compute on all hardware", "(no stage) on L4", "compute"]
    assert [wording.compared(row) for row in rows] == names
    frame = tables_gates.comparisons(of("regression", *rows)).data
    assert sorted(frame["Compared"]) == sorted(names)


def test_an_inconclusive_report_of_others_that_contradicts_itself_is_shown() -> None:
    said = wording.headline(of("inconclusive", request("p50", **FINE), compared("s", **OPEN)))
    assert said == "0 of 1 metrics that must pass are not decided."


def test_names_of_others_are_only_names() -> None:
    hostile = "<b>*x*</b> [y](z) $a$ `c`"
    report = of("regression", compared(hostile, hardware=hostile))
    report = replace(report, title=hostile, notes=(hostile,))
    assert "<b>" not in charts_gates.changes(shown(report)).to_json()
    for text in (wording.title(report), wording.headline(report), *wording.reasons(report)):
        assert "](" not in text.replace("\\]", "").replace("\\(", "")
        assert "<b>" not in text.replace("\\<", "")


def ticks(rows: list[Compared]) -> list[Any]:
    return [each for each in changes(rows).data if each.marker.symbol == "line-ns"]


def test_the_chart_has_what_the_verdict_rests_on_and_an_axis_that_outliers_do_not_rule() -> None:
    report = KEPT[2]
    rows = shown(report)
    assert len(rows) == len(REGRESSION)
    dots = changes(rows).data[-1]
    assert list(dots.x) == pytest.approx([12.7, 9, 2, 2, -20, 0.4, 0.4])
    assert list(dots.marker.color) == [VERDICTS[row.verdict] for row in rows]
    allowed, margins = ticks(rows)
    assert list(allowed.x) == pytest.approx([5.0] * len(rows))
    # but where both are one, and where the gate passes without
    assert (list(margins.x), list(margins.y)) == ([10.0], ["requests p99"])
    wide = request("p99", ratio=1.5, ci_low=0.01, ci_high=11.0, verdict="inconclusive")
    least, most = changes([wide, request("p50", **FINE)]).layout.xaxis.range
    assert least == pytest.approx(-99 - 0.06 * 249, abs=0.1)
    assert most == pytest.approx(150 + 0.06 * 249, abs=0.1)
    many = of("inconclusive", *(compared(f"s{number}", **OPEN) for number in range(20)), request("p99", **OPEN))
    assert len(shown(many)) == MOST_ROWS
    assert shown(many)[0].decides
    assert "The 14 that matter most of 21 comparisons" in wording.drawn(many, MOST_ROWS)


def test_the_chart_stands_without_any_interval() -> None:
    figure = changes([request("p50", **UNKNOWN), request("p99", **{**OPEN, "ci_high": None})])
    assert [each.mode for each in figure.data].count("lines") == 1
    assert "—" in tables_gates.comparisons(of("inconclusive", request("p50", **UNKNOWN))).to_string()


def test_a_report_is_the_same_from_the_store(gated_store: Store) -> None:
    for listed, report in zip(gate_reports(gated_store)[::-1], REPORTS, strict=True):
        assert gate_report(gated_store, listed.id).judgement == report.judgement
