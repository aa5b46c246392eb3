"""The Regressions view, by AppTest against a real collector: what it shows is what analysis answers."""

from __future__ import annotations

from urllib.parse import parse_qs

import pandas as pd
import pytest
from dashboard import alert_store
from dashboard.apptest import opened, texts
from dashboard.history_store import H100, L4, RATIO, SLOWER_FROM, VERSIONS, run, version
from dashboard.sample_store import RunningCollector
from streamlit.testing.v1 import AppTest

from tailsight_analysis import (
    Filters,
    NotEnoughDataError,
    Regressions,
    Side,
    Store,
    Window,
    compare,
    connect,
    regressions,
    whole_time,
)
from tailsight_analysis.alerting.open import open_alerts
from tailsight_dashboard import charts_regressions, wording_regressions
from tailsight_dashboard.format import duration, share, signed_duration
from tailsight_dashboard.wording_regressions import series

SERIES = 7  # the requests, and three stages on two types


@pytest.fixture
def everything(historic_store: Store) -> Window:
    held = whole_time(historic_store)
    assert held is not None
    return held


@pytest.fixture(scope="module")
def answer(historic: RunningCollector) -> Regressions:
    with connect(historic.store) as store:
        held = whole_time(store)
        assert held is not None
        return regressions(store, held)


def _table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


def _has_table(app: AppTest, column: str) -> bool:
    return any(column in each.value.columns for each in app.dataframe)


def _press(app: AppTest) -> AppTest:
    next(button for button in app.button if button.label.startswith("Compare")).click().run()
    assert not app.exception
    return app


def test_changes_are_those_of_regressions(historic_app: AppTest, answer: Regressions) -> None:
    app = opened(historic_app, "regressions")
    frame = _table(app, "Last before")
    found = answer.changes
    assert list(frame["Series"]) == [series(change.stage, change.hardware) for change in found]
    assert list(frame["Metric"]) == [change.metric for change in found]
    assert list(frame["Change"]) == [change.ratio for change in found]
    assert list(frame["Before (ms)"]) == [change.before_ms for change in found]
    assert list(frame["After (ms)"]) == [change.after_ms for change in found]
    assert list(frame["p-value"]) == [change.adjusted_p_value for change in found]
    assert list(frame["Known since"]) == [answer.units[change.found_at].name for change in found]
    first = answer.slower[0]
    assert (first.stage, first.hardware) == ("compute", L4)
    assert first.ratio == pytest.approx(RATIO, rel=0.05)
    said = texts(app).replace("\\", "")
    low, high = first.ratio_interval
    assert (
        f"## {first.metric} of **compute on {L4}** rose **by {share(first.ratio - 1)}** "
        f"[{share(low - 1)} to {share(high - 1)}] with version **{version(SLOWER_FROM)}**."
    ) in said
    assert (
        f"From {duration(first.before_ms)}, last at {version(SLOWER_FROM - 1)}, to {duration(first.after_ms)}" in said
    )
    assert f"{len(found)} changes in {VERSIONS} versions" in said
    assert len(app.get("plotly_chart")) == SERIES


def test_the_first_chart_is_of_the_first_change_and_the_others_can_be_chosen(
    historic_app: AppTest, answer: Regressions
) -> None:
    lines = charts_regressions.shown(answer, "auto")
    first = answer.slower[0]
    assert (lines[0].stage, lines[0].hardware, lines[0].metric) == (first.stage, first.hardware, first.metric)
    assert {(line.stage, line.hardware) for line in lines} == {(line.stage, line.hardware) for line in answer.lines}
    app = opened(historic_app, "regressions")
    titles = [wording_regressions.title(line, answer) for line in lines]
    assert [each.value for each in app.markdown if each.value in titles] == titles
    app.segmented_control(key="metric").set_value("p50").run()
    assert app.query_params["metric"] == "p50"
    assert texts(app).count("** p50 ") == SERIES
    app.segmented_control(key="metric").set_value("p99").run()
    assert len(app.get("plotly_chart")) == 1  # stages have too few spans in a version for a p99
    app.segmented_control(key="metric").set_value("jitter").run()
    app.multiselect(key="hardware").select(H100).run()
    assert "No series has jitter" in texts(app)


def test_nothing_changed_is_said(historic_app: AppTest, historic_store: Store, everything: Window) -> None:
    assert regressions(historic_store, everything, Filters(hardware=(H100,))).changes == ()
    app = opened(historic_app, "regressions", hardware=H100)
    assert f"## Nothing changed in {VERSIONS} versions." in texts(app)
    assert not _has_table(app, "Last before")
    assert app.selectbox(key="baseline").placeholder == version(VERSIONS - 2)


@pytest.mark.parametrize("over", ["run", "time"])
def test_runs_and_time_are_looked_at_too(
    historic_app: AppTest, historic_store: Store, everything: Window, over: str
) -> None:
    answer = regressions(historic_store, everything, by=over)
    app = opened(historic_app, "regressions", over=over)
    assert app.query_params["over"] == over
    frame = _table(app, "Last before")
    assert list(frame["After (ms)"]) == [change.after_ms for change in answer.changes]
    said = texts(app).replace("\\", "")
    if over == "run":
        assert f"with run **{run(SLOWER_FROM)}**" in said
    else:
        since = wording_regressions.unit_name(answer.units[answer.slower[0].first_after].name, "time")
        assert f"at **{since} UTC**" in said
        assert app.selectbox(key="baseline").placeholder == f"all before {since}"


