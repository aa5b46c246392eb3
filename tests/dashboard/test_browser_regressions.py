"""The Regressions view in Chromium: figures of the answers on the screen, nothing cut off, and the keyboard works."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dashboard.browsing import assert_well, charts_drawn, cut_off, drawn
from dashboard.chromium import Page
from dashboard.history_store import L4, SLOWER_FROM, version
from dashboard.sample_store import RunningCollector, running_dashboard

from tailsight_analysis import Filters, Side, Store, compare, regressions, whole_time
from tailsight_dashboard import charts_regressions
from tailsight_dashboard.format import duration, share, signed_duration
from tailsight_dashboard.wording_regressions import moved, series

pytestmark = pytest.mark.browser

NARROW = "document.documentElement.scrollWidth <= innerWidth"
SERIES = 7  # the requests, and three stages on two types


@pytest.fixture(scope="module")
def address(historic: RunningCollector) -> Iterator[str]:
    with running_dashboard(historic.store) as url:
        yield url


def test_the_screen_shows_what_regressions_and_compare_answer(
    new_page: Callable[[], Page], address: str, historic_store: Store
) -> None:
    everything = whole_time(historic_store)
    assert everything is not None
    answer = regressions(historic_store, everything)
    page = new_page()
    page.open(f"{address}/regressions?time=all")
    charts_drawn(page, SERIES)
    first = answer.slower[0]
    said = f"{first.metric} of compute on {L4} rose by {share(first.ratio - 1)}"
    page.wait_for_text(said)
    marks = drawn(page)
    for line in charts_regressions.shown(answer, "auto"):
        assert f"{series(line.stage, line.hardware)} {line.metric} {duration(line.points[-1].value_ms)}" in page.text()
        for change in answer.changes_of(line):
            assert f"{moved(change.ratio)} {answer.units[change.first_after].name}" in marks
    assert cut_off(page) == []
    page.click("document.querySelector('.st-key-compare button')")
    charts_drawn(page, SERIES + 2)
    around = (Filters(version=(version(number),)) for number in (SLOWER_FROM - 1, SLOWER_FROM))
    found = compare(historic_store, *(Side(everything, filters) for filters in around)).findings
    page.wait_for_text(f"{signed_duration(found.causes[0].delta.ms)} a request")
    texts_of_charts = drawn(page)
    for name in ("p50", "p99"):
        each = found.differences[name]
        assert f"{duration(each.baseline_ms)} → {duration(each.candidate_ms)}" in page.text()
        for part in (each.delta, each.workload, each.hardware, each.slowdown):
            assert signed_duration(part.ms) in texts_of_charts
    assert cut_off(page) == []
    assert_well(page, address)


def test_it_fits_a_narrow_dark_screen_and_can_be_used_by_keyboard(new_page: Callable[[], Page], address: str) -> None:
    page = new_page()
    page.open(f"{address}/regressions?time=all&over=time&scale=linear", dark=True, width=420)
    charts_drawn(page, SERIES)
    assert page.value(NARROW), "the page scrolls sideways"
    assert cut_off(page) == []
    page.value("document.querySelector('.st-key-compare button').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    charts_drawn(page, SERIES + 2)
    assert page.value(NARROW), "the page scrolls sideways"
    assert cut_off(page) == []
    assert_well(page, address)
