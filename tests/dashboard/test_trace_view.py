"""The Trace view, by AppTest against a real collector: what it shows is what `trace` answers, however messy."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs

import pandas as pd
import pytest
from dashboard.apptest import metrics, opened, texts
from dashboard.conftest import fresh_app
from dashboard.sample_store import RunningCollector, running_collector
from dashboard.trace_samples import LARGE, LARGE_SPANS, MESSY, send_traces
from streamlit.testing.v1 import AppTest
from testkit.processes import eventually

from tailsight_analysis import NoSpansError, Store, Trace, Window, connect, tail, trace
from tailsight_dashboard.format import count, duration
from tailsight_dashboard.links import shown as shown_id
from tailsight_dashboard.tables_trace import SPAN_TIMES

MESSY_ID, LARGE_ID = f"{MESSY:032x}", f"{LARGE:032x}"


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("traces") / "data") as collector:
        send_traces(collector.otlp_url, time.time_ns() - 5 * 10**9)
        with connect(collector.store) as store:
            eventually(lambda: _spans_of(store, LARGE_ID) == LARGE_SPANS, "the large trace is loaded")
            eventually(lambda: _spans_of(store, MESSY_ID) == 7, "the messy trace is loaded")
        yield collector


@pytest.fixture
def messy(traces: RunningCollector) -> Trace:
    with connect(traces.store) as store:
        return trace(store, MESSY_ID)


@pytest.fixture
def trace_app(traces: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(traces.store, monkeypatch)


def _spans_of(store: Store, trace_id: str) -> int:
    try:
        return trace(store, trace_id, 1).span_count
    except NoSpansError:
        return 0


def _table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


@pytest.mark.parametrize("text", ["abcd0001", "ABCD0001", f" {MESSY_ID.upper()} ", "abcd0001-0000-0000-0000-0000"])
def test_a_trace_is_shown_by_its_id_or_the_first_digits(trace_app: AppTest, messy: Trace, text: str) -> None:
    opened(trace_app, "trace", id=text)
    assert metrics(trace_app) == {"Duration": "100 ms", "Unaccounted": "20.0 ms", "Spans": "7"}
    assert MESSY_ID in texts(trace_app)
    frame = _table(trace_app, "Span")
    for title, field in SPAN_TIMES.items():
        assert list(frame[title]) == [getattr(span, field) for span in messy.spans]
    assert list(frame["Status"]) == ["ERROR" if span.status == "ERROR" else "" for span in messy.spans]
    assert len(trace_app.get("plotly_chart")) == 1


def test_stages_and_unaccounted_time_add_up_to_the_request(trace_app: AppTest, messy: Trace) -> None:
    frame = _table(opened(trace_app, "trace", id=MESSY_ID), "Path (ms)")
    shown = dict(zip(frame["Stage"], frame["Path (ms)"], strict=True))
    assert shown.pop("Sum") == messy.requests[0].duration_ms == pytest.approx(sum(shown.values()))
    assert shown.pop("unaccounted") == messy.requests[0].unaccounted_ms
    assert shown == {stage.stage: stage.contribution_ms for stage in messy.requests[0].stages}


def test_what_is_odd_is_said(trace_app: AppTest, messy: Trace) -> None:
    said = texts(opened(trace_app, "trace", id=MESSY_ID))
    assert "1 span (marked ✕) failed." in said
    assert "1 span (marked ?) names a parent that is not in the trace." in said
    assert "1 span belongs to no request." in said
    assert "3 spans of gpu\\-1 by −" in said
    assert duration(abs(messy.moved[0].most_ms)) in said


def test_a_long_trace_is_folded_and_can_be_unfolded(trace_app: AppTest) -> None:
    opened(trace_app, "trace", id="abcd0002")
    assert metrics(trace_app)["Spans"] == count(LARGE_SPANS)
    assert len(_table(trace_app, "Span")) == 60
    assert f"{LARGE_SPANS - 60} of {LARGE_SPANS} spans are folded" in texts(trace_app)
    trace_app.segmented_control(key="spans").set_value("300").run()
    assert not trace_app.exception
    assert len(_table(trace_app, "Span")) == 300
    assert trace_app.query_params["spans"] == "300"
    assert trace_app.query_params["id"] == "abcd0002"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12345678", f"No trace id begins with 12345678 in .* the latest there are .*{MESSY_ID}"),
        ("f" * 32, "No trace f{32} in "),
        ("abc", "has 3 digits: give all 32, or at least the first 4"),
        ("[a](http://such.example)", "is no trace id: use its 32 hexadecimal digits"),
    ],
)
def test_what_is_no_trace_is_said_and_can_be_corrected(trace_app: AppTest, text: str, said: str) -> None:
    opened(trace_app, "trace", id=text)
    body = texts(trace_app).replace("\\", "")
    assert re.search(said, body), body
    assert "](http" not in texts(trace_app)
    trace_app.text_input(key="id").set_value(MESSY_ID).run()
    assert metrics(trace_app)["Duration"] == "100 ms"
    assert trace_app.query_params["id"] == MESSY_ID


def test_several_traces_with_the_same_beginning_are_named(trace_app: AppTest) -> None:
    said = texts(opened(trace_app, "trace", id="0xABCD")).replace("\\", "")
    assert "This question has no answer" in said
    assert f"could be any of 2: {MESSY_ID}, {LARGE_ID}" in said


def test_without_an_id_traces_of_the_tail_are_offered(app: AppTest, store: Store, everything: Window) -> None:
    answer = tail(store, everything, quantile=0.95)
    opened(app, "trace", quantile="p95", service="ranker")
    app.multiselect(key="service").set_value([]).run()
    links = {link.proto.label.strip("`"): parse_qs(link.proto.query_string) for link in app.get("page_link")}
    assert list(links) == [shown_id(trace_id) for trace_id in (*answer.examples.tail, *answer.examples.typical)]
    assert [link["id"] for link in links.values()] == [
        [trace_id] for trace_id in (*answer.examples.tail, *answer.examples.typical)
    ]
    assert all(link["time"] == ["all"] and link["quantile"] == ["p95"] for link in links.values())
    app.text_input(key="id").set_value(answer.examples.tail[0]).run()
    shown = trace(store, answer.examples.tail[0])
    assert metrics(app)["Duration"] == duration(shown.requests[0].duration_ms)
    assert shown.trace_id in texts(app)


def test_an_example_needs_enough_requests(app: AppTest) -> None:
    opened(app, "trace", quantile="p99.9", service="ranker")
    assert "400 more are needed" in texts(app)
    assert app.text_input(key="id").value == ""


def test_an_empty_store_says_how_to_send_data(app_on_empty: AppTest) -> None:
    app_on_empty.query_params.update({"time": "1h"})
    app_on_empty.run()
    app_on_empty.switch_page("views/trace.py")
    app_on_empty.query_params.update({"time": "1h", "id": MESSY_ID})
    app_on_empty.run()
    assert not app_on_empty.exception
    assert "No spans yet" in texts(app_on_empty)
