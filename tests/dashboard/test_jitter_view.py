"""The Jitter view, by AppTest against a real collector: what it shows is what `jitter` and `queueing` answer."""

from __future__ import annotations

import pandas as pd
import pytest
from dashboard.apptest import metrics, opened, texts
from dashboard.varied_store import L4, PERIOD_MS, REQUESTS
from streamlit.testing.v1 import AppTest

from tailsight_analysis import (
    NoSpansError,
    NotEnoughDataError,
    QuestionError,
    Store,
    Window,
    jitter,
    queueing,
    whole_time,
)
from tailsight_dashboard.format import count, duration, share
from tailsight_dashboard.wording_jitter import NS_PER_MS


@pytest.fixture
def everything(varied_store: Store) -> Window:
    held = whole_time(varied_store)
    assert held is not None
    return held


def _table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


def test_measures_are_those_of_jitter(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = jitter(varied_store, everything)
    assert answer.requests is not None
    rows = [answer.requests, *answer.rows]
    opened(varied_app, "jitter")
    shown = metrics(varied_app)
    assert shown["Requests"] == count(REQUESTS)
    assert shown["p99 − p50"] == duration(answer.requests.spread.above_median.value / NS_PER_MS)
    frame = _table(varied_app, "RFC 3550 (ms)")
    assert list(frame["Stage"]) == ["requests", *(row.group["stage"] or "(no stage)" for row in answer.rows)]
    assert list(frame["Hardware"])[1:] == [row.group["hardware"] for row in answer.rows]
    assert list(frame["p99−p50 (ms)"]) == [row.spread.above_median.value / NS_PER_MS for row in rows]
    assert list(frame["IQR (ms)"]) == [row.spread.middle_half.value / NS_PER_MS for row in rows]
    assert list(frame["CV"]) == [row.spread.cv.value for row in rows if row.spread.cv]
    assert list(frame["RFC 3550 (ms)"]) == [row.interarrival.mean_ns / NS_PER_MS for row in rows if row.interarrival]
    missed = [row.deadlines.rate if row.deadlines else None for row in rows]
    assert [None if pd.isna(value) else value for value in frame["Missed"]] == missed


def test_period_modes_and_deadlines_are_said(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = jitter(varied_store, everything)
    said = texts(opened(varied_app, "jitter")).replace("\\", "")
    assert f"**queue on {L4}** jitters most" in said
    assert f"Its slow ones come back **every {PERIOD_MS} ms**." in said
    several = [row for row in answer.rows if row.modes and len(row.modes.modes) > 1]
    assert {row.group["stage"] for row in several} == {"postprocess"}
    for row in several:
        assert row.modes is not None
        for mode in row.modes.modes:
            assert f"{share(mode.share)} around {duration(mode.at / NS_PER_MS)}" in said
    periodic = [row for row in (answer.requests, *answer.rows) if row and row.spike and row.group != {"stage": ""}]
    assert answer.requests is not None
    found = answer.requests.deadlines
    assert found is not None
    assert f"**{share(found.rate)}** of {count(round(found.count))} missed their deadline" in said
    # one chart of the measures, three distributions, the periods of the requests and of a stage, two queues
    staged = [row for row in periodic if row.group.get("stage", "requests")]
    assert len(varied_app.get("plotly_chart")) == 1 + 1 + len(several) + len(staged) + 2


def test_queues_are_those_of_queueing(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = queueing(varied_store, everything)
    opened(varied_app, "jitter")
    frame = _table(varied_app, "Wait (ms)")
    assert list(frame["Host"]) == [station.host for station in answer.stations]
    assert list(frame["Wait (ms)"]) == [station.wait.mean / NS_PER_MS for station in answer.stations]
    assert list(frame["Busy"]) == [station.utilisation for station in answer.stations]
    for shown, station in zip(frame["With one more (ms)"], answer.stations, strict=True):
        after = station.one_more.replayed_one_more
        assert after is not None
        # where the model does not fit, it says nothing of one more worker
        assert pd.isna(shown) if not station.reproduced else shown == after.mean / NS_PER_MS
    said = texts(varied_app).replace("\\", "")
    first = answer.stations[0]
    assert f"**ranker on {first.host}**: **{duration(first.wait.mean / NS_PER_MS)}** of waiting" in said


def test_a_deadline_is_in_the_address_and_counts(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = jitter(varied_store, everything, deadline_ms=25.0).requests
    assert answer is not None
    assert answer.deadlines is not None
    opened(varied_app, "jitter", deadline="25")
    assert metrics(varied_app)["Missed deadlines"] == share(answer.deadlines.rate)
    for wrong in ("soon", "-3", "inf", "nan"):
        varied_app.text_input(key="deadline").set_value(wrong).run()
        assert not varied_app.exception
        assert f"{wrong} is no deadline" in varied_app.warning[0].value.replace("\\", "")
        assert varied_app.query_params["deadline"] == wrong


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoSpansError("no spans of the stage queue"), "No span here is of the stage **queue**"),
        (
            NotEnoughDataError("3 items of one queue: 97 more are needed", 97),
            "3 items of one queue: 97 more are needed.",
        ),
        (QuestionError("stage=queue would leave it"), "Stage=queue would leave it."),
    ],
)
def test_without_an_answer_on_queues_the_rest_stands(
    varied_app: AppTest, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def no_answer(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr("tailsight_dashboard.source.queueing", no_answer)
    opened(varied_app, "jitter")
    assert said in texts(varied_app).replace("\\", "")
    assert metrics(varied_app)["Requests"] == count(REQUESTS)
    assert len(varied_app.get("plotly_chart")) == 6


def test_too_few_spans_say_how_many_are_missing(varied_app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_few(*_args: object, **_kwargs: object) -> None:
        raise NotEnoughDataError("3 spans are too few to vary: 17 more are needed", 17)

    monkeypatch.setattr("tailsight_dashboard.source.jitter", too_few)
    assert "17 more are needed. Take more time." in texts(opened(varied_app, "jitter"))
