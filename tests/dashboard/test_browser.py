"""The dashboard as people have it: a Streamlit server, a collector, and Chromium without a screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dashboard.browsing import QUIET, assert_well, charts_drawn, choose, drawn, metric
from dashboard.chromium import Page
from dashboard.sample_store import REQUESTS, RunningCollector, running_collector, running_dashboard, send_sample

from tailsight_analysis import Filters, Store, Window, breakdown, tail, trace, whatif
from tailsight_dashboard.format import count, duration, share, signed_duration

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(filled: RunningCollector) -> Iterator[str]:
    with running_dashboard(filled.store) as url:
        yield url


@pytest.fixture
def page(new_page: Callable[[], Page], address: str) -> Page:
    return new_page()


def test_stages_shows_numbers_and_charts(page: Page, address: str, store: Store, everything: Window) -> None:
    page.open(f"{address}/?time=all")
    charts_drawn(page, 3)
    answer = breakdown(store, everything)
    assert answer.requests is not None
    assert metric(page, "Requests") == count(REQUESTS)
    assert metric(page, "p99") == duration(answer.requests.p99_ms)
    assert metric(page, "p99.9") == duration(answer.requests.p999_ms)
    texts = drawn(page)
    for row in answer.rows:
        assert (row.group["stage"] or "(no stage)") in texts
        assert share(row.path_share) in texts
    assert_well(page, address)


def test_a_filter_changes_the_address_and_holds_on_both_views(
    page: Page, address: str, store: Store, everything: Window
) -> None:
    page.open(f"{address}/?time=all")
    charts_drawn(page, 3)
    choose(page, "service", "ranker")
    page.wait_for(
        f"{QUIET} && [...document.querySelectorAll('[data-testid=stMetricValue]')][0].innerText.trim() === '600'"
    )
    page.click("[...document.querySelectorAll('a')].find(it => it.innerText.includes('Tail'))")
    page.wait_for("location.pathname === '/tail' && location.search === '?time=all&service=ranker'")
    charts_drawn(page, 1)
    answer = tail(store, everything, Filters(service=("ranker",)))
    assert f"is {duration(answer.threshold_ms)}" in page.text()
    assert f"{share(answer.stages[0].excess_share)} of the extra" in page.text()
    texts = drawn(page)
    for stage in answer.stages:
        assert f"{signed_duration(stage.excess_ms)} · {share(stage.excess_share)}" in texts
    assert duration(answer.total.tail_ms) in texts
    assert_well(page, address)


def test_a_copied_address_opens_the_same_view(page: Page, address: str, store: Store, everything: Window) -> None:
    page.open(f"{address}/tail?time=all&hardware=NVIDIA+L4&quantile=p90", dark=True, width=480)
    charts_drawn(page, 1)
    answer = tail(store, everything, Filters(hardware=("NVIDIA L4",)), quantile=0.9)
    assert metric(page, "p90 of the requests") == duration(answer.threshold_ms)
    assert metric(page, "Tail requests") == count(answer.tail_requests)
    assert page.value("location.search") == "?time=all&hardware=NVIDIA+L4&quantile=p90"
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert_well(page, address)


def test_an_example_of_the_tail_opens_as_a_trace_and_back(
    page: Page, address: str, store: Store, everything: Window
) -> None:
    page.open(f"{address}/tail?time=all&service=ranker")
    charts_drawn(page, 1)
    cause = tail(store, everything, Filters(service=("ranker",))).causes[0]
    assert f"{share(cause.excess_share)} of the extra time" in page.text()
    assert f"where {cause.conditions[0].text}" in page.text()
    page.click("document.querySelector('[data-testid=stPageLink] a')")
    found = trace(store, cause.examples[0])
    page.wait_for(
        "location.pathname === '/trace' && new URLSearchParams(location.search).get('service') === 'ranker'"
        f" && new URLSearchParams(location.search).get('id') === '{found.trace_id}'"
    )
    charts_drawn(page, 1)
    assert metric(page, "Duration") == duration(found.requests[0].duration_ms)
    assert metric(page, "Spans") == count(len(found.spans))
    texts = drawn(page)
    for span in found.spans:
        assert span.name in texts
        assert duration(span.duration_ms) in texts
    assert duration(found.requests[0].unaccounted_ms) in texts
    page.value("history.back()")
    page.wait_for("location.pathname === '/tail' && location.search === '?time=all&service=ranker'")
    charts_drawn(page, 1)
    assert_well(page, address)


def test_a_trace_fits_a_narrow_dark_page(page: Page, address: str, store: Store, everything: Window) -> None:
    trace_id = tail(store, everything).examples.tail[0]
    page.open(f"{address}/trace?time=all&id={trace_id}", dark=True, width=420)
    charts_drawn(page, 1)
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    labels = "document.querySelectorAll('.js-plotly-plot .annotation-text')"
    assert page.value(f"{labels}.length") > 10
    cut = page.value(
        "(() => { const frame = document.querySelector('.js-plotly-plot').getBoundingClientRect();"
        f" return [...{labels}].filter(it => {{"
        " const box = it.getBoundingClientRect(); return box.left < frame.left || box.right > frame.right; })"
        ".map(it => it.textContent); })()"
    )
    assert cut == [], "labels are cut off"
    assert_well(page, address)


def test_replaying_shows_what_whatif_answers(page: Page, address: str, store: Store, everything: Window) -> None:
    page.open(f"{address}/tail?time=all")
    charts_drawn(page, 1)
    page.click("document.querySelector('.st-key-replay button')")
    charts_drawn(page, 2)
    answer = whatif(store, everything)
    texts = drawn(page)
    for outcome in answer.outcomes:
        assert outcome.scenario.label in texts
        assert duration(outcome.tail.replayed_ms) in texts
    assert_well(page, address)


def test_back_returns_to_the_choices_before(page: Page, address: str) -> None:
    page.open(f"{address}/?time=all")
    charts_drawn(page, 3)
    choose(page, "service", "search")
    page.wait_for(f"{QUIET} && document.querySelector('[data-testid=stMetricValue]').innerText.trim() === '600'")
    page.value("history.back()")
    page.wait_for("location.search === '?time=all'")
    page.wait_for(f"{QUIET} && document.querySelector('[data-testid=stMetricValue]').innerText.trim() === '1,200'")
    assert_well(page, address)


def test_first_spans_appear_by_themselves_and_an_outage_is_said(new_page: Callable[[], Page], tmp_path: Path) -> None:
    with running_collector(tmp_path / "data") as collector, running_dashboard(collector.store) as address:
        page = new_page()
        page.open(address)
        page.wait_for_text("No spans yet")
        page.wait_for_text("make demo")
        assert_well(page, address)
        send_sample(collector.otlp_url)
        charts_drawn(page, 3)
        assert metric(page, "Requests") == count(REQUESTS)
        assert_well(page, address)
        collector.process.terminate()
        collector.process.wait(20)
        page.click("[...document.querySelectorAll('button')].find(it => it.innerText.includes('Refresh'))")
        page.wait_for_text("The store does not answer")
        page.wait_for_text(collector.store)