def test_comparing_waits_to_be_asked_and_shows_what_compare_answers(
    historic_app: AppTest, historic_store: Store, everything: Window
) -> None:
    app = opened(historic_app, "regressions")
    assert not _has_table(app, "95 % of p99")
    _press(app)
    around = (Filters(version=(version(number),)) for number in (SLOWER_FROM - 1, SLOWER_FROM))
    answer = compare(historic_store, *(Side(everything, filters) for filters in around))
    frame = _table(app, "95 % of p99")
    for name, each in answer.findings.differences.items():
        parts = (each.delta, each.workload, each.hardware, each.slowdown)
        assert list(frame[f"{name} (ms)"]) == [each.baseline_ms, each.candidate_ms, *(part.ms for part in parts)]
    places = _table(app, "Of the tail")
    assert list(places["Change (ms)"]) == [
        cause.delta.ms for cause in (*answer.findings.causes, *answer.findings.suspects, *answer.findings.improvements)
    ]
    cause = answer.findings.causes[0]
    assert (cause.stage, cause.hardware) == ("compute", L4)
    assert f"**{signed_duration(cause.delta.ms)}** a request".replace("+", "") in texts(app).replace("+", "")
    assert "Too few requests for an interval of p99." in texts(app)
    app.run()  # as Live does: the answer stays
    assert "Compare again" in [button.label for button in app.button]
    app.selectbox(key="candidate").select(version(SLOWER_FROM - 2)).run()  # another question: it goes
    assert app.query_params["candidate"] == version(SLOWER_FROM - 2)
    assert not _has_table(app, "95 % of p99")
    app.selectbox(key="baseline").select(version(SLOWER_FROM - 2)).run()
    assert "Choose two different versions." in texts(app)


def test_a_link_opens_the_same_two_sides(historic_app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def no_answer(_store: object, *sides: Side) -> None:
        asked.extend(side.filters.version for side in sides)
        raise NotEnoughDataError("too few requests")

    monkeypatch.setattr("tailsight_dashboard.source.compare", no_answer)
    app = _press(opened(historic_app, "regressions", baseline=version(1), candidate=version(9)))
    assert asked == [(version(1),), (version(9),)]
    assert "Too few requests. Take more time, or two others." in texts(app)
    app.segmented_control(key="over").set_value("run").run()  # other names: they go, without a warning
    assert not app.warning
    assert app.selectbox(key="baseline").value is None


def test_links_lead_to_the_version_alone(historic_app: AppTest) -> None:
    opened(historic_app, "regressions", hardware=L4)
    linked = [parse_qs(link.proto.query_string) for link in historic_app.get("page_link")]
    assert linked == [{"time": ["all"], "hardware": [L4], "version": [version(SLOWER_FROM)]}] * 4


def test_a_side_that_is_not_there_is_said(historic_app: AppTest) -> None:
    app = opened(historic_app, "regressions", baseline="[0.1](http://such.example)")
    assert len(app.warning) == 1
    assert "](" not in app.warning[0].value
    assert app.selectbox(key="baseline").placeholder == version(SLOWER_FROM - 1)


def test_a_side_with_too_few_requests_says_how_many_are_missing(historic_app: AppTest) -> None:
    app = opened(historic_app, "regressions", over="time", hardware=H100)
    _press(app)
    assert "too few to compare" in texts(app)
    assert not _has_table(app, "95 % of p99")


def test_too_few_versions_can_still_be_compared(app: AppTest) -> None:
    opened(app, "regressions")
    assert "## Too few versions for a history." in texts(app)
    assert "look over runs or time" in texts(app)
    assert app.selectbox(key="candidate").options == ["1.4.0", "2.0.0"]
    assert "No alert is open." in texts(app)


def test_spans_without_a_version_are_told_from_no_spans(varied_app: AppTest) -> None:
    said = texts(opened(varied_app, "regressions"))
    assert "## No span here says its version." in said
    assert "tailsight.configure(version=…)" in said
    assert "fewer than two versions here" in said


def test_an_empty_store_says_how_to_send(app_on_empty: AppTest) -> None:
    app_on_empty.run()
    app_on_empty.switch_page("views/regressions.py").run()
    assert "No spans yet" in texts(app_on_empty)


def test_open_alerts_are_those_of_the_store(historic_app: AppTest, historic_store: Store) -> None:
    (alert,) = open_alerts(historic_store)
    assert alert.text == alert_store.TEXT
    app = opened(historic_app, "regressions", hardware=H100)
    assert "1 open: 1 critical." in texts(app)
    frame = _table(app, "Rule")
    assert list(frame["Alert"]) == [alert.text]
    assert list(frame["Rule"]) == [alert.rule]
    assert list(frame["Value"]) == ["14.4 burn rate"]
    assert list(frame["Limit"]) == ["6 burn rate"]
    assert list(frame["Since (UTC)"]) == ["2026-05-28 20:26:40"]
