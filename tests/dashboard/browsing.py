"""What tests look for in a page of the dashboard."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from dashboard.chromium import Page

CHARTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
QUIET = "document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"


def charts_drawn(page: Page, number: int) -> None:
    page.wait_for(
        f"{QUIET} && document.querySelectorAll('.js-plotly-plot').length === {number} && {CHARTS} >= {number}"
    )


def metric(page: Page, label: str) -> str:
    return str(
        page.wait_for(
            "[...document.querySelectorAll('[data-testid=stMetric]')]"
            f".find(it => it.querySelector('[data-testid=stMetricLabel]').innerText.trim() === '{label}')"
            "?.querySelector('[data-testid=stMetricValue]').innerText.trim()"
        )
    )


def drawn(page: Page) -> str:
    """All texts inside the charts."""
    return str(
        page.value("[...document.querySelectorAll('.js-plotly-plot text')].map(it => it.textContent).join('\\n')")
    )


def assert_well(page: Page, address: str) -> None:
    assert (
        page.value("document.querySelectorAll('[data-testid=stException], [data-testid=stAlertContentError]').length")
        == 0
    )
    # an address below / makes Streamlit look for its base path there first
    problems = [problem for problem in page.problems if not re.search(r"/[a-z]+/_stcore/", problem)]
    assert problems == []
    elsewhere = {url for url in page.asked if urlsplit(url).hostname not in (urlsplit(address).hostname, None)}
    assert elsewhere == set()


def choose(page: Page, filter_name: str, value: str) -> None:
    page.click(f"document.querySelector('.st-key-{filter_name} input')")
    page.click(f"[...document.querySelectorAll('[role=option]')].find(it => it.innerText.trim() === '{value}')")
    page.wait_for(f"new URLSearchParams(location.search).getAll('{filter_name}').includes('{value}')")


def cut_off(page: Page) -> list[str]:
    """Texts in charts that reach beyond their chart."""
    return list(
        page.value(
            "[...document.querySelectorAll('.js-plotly-plot')].flatMap(chart => {"
            " const frame = chart.getBoundingClientRect();"
            " return [...chart.querySelectorAll('text')].filter(it => {"
            " const box = it.getBoundingClientRect();"
            " return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1"
            " || box.top < frame.top - 1 || box.bottom > frame.bottom + 1); }).map(it => it.textContent); })"
        )
    )
