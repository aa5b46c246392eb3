"""Gate reports in Chromium: figures on the screen are those of the report, nothing is cut off, a link opens another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dashboard.browsing import assert_well, charts_drawn, cut_off, drawn
from dashboard.chromium import Page
from dashboard.sample_store import RunningCollector, running_dashboard
from testkit.gate_reports import REGRESSION, TITLE, UNLIKE

from tailsight_analysis import Store
from tailsight_analysis.gate_reports import gate_reports
from tailsight_dashboard.wording_regressions import moved

pytestmark = pytest.mark.browser

NARROW = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def address(gated: RunningCollector) -> Iterator[str]:
    with running_dashboard(gated.store) as url:
        yield url


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (420, True)], ids=["wide, light", "narrow, dark"])
def test_the_latest_report_is_on_the_screen(new_page: Callable[[], Page], address: str, width: int, dark: bool) -> None:
    page = new_page()
    page.open(f"{address}/regressions", dark=dark, width=width)
    charts_drawn(page, 1)
    page.wait_for_text("3 reports: 1 regression, 1 inconclusive, 1 pass.")
    assert f"Regression · {TITLE}" in page.text()
    assert f"Unlike: {UNLIKE}" in page.text()
    assert "p99 of compute on NVIDIA L4 went from 10.2 ms to 11.5 ms, +13 % [+8.1 % to +16 %]" in page.text()
    texts = drawn(page)
    for row in REGRESSION:
        assert moved(row.ratio) in texts
        assert row.metric in texts
    assert cut_off(page) == []
    assert page.value(NARROW), "the page scrolls sideways"
    assert_well(page, address)


def test_another_report_is_chosen_by_keyboard_and_stands_in_the_address(
    new_page: Callable[[], Page], address: str, gated_store: Store
) -> None:
    page = new_page()
    page.open(f"{address}/regressions")
    charts_drawn(page, 1)
    page.value("document.querySelector('.st-key-report input').focus()")
    for key, code in (("ArrowDown", 40), ("ArrowDown", 40), ("Enter", 13)):
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
    second = gate_reports(gated_store)[1]
    page.wait_for_text("1 of 2 metrics that must pass are not decided.")
    page.wait_for(f"new URLSearchParams(location.search).get('report') === '{second.id}'")
    assert_well(page, address)


def test_a_link_opens_the_report_that_it_names(new_page: Callable[[], Page], address: str, gated_store: Store) -> None:
    page = new_page()
    page.open(f"{address}/regressions?report={gate_reports(gated_store)[2].id[:8]}")
    charts_drawn(page, 1)
    page.wait_for_text("All 4 metrics that must pass are shown to be within what is allowed.")
    assert cut_off(page) == []
