"""Both views over requests of which the SDK kept some, and which say when they should have started."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from random import Random

import pandas as pd
import pytest
from dashboard.apptest import metrics, opened, texts
from dashboard.conftest import fresh_app
from dashboard.sample_store import PATIENCE_S, RunningCollector, running_collector
from streamlit.testing.v1 import AppTest
from testkit.otlp import request, span, span_id, trace_id
from testkit.processes import eventually

from tailsight_analysis import Breakdown, Tail, breakdown, connect, tail, whole_time
from tailsight_dashboard.format import count, duration

KEPT = 330
MS = 1_000_000


def send_sampled(otlp_url: str) -> None:
    """300 requests that stand for 20 each, 30 slow ones, a late start each, and one that says nonsense."""
    random, begin_ns = Random(3), time.time_ns() - 400 * 10**9
    spans = []
    for number in range(1, KEPT + 1):
        slow = number % 11 == 0
        start_ns, queue_ns = begin_ns + number * 10**9, round((80 if slow else 2) * random.uniform(1, 1.5) * MS)
        said = {"tailsight.sampling.reason": "slow"} if slow else {
            "tailsight.sampling.reason": "rate", "tailsight.sampling.weight": 20.0,
        }  # fmt: skip
        said["tailsight.intended_start_unix_nano"] = "soon" if number == 11 else start_ns - random.randrange(40) * MS
        inside = {"trace_id": trace_id(number), "parent_span_id": span_id(number)}
        stages = (("queue", 0, queue_ns), ("compute", queue_ns, 6 * MS))
        spans += [
            span(**inside, name=name, start_time_unix_nano=start_ns + at, end_time_unix_nano=start_ns + at + length,
                 attributes={"tailsight.stage": name})
            for name, at, length in stages
        ]  # fmt: skip
        spans.append(
            span(trace_id=trace_id(number), span_id=span_id(number), start_time_unix_nano=start_ns,
                 end_time_unix_nano=start_ns + queue_ns + 6 * MS + MS // 2, attributes=said)
        )  # fmt: skip
    body = request(spans, {"service.name": "ranker"}).SerializeToString()
    headers = {"Content-Type": "application/x-protobuf"}
    asked = urllib.request.Request(f"{otlp_url}/v1/traces", data=body, headers=headers, method="POST")
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("sampled") / "data") as collector:
        send_sampled(collector.otlp_url)
        with connect(collector.store) as store:
            eventually(lambda: whole_time(store) is not None, "spans are loaded")
        yield collector


@pytest.fixture
def app(sampled: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(sampled.store, monkeypatch)


@pytest.fixture
def answers(sampled: RunningCollector) -> Iterator[tuple[Breakdown, Tail]]:
    with connect(sampled.store) as store:
        held = whole_time(store)
        assert held is not None
        yield breakdown(store, held), tail(store, held)


def test_stages_shows_estimates_and_from_how_many_they_come(app: AppTest, answers: tuple[Breakdown, Tail]) -> None:
    answer, _ = answers
    assert answer.requests is not None
    shown = metrics(opened(app))
    assert (answer.requests.count, answer.requests.stored) == (6_030, KEPT)
    assert (shown["Requests"], shown["p99"]) == (count(6_030), duration(answer.requests.p99_ms))
    assert "Estimates: 330 requests that were kept stand for 6,030." in texts(app)
    assert "p99.9 is a rough figure" in texts(app)
    frame = next(each.value for each in app.dataframe if "Spans" in each.value.columns)
    assert list(frame["Spans"]) == [row.count for row in answer.rows]
    assert list(frame["Stored"]) == [KEPT] * 3


def test_stages_shows_response_time_beside_service_time(app: AppTest, answers: tuple[Breakdown, Tail]) -> None:
    times = answers[0].response
    assert times is not None
    assert times.response is not None
    assert times.service is not None
    frame: pd.DataFrame = opened(app).dataframe[0].value
    assert list(frame["Time"]) == ["Response", "Service"]
    assert list(frame["p99 (ms)"]) == [times.response.p99_ms, times.service.p99_ms]
    assert times.response.p50_ms > times.service.p50_ms + 10
    assert f"p99 is **{duration(times.response.p99_ms)}**" in texts(app)
    assert "Left out: 1 request whose intended start" in texts(app)


def test_tail_says_that_its_counts_are_estimates(app: AppTest, answers: tuple[Breakdown, Tail]) -> None:
    _, answer = answers
    assert answer.stored is not None
    shown = metrics(opened(app, "tail"))
    assert shown["Tail requests"] == count(answer.tail_requests)
    assert shown["Typical requests"] == count(answer.typical_requests)
    assert f"{answer.stored.typical} typical ones, of 330 that were kept" in texts(app)
