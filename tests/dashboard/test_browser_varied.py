"""The Jitter and the Hardware view in Chromium: figures of the answers on the screen, and nothing cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dashboard.browsing import assert_well, charts_drawn, cut_off, drawn, metric
from dashboard.chromium import Page
from dashboard.sample_store import RunningCollector, running_dashboard
from dashboard.varied_store import PERIOD_MS

from tailsight_analysis import Store, Window, hardware, jitter, pareto, queueing, variance, whole_time
from tailsight_dashboard.format import duration, share
from tailsight_dashboard.wording_hardware import times
from tailsight_dashboard.wording_jitter import NS_PER_MS, stages_of

pytestmark = pytest.mark.browser

JITTER_CHARTS, HARDWARE_CHARTS = 8, 4
NARROW = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def address(varied: RunningCollector) -> Iterator[str]:
    with running_dashboard(varied.store) as url:
        yield url


@pytest.fixture
def everything(varied_store: Store) -> Window:
    held = whole_time(varied_store)
    assert held is not None
    return held


def test_jitter_shows_what_jitter_and_queueing_answer(
    new_page: Callable[[], Page], address: str, varied_store: Store, everything: Window
) -> None:
    page = new_page()
    page.open(f"{address}/jitter?time=all")
    charts_drawn(page, JITTER_CHARTS)
    answer, queues = jitter(varied_store, everything), queueing(varied_store, everything)
    assert answer.requests is not None
    assert metric(page, "p99 − p50") == duration(answer.requests.spread.above_median.value / NS_PER_MS)
    assert f"come back every {PERIOD_MS} ms" in page.text()
    texts = drawn(page)
    for row in stages_of(answer):
        assert duration(row.spread.above_median.value / NS_PER_MS) in texts
        for gap in row.modes.gaps if row.modes else ():
            assert f"gap {duration(gap / NS_PER_MS)}" in texts
    for station in queues.stations[:2]:
        assert duration(station.wait.mean / NS_PER_MS) in texts
    assert cut_off(page) == []
    assert_well(page, address)
    page.open(f"{address}/jitter?time=all&deadline=25", dark=True, width=420)
    charts_drawn(page, JITTER_CHARTS)
    missed = jitter(varied_store, everything, deadline_ms=25).requests
    assert missed is not None
    assert missed.deadlines is not None
    assert metric(page, "Missed deadlines") == share(missed.deadlines.rate)
    assert page.value(NARROW), "the page scrolls sideways"
    assert cut_off(page) == []
    assert_well(page, address)


def test_hardware_shows_what_its_four_questions_answer(
    new_page: Callable[[], Page], address: str, varied_store: Store, everything: Window
) -> None:
    page = new_page()
    page.open(f"{address}/hardware?time=all")
    charts_drawn(page, HARDWARE_CHARTS)
    texts = drawn(page)
    for comparison in hardware(varied_store, everything).comparisons:
        ours = comparison.types[1].standardised
        assert ours is not None
        assert times(ours.mean_ratio.value) in texts
        assert f"{comparison.stage or 'whole requests'}: {comparison.types[1].hardware}" in texts
    ledger = variance(varied_store, everything).total
    assert share(ledger.stages[0].share) in texts
    assert f"{share(ledger.stages[0].share)} of the requests' variance is {ledger.stages[0].stage}" in page.text()
    for variant in pareto(varied_store, everything).variants:
        assert variant.group["model"] in texts
    assert cut_off(page) == []
    assert_well(page, address)
    page.open(f"{address}/hardware?time=all", dark=True, width=420)
    charts_drawn(page, HARDWARE_CHARTS)
    assert page.value(NARROW), "the page scrolls sideways"
    assert cut_off(page) == []
    assert_well(page, address)
