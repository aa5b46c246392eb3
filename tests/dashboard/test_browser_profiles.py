"""The Profiles view in Chromium: zoom, search and hover by mouse and keyboard, thousands of nodes, light, dark, narrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from dashboard.browsing import QUIET, assert_well
from dashboard.chromium import Page
from dashboard.profiled_store import HOSTILE, MANY_NODES, TAIL
from dashboard.sample_store import RunningCollector, running_dashboard

from tailsight_analysis import Filters, Store, Window
from tailsight_analysis.flames import StageFlame, profiled_time, stage_difference, stage_flame
from tailsight_analysis.profiles import FlameNode, State
from tailsight_dashboard.charts_profiles import state_totals
from tailsight_dashboard.format import count, duration, share, signed_duration
from tailsight_dashboard.views.profiles import TAIL as TAIL_SIDE
from tailsight_dashboard.views.profiles import TYPICAL as TYPICAL_SIDE

pytestmark = pytest.mark.browser

# the graph is in a shadow root
ROOT = "[...document.querySelectorAll('*')].map(it => it.shadowRoot).find(it => it && it.querySelector('.flame'))"
NODES = f"[...{ROOT}.querySelectorAll('.node')]"
NARROW = "document.documentElement.scrollWidth <= innerWidth"
CODES = {
    "Enter": {"windowsVirtualKeyCode": 13}, "Escape": {"windowsVirtualKeyCode": 27},
    "ArrowDown": {"windowsVirtualKeyCode": 40}, "ArrowRight": {"windowsVirtualKeyCode": 39},
}  # fmt: skip
COMPUTE = Filters(service=("ranker",), stage=("compute",))


@pytest.fixture(scope="module")
def address(profiled: RunningCollector) -> Iterator[str]:
    with running_dashboard(profiled.store) as url:
        yield url


@pytest.fixture
def ever(profiled_store: Store) -> Window:
    window = profiled_time(profiled_store)
    assert window is not None
    return window


@pytest.fixture
def compute(profiled_store: Store, ever: Window) -> StageFlame:
    return stage_flame(profiled_store, ever, COMPUTE)


def opened(page: Page, url: str, **how: object) -> Page:
    page.open(url, **how)  # type: ignore[arg-type]
    page.wait_for(f"{QUIET} && {NODES}.length > 1")
    return page


def labels(page: Page) -> list[str]:
    return list(page.value(f"{NODES}.map(it => it.innerText)"))


def node(name: str) -> str:
    return f"{NODES}.find(it => it.innerText.split(' ')[0] === {json.dumps(name)})"


def part(page: Page, name: str) -> str:
    return str(page.value(f"{ROOT}.querySelector('.{name}').innerText"))


def child(of: FlameNode, *way: str) -> FlameNode:
    for name in way:
        of = next(each for each in of.children if each.function == name)
    return of


def hover(page: Page, element: str) -> str:
    """Move the mouse onto the middle of an element; gives what the graph says beside the pointer."""
    x, y = page.wait_for(
        f"(() => {{ const it = {element}; it.scrollIntoView({{block: 'center'}}); const box = it.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    return str(page.wait_for(f"{ROOT}.querySelector('.tip:not([hidden])')?.innerText"))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" else {}
            page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **CODES.get(key, {}), **text)


def searched(page: Page, text: str) -> str:
    """Type into the search and leave it; gives what was found."""
    page.click(f"{ROOT}.querySelector('.search')")
    page.call("Input.insertText", text=text)
    press(page, "Enter")
    page.wait_for(f"new URLSearchParams(location.search).get('search') === {json.dumps(text)}")
    return part(page, "matches")


def test_click_zooms_and_the_whole_graph_comes_back(
    new_page: Callable[[], Page], address: str, compute: StageFlame
) -> None:
    page = opened(new_page(), f"{address}/profiles?time=all&service=ranker&stage=compute")
    assert sorted(labels(page)) == sorted(["all", "main", "handle", "fast", "slow", "spin", "spin", "acquire"])
    slow = child(compute.flame.root, "main", "handle", "slow")
    across = page.value(f"{node('all')}.getBoundingClientRect().width")
    width = page.value(f"{node('slow')}.getBoundingClientRect().width")
    assert width / across == pytest.approx(slow.total_samples / compute.flame.samples, abs=0.002)
    page.click(node("slow"))
    page.wait_for(f"!{node('fast')}")
    assert page.value(f"{node('slow')}.getBoundingClientRect().width") == pytest.approx(across, abs=1)
    about = part(page, "about")
    assert about.startswith("slow · /srv/ranker/score.py:30 · ")
    assert f"{count(slow.total_samples)} samples, {duration(slow.total_ms)}" in about
    assert f"{share(slow.total_samples / compute.flame.samples)} of all" in about
    page.click(f"{ROOT}.querySelector('.whole')")
    page.wait_for(f"!!{node('fast')}")
    assert_well(page, address)


def test_search_marks_says_the_share_and_is_in_the_address(
    new_page: Callable[[], Page], address: str, compute: StageFlame
) -> None:
    page = opened(new_page(), f"{address}/profiles?time=all&service=ranker&stage=compute")
    above = child(compute.flame.root, "main", "handle")
    spins = [child(above, name, "spin").total_samples for name in ("fast", "slow")]
    assert searched(page, "spin") == f"in 2 places: {share(sum(spins) / compute.flame.samples)} of the time"
    marked = f"{NODES}.filter(it => it.classList.contains('found')).map(it => it.innerText)"
    assert page.value(marked) == ["spin", "spin"]
    page.click(node("slow"))
    page.wait_for(f"!{node('fast')}")
    page.click("[...document.querySelectorAll('button')].find(it => it.innerText.includes('Refresh'))")
    page.wait_for(f"{QUIET} && {marked}.length === 1")
    assert "fast" not in labels(page), "a new run of the page lost the zoom"
    copied = opened(new_page(), str(page.value("location.href")))
    copied.wait_for(f"{marked}.length === 2")
    assert copied.value(f"{ROOT}.querySelector('.search').value") == "spin"
    copied.click(f"{ROOT}.querySelector('.whole')")
    copied.wait_for("!new URLSearchParams(location.search).has('search')")
    assert copied.value(marked) == []
    assert searched(copied, "score.py:30").startswith("in 1 place: ")
    copied.click(f"{ROOT}.querySelector('.whole')")
    assert searched(copied, "no such function") == "nothing found"
    assert_well(page, address)


def test_hover_and_keys_name_function_line_samples_and_waits(
    new_page: Callable[[], Page], address: str, compute: StageFlame
) -> None:
    page = opened(new_page(), f"{address}/profiles?time=all&service=ranker&stage=compute")
    acquire = child(compute.flame.root, "main", "handle", "slow", "acquire")
    states = dict(acquire.by_state)
    said = hover(page, node("acquire")).splitlines()
    assert said[:2] == ["acquire", "/usr/lib/python3.11/threading.py:327"]
    assert said[2].startswith(f"{acquire.total_samples} samples, {duration(acquire.total_ms)}, ")
    assert said[3] == f"itself {acquire.self_samples} samples, {share(acquire.self_samples / compute.flame.samples)}"
    gil, waits = (share(states[state] / acquire.total_samples) for state in (State.GIL, State.WAITING))
    assert said[4] == f"waiting for the GIL {gil}, for something else {waits}"
    page.value(f"{node('all')}.focus()")
    press(page, "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight")
    assert part(page, "about").startswith("slow · ")
    press(page, "Enter")
    page.wait_for(f"!{node('fast')}")
    press(page, "Escape")
    page.wait_for(f"!!{node('fast')}")
    assert_well(page, address)


def test_states_are_told_apart_by_colour_pattern_and_words(
    new_page: Callable[[], Page], address: str, compute: StageFlame
) -> None:
    totals, whole = state_totals(compute.flame), compute.flame.samples
    words = ("running", "waiting for the GIL", "waiting for something else")
    shown = set()
    for dark, chosen in ((False, ""), (True, ""), (False, "&embed_options=dark_theme")):  # the browser's, Streamlit's
        page = opened(new_page(), f"{address}/profiles?time=all&service=ranker&stage=compute{chosen}", dark=dark)
        for state, name in zip((State.RUNNING, State.GIL, State.WAITING), words, strict=True):
            assert f"{name} {share(totals[state] / whole)}" in part(page, "legend")
        looks = page.value(
            f"['running', 'gil', 'waiting'].map(name => {{ const it = {node('all')}.querySelector('.' + name);"
            " const style = getComputedStyle(it); return [style.backgroundColor, style.backgroundImage,"
            " it.getBoundingClientRect().width / it.parentElement.getBoundingClientRect().width]; })"
        )
        assert len({colour for colour, *_ in looks}) == len({pattern for _, pattern, _ in looks}) == 3
        parts = [totals[state] / whole for state in (State.RUNNING, State.GIL, State.WAITING)]
        assert [width for *_, width in looks] == pytest.approx(parts, abs=0.005)
        ink = page.value(f"getComputedStyle({node('all')}).color")
        assert min(contrast(ink, colour) for colour, *_ in looks) > 4.5, (dark, chosen, ink, looks)
        shown.add(ink)
    assert len(shown) == 2, "light and dark look the same"


def test_the_difference_has_signs_and_the_answer_is_the_first_sentence(
    new_page: Callable[[], Page], address: str, profiled_store: Store, ever: Window
) -> None:
    found = stage_difference(profiled_store, ever, COMPUTE, TAIL_SIDE, TYPICAL_SIDE)
    first = found.functions[0]
    page = opened(
        new_page(), f"{address}/profiles?time=all&service=ranker&stage=compute&graph=difference", dark=True, width=420
    )
    said = page.text().replace("\u00a0", " ")
    assert f"Tail requests spend {duration(first.difference_ms)} more in slow (ranker/score.py:30) of compute" in said
    assert f"p = {first.p_value:.3f}" in said
    shown = labels(page)
    assert f"slow {signed_duration(first.difference_ms)}" in shown
    assert page.value(f"{node('slow')}.classList.contains('certain')")
    tip = hover(page, node("slow"))
    assert f"tail: {duration(first.a.ms)} per request ({first.a.samples} samples)" in tip
    assert f"typical: 0 ms per request ({first.b.samples} samples)" in tip
    assert f"on all paths {signed_duration(first.difference_ms)} [" in tip
    assert searched(page, "slow") == (
        f"in 1 place: {duration(first.a.ms)} per request of tail, {duration(first.b.ms)} of typical"
    )
    assert page.value(NARROW), "the page scrolls sideways"
    ink = page.value(f"getComputedStyle({node('slow')}).color")
    assert contrast(ink, page.value(f"getComputedStyle({node('slow')}.querySelector('i')).backgroundColor")) > 4.5
    assert_well(page, address)


def test_a_trace_leads_to_the_profile_of_its_stage(new_page: Callable[[], Page], address: str) -> None:
    page = new_page()
    page.open(f"{address}/trace?time=all&id={TAIL[0]:032x}")
    page.click("[...document.querySelectorAll('.st-key-profile-links a')].find(it => it.innerText.includes('compute'))")
    page.wait_for("location.pathname === '/profiles' && location.search === '?time=all&service=ranker&stage=compute'")
    page.wait_for(f"{QUIET} && {NODES}.length > 1")
    assert_well(page, address)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (420, True)], ids=["wide light", "narrow dark"])
def test_thousands_of_functions_are_drawn_and_can_be_read(
    new_page: Callable[[], Page], address: str, width: int, dark: bool
) -> None:
    page = opened(new_page(), f"{address}/profiles?time=all&service=wide", width=width, dark=dark)
    assert page.value(NARROW), "the page scrolls sideways"
    assert page.value(f"{NODES}.length") > 500
    assert labels(page)[1] == "⋯ 24 functions, function_0 to function_23: show"
    shown = page.value(
        f"{NODES}.filter(it => it.innerText && it.node).map(it => [it.innerText, it.getBoundingClientRect().width])"
    )
    assert len(shown) > (20 if width > 600 else 4)
    assert min(size for _, size in shown) > 27, "a name has no room"
    page.click(f"{NODES}[1]")
    page.wait_for(f"!!{node('function_23')}")
    narrow = page.value(
        f"{NODES}.find(it => it.node && !it.innerText && it.getBoundingClientRect().width > 8).node.name"
    )
    page.click(f"{NODES}.find(it => it.node && it.node.name === {json.dumps(narrow)})")
    page.wait_for(f"!!{node(narrow)}")
    assert part(page, "about").startswith(f"{narrow} · /srv/wide/module_")
    assert searched(page, "function_").startswith(f"in {MANY_NODES:,} places: 100 % of the time")
    assert_well(page, address)


def test_names_of_others_are_only_names(new_page: Callable[[], Page], address: str) -> None:
    page = opened(new_page(), f"{address}/profiles?time=all&service={quote(HOSTILE)}")
    page.click(f"{NODES}.find(it => it.node && it.node.name.startsWith('<img'))")
    page.wait_for(f"{ROOT}.querySelector('.about').innerText.includes({json.dumps(HOSTILE)})")
    assert (
        page.value(f"[document, {ROOT}].flatMap(it => [...it.querySelectorAll('img[src=x], a[href*=such]')]).length")
        == 0
    )
    assert_well(page, address)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2, 1.4.3)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [float(number) for number in re.findall(r"[\d.]+", colour.removeprefix("color(srgb"))][:3]
    values = [number if colour.startswith("color(") else number / 255 for number in parts]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
