"""One collector with spans and one without, for all of the dashboard's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from dashboard.sample_store import (
    PATIENCE_S,
    REQUESTS,
    SPANS_A_REQUEST,
    RunningCollector,
    running_collector,
    send_sample,
)
from streamlit.testing.v1 import AppTest

from tailsight_analysis import Breakdown, NoSpansError, Store, Window, breakdown, connect, whole_time
from tailsight_dashboard.launch import APP_PATH


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("filled") / "data") as collector:
        send_sample(collector.otlp_url)
        with connect(collector.store) as store:
            until = time.monotonic() + PATIENCE_S
            while _spans(store) < REQUESTS * SPANS_A_REQUEST:
                assert time.monotonic() < until, "the spans did not arrive in the store"
                time.sleep(0.05)
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
def app_on_empty(empty: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    yield from fresh_app(empty.store, monkeypatch)


def fresh_app(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("TAILSIGHT_STORE", dsn)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(Path(APP_PATH), default_timeout=30)
    st.cache_data.clear()
    st.cache_resource.clear()


def _spans(store: Store) -> int:
    held = whole_time(store)
    if held is None:
        return 0
    try:
        answer: Breakdown = breakdown(store, held)
    except NoSpansError:
        return 0
    return sum(row.count for row in answer.rows)
