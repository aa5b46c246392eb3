"""Every test begins and ends without a configured SDK, and with counters at zero."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sdk.fake_collector import FakeCollector, fake_collector

import tailsight
from tailsight import _guard, _runtime
from tailsight._recorder import current
from tailsight._stats import counters
from tailsight.testing import Capture, capture


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("TAILSIGHT_", "OTEL_")):
            monkeypatch.delenv(name)
    # What most tests are about is the same for each transport, and a thread starts faster. test_sidecar.py has the rest.
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "thread")
    monkeypatch.setenv("TAILSIGHT_DEVICE_INTERVAL_S", "0")
    monkeypatch.setenv("TAILSIGHT_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("TAILSIGHT_RUNTIME_DIR", str(tmp_path / "run"))
    counters.reset()
    _guard._logged.clear()
    yield
    tailsight.shutdown(timeout=0)
    _runtime._runtime.recorder = current.recorder = None


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture() as spans:
        yield spans


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with fake_collector() as server:
        yield server


@pytest.fixture
def no_internal_errors() -> Iterator[None]:
    yield
    assert counters.internal_errors == 0
