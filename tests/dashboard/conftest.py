"""One collector with spans and one without, for all of the dashboard's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from dashboard import chromium
from dashboard.chromium import Page
from dashboard.history_store import HISTORY_SPANS, send_history
from dashboard.profiled_store import PROFILED_SPANS, send_profiles
from dashboard.sample_store import (
    PATIENCE_S,
    REQUESTS,
    SPANS_A_REQUEST,
    RunningCollector,
    running_collector,
    send_sample,
)
from dashboard.varied_store import VARIED_SPANS, send_varied
from streamlit.testing.v1 import AppTest
from testkit.gate_reports import send_reports

from tailsight_analysis import Breakdown, NoSpansError, Store, Window, breakdown, connect, whole_time
from tailsight_dashboard.launch import APP_PATH

REQUIRE_ENV = "TAILSIGHT_TEST_REQUIRE_BROWSER"


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("filled") / "data") as collector:
        send_sample(collector.otlp_url)
        _await_spans(collector, REQUESTS * SPANS_A_REQUEST)
        yield collector


@pytest.fixture(scope="session")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    """Requests that differ in known ways: see varied_store.py."""
    with running_collector(tmp_path_factory.mktemp("varied") / "data") as collector:
        send_varied(collector.otlp_url, time.time_ns() - 60 * 10**9)
        _await_spans(collector, VARIED_SPANS)
        yield collector


@pytest.fixture(scope="session")
def historic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    """Versions, of which one made something slower, and an open alert: see history_store.py and alert_store.py."""
    data = tmp_path_factory.mktemp("historic") / "data"
    write = [sys.executable, "-m", "dashboard.alert_store", f"chdb://{data}"]
    subprocess.run(write, cwd=Path(__file__).parent.parent, check=True, timeout=60)
    with running_collector(data) as collector:
        send_history(collector.otlp_url, time.time_ns())
        _await_spans(collector, HISTORY_SPANS)
        yield collector


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    """Gate reports and not one span: see testkit/gate_reports.py."""
    with running_collector(tmp_path_factory.mktemp("gated") / "data") as collector:
        send_reports(collector.otlp_url)
        yield collector


@pytest.fixture(scope="session")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    """Profiles whose content is known, and their spans: see profiled_store.py."""
    with running_collector(tmp_path_factory.mktemp("profiled") / "data") as collector:
        send_profiles(collector.otlp_url, time.time_ns() - 60 * 10**9)
        _await_spans(collector, PROFILED_SPANS)
        yield collector


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("empty") / "data") as collector:
        yield collector


@pytest.fixture
def store(filled: RunningCollector) -> Iterator[Store]:
    with connect(filled.store) as opened:
        yield opened


@pytest.fixture
def everything(store: Store) -> Window:
    """The window that "all time" stands for."""
    held = whole_time(store)
    assert held is not None
    return held


@pytest.fixture
def app(filled: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """The dashboard on the filled store, not yet run."""
    yield from fresh_app(filled.store, monkeypatch)


@pytest.fixture
def varied_app(varied: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(varied.store, monkeypatch)


@pytest.fixture
def varied_store(varied: RunningCollector) -> Iterator[Store]:
    with connect(varied.store) as opened:
        yield opened


@pytest.fixture
def historic_app(historic: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(historic.store, monkeypatch)


@pytest.fixture
def historic_store(historic: RunningCollector) -> Iterator[Store]:
    with connect(historic.store) as opened:
        yield opened


@pytest.fixture
def gated_app(gated: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(gated.store, monkeypatch)


@pytest.fixture
def gated_store(gated: RunningCollector) -> Iterator[Store]:
    with connect(gated.store) as opened:
        yield opened


@pytest.fixture
def profiled_app(profiled: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(profiled.store, monkeypatch)


@pytest.fixture
def profiled_store(profiled: RunningCollector) -> Iterator[Store]:
    with connect(profiled.store) as opened:
        yield opened


@pytest.fixture
def app_on_empty(empty: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(empty.store, monkeypatch)


@pytest.fixture(scope="session")
def new_page() -> Iterator[Callable[[], Page]]:
    path = chromium.find()
    if path is None:
        if os.environ.get(REQUIRE_ENV) == "1":
            pytest.fail(f"no Chromium on this machine, and {REQUIRE_ENV}=1: apt-get install chromium")
        pytest.skip(f"no Chromium on this machine; {REQUIRE_ENV}=1 makes this a failure")
    with chromium.chromium(path) as opener:
        yield opener


def fresh_app(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("TAILSIGHT_STORE", dsn)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(Path(APP_PATH), default_timeout=30)
    st.cache_data.clear()
    st.cache_resource.clear()


def _await_spans(collector: RunningCollector, number: int) -> None:
    with connect(collector.store) as store:
        until = time.monotonic() + PATIENCE_S
        while _spans(store) < number:
            assert time.monotonic() < until, "the spans did not arrive in the store"
            time.sleep(0.05)


def _spans(store: Store) -> int:
    held = whole_time(store)
    if held is None:
        return 0
    try:
        answer: Breakdown = breakdown(store, held)
    except NoSpansError:
        return 0
    return sum(row.count for row in answer.rows)
