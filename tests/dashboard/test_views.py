"""Both views, run by Streamlit's AppTest against a real collector: what they show is what analysis answers."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest
from dashboard.apptest import metrics, opened, texts
from dashboard.sample_store import REQUESTS
from streamlit.testing.v1 import AppTest

from tailsight_analysis import Filters, Store, Window, breakdown, tail, whole_time
from tailsight_dashboard.format import count, duration, share


def test_stages_shows_the_requests_summary(app: AppTest, store: Store, everything: Window) -> None:
    requests = breakdown(store, everything).requests
    assert requests is not None
    assert requests.count == REQUESTS
    assert metrics(opened(app)) == {
        "Requests": count(requests.count),
        "p50": duration(requests.p50_ms),
        "p99": duration(requests.p99_ms),
        "p99.9": duration(requests.p999_ms),
        "Jitter": duration(requests.jitter_ms),
        "Errors": share(requests.error_rate),
    }


@pytest.mark.parametrize("by", ["stage", "hardware", "host"])
def test_stages_table_has_the_values_of_breakdown(app: AppTest, store: Store, everything: Window, by: str) -> None:
    answer = breakdown(store, everything, by=(by,))
    frame: pd.DataFrame = opened(app, by=by).dataframe[0].value
    assert list(frame[by.capitalize()]) == [row.group[by] or f"(no {by})" for row in answer.rows]
    assert list(frame["p99 (ms)"]) == [row.p99_ms for row in answer.rows]
    assert list(frame["Critical path"]) == [row.path_share for row in answer.rows]
    assert list(frame["Spans"]) == [row.count for row in answer.rows]


def test_stages_draws_three_charts(app: AppTest) -> None:
    assert len(opened(app).get("plotly_chart")) == 3


def test_live_and_refresh_keep_the_view(app: AppTest) -> None:
    before = metrics(opened(app, service="search"))
    app.toggle(key="live").set_value(True).run()
    next(button for button in app.button if button.label == "Refresh").click().run()
    assert not app.exception
    assert metrics(app) == before
    assert "As of" in texts(app)


def test_filters_limit_what_is_shown(app: AppTest, store: Store, everything: Window) -> None:
    requests = breakdown(store, everything, Filters(service=("ranker",))).requests
    assert requests is not None
    shown = metrics(opened(app, service="ranker"))
    assert (shown["Requests"], shown["p99"]) == (count(requests.count), duration(requests.p99_ms))


@pytest.mark.parametrize("quantile", [0.9, 0.99])
def test_tail_says_what_tail_answers(app: AppTest, store: Store, everything: Window, quantile: float) -> None:
    answer = tail(store, everything, quantile=quantile)
    name = f"p{quantile * 100:g}"
    opened(app, "tail", quantile=name)
    assert answer.stages[0].stage == "queue"
    headline = next(element.value for element in app.markdown if element.value.startswith("## "))
    assert headline == (
        f"## {name} is **{duration(answer.threshold_ms)}**; **{share(answer.stages[0].excess_share)}** of the extra "
        f"{duration(answer.total.excess_ms)} is **queue**."
    )
    excess: pd.DataFrame = app.dataframe[0].value
    shown = dict(zip(excess["Stage"], excess["Excess (ms)"], strict=True))
    assert shown.pop("Sum") == answer.total.excess_ms
    assert shown.pop("unaccounted") == answer.unaccounted.excess_ms
    assert shown == {stage.stage: stage.excess_ms for stage in answer.stages}


def test_tail_lists_over_represented_attributes(app: AppTest, store: Store, everything: Window) -> None:
    answer = tail(store, everything)
    frame: pd.DataFrame = opened(app, "tail").dataframe[1].value
    assert list(frame["Value"]) == [pair.value for pair in answer.attributes]
    assert list(frame["p-value"]) == [pair.p_value for pair in answer.attributes]
    assert ("tailsight.batch.size", "32") in zip(frame["Attribute"], frame["Value"], strict=True)


def test_tail_asks_for_more_requests_than_a_quantile_has(app: AppTest) -> None:
    opened(app, "tail", quantile="p99.9", service="ranker")
    assert "Not enough requests to decide" in texts(app)
    assert "400 more are needed" in texts(app)
    assert not app.metric


def test_nothing_in_the_window_says_what_the_store_holds(app: AppTest, store: Store) -> None:
    opened(app, time="custom", **{"from": "2020-01-01T00:00Z", "to": "2020-01-02T00:00Z"})
    held = whole_time(store)
    assert held is not None
    assert "No requests here" in texts(app)
    assert held.label.split(" UTC")[0].split()[-1].replace(":", "\\:") in texts(app)
    next(button for button in app.button if button.label == "Show all time").click().run()
    assert metrics(app)["Requests"] == count(REQUESTS)
    assert app.query_params["time"] == "all"


def test_empty_store_says_how_to_send_data(app_on_empty: AppTest) -> None:
    app_on_empty.run()
    assert not app_on_empty.exception
    assert "No spans yet" in texts(app_on_empty)
    code = "\n".join(block.value for block in app_on_empty.code)
    assert "tailsight.configure(" in code
    assert "make demo" in code
    assert "http://127.0.0.1:4318" in code


def test_sdk_example_of_the_empty_state_runs(app_on_empty: AppTest) -> None:
    app_on_empty.run()
    example = app_on_empty.code[0].value
    assert example.strip().count("\n") <= 14
    program = f"tokenize, model = str.split, len\n{example}\nprint(handle('two words'))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "TAILSIGHT_ENABLED": "false"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_store_away_names_the_store_without_its_password(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILSIGHT_STORE", "clickhouse://bob:s3cret@127.0.0.1:9/tailsight")
    app.query_params.update({"time": "6h", "service": "ranker"})
    app.run()
    assert not app.exception
    said = "\n".join([app.error[0].value, texts(app), *(element.value for element in app.text)])
    assert "clickhouse://bob@127.0.0.1:9/tailsight" in app.error[0].value
    assert "s3cret" not in said
    assert "tailsight up" in said


def test_choices_survive_an_outage(app: AppTest, filled: object, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(app, service="ranker")
    before = metrics(app)
    address = {"time": app.query_params["time"], "service": app.query_params["service"]}
    with monkeypatch.context() as away:
        away.setenv("TAILSIGHT_STORE", "clickhouse://127.0.0.1:9/tailsight")
        app.run()
        app.run()
        assert app.error
    app.run()
    assert not app.error
    assert metrics(app) == before
    assert {name: app.query_params[name] for name in address} == address
