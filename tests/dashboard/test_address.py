"""The address: a copied link opens the same view, and wrong values in it are said, not raised."""

from __future__ import annotations

from datetime import datetime

import pytest
from dashboard.apptest import metrics, opened
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from tailsight_analysis import DIMENSIONS
from tailsight_dashboard.selection import (
    CUSTOM,
    FILTERS,
    FIRST,
    GRAPHS,
    LAST,
    METRICS,
    MOST_SEARCHED,
    OVER,
    PRESETS,
    QUANTILES,
    SCALES,
    SIDES,
    SPANS,
    VIEW_CHOICES,
    VIEW_KEYS,
    Selection,
    from_address,
)

_minutes = some.datetimes(FIRST, LAST).map(lambda moment: moment.replace(second=0, microsecond=0))
_names = some.lists(some.text(min_size=1), max_size=3, unique=True).map(tuple)


@some.composite
def selections(draw: some.DrawFn) -> Selection:
    time = draw(some.sampled_from(list(PRESETS)))
    since, until = sorted(draw(some.lists(_minutes, min_size=2, max_size=2, unique=True)))
    return Selection(
        time=time,
        since=since if time == CUSTOM else None,
        until=until if time == CUSTOM else None,
        filters={name: values for name in FILTERS if (values := draw(_names))},
        by=draw(some.sampled_from(DIMENSIONS)),
        scale=draw(some.sampled_from(SCALES)),
        quantile=draw(some.sampled_from(list(QUANTILES))),
        id=draw(some.text()),
        spans=draw(some.sampled_from(SPANS)),
        over=draw(some.sampled_from(OVER)),
        metric=draw(some.sampled_from(METRICS)),
        baseline=draw(some.text()),
        candidate=draw(some.text()),
        stage=draw(some.text()),
        graph=draw(some.sampled_from(GRAPHS)),
        sides=draw(some.sampled_from(SIDES)),
        first=draw(some.text()),
        second=draw(some.text()),
        search=draw(some.text(max_size=MOST_SEARCHED)),
    )


@given(selections())
def test_an_address_gives_back_the_selection(selection: Selection) -> None:
    address: dict[str, list[str]] = {}
    for view in VIEW_KEYS:
        for name, value in selection.to_address(view).items():
            address[name] = value if isinstance(value, list) else [value]
    assert from_address(address) == (selection, ())


@given(some.dictionaries(some.sampled_from(["time", "from", "to", *FILTERS, *VIEW_CHOICES, "x"]), _names))
def test_any_address_gives_a_selection(address: dict[str, tuple[str, ...]]) -> None:
    selection, _ = from_address(address)
    assert selection.time in PRESETS
    assert selection.by in DIMENSIONS


@pytest.mark.parametrize(
    ("address", "note"),
    [
        ({"time": ["2h"]}, "time=2h is unknown; it can be 15m, 1h, 6h, 24h, 7d, all, custom"),
        ({"quantile": ["99"]}, "quantile=99 is unknown; it can be p90, p95, p99, p99.9"),
        ({"servce": ["a"]}, "servce is no setting; did you mean service?"),
        ({"from": ["yesterday"], "to": ["2026-01-01T00:00Z"]}, "from=yesterday is no time; write it like"),
        ({"time": ["custom"], "from": ["2026-01-01T00:00Z"]}, "to is missing"),
        ({"from": ["2026-01-02T00:00Z"], "to": ["2026-01-01T00:00Z"]}, "from=2026-01-02T00:00Z is not before"),
    ],
)
def test_wrong_values_fall_back_with_a_note(address: dict[str, list[str]], note: str) -> None:
    selection, notes = from_address(address)
    assert (selection.time, selection.quantile) == ("1h", "p99")
    assert len(notes) == 1
    assert notes[0].startswith(note)


def test_other_zones_and_seconds_are_read(app: AppTest) -> None:
    selection, notes = from_address({"from": ["2026-01-01T01:00:30 01:00"], "to": ["2026-01-01T02:00:01Z"]})
    assert notes == ()
    assert (selection.since, selection.until) == (
        datetime.fromisoformat("2026-01-01T00:00"),
        datetime.fromisoformat("2026-01-01T02:01"),
    )


def test_wrong_values_in_the_address_show_a_note_and_the_view(app: AppTest) -> None:
    opened(app, by="colour", service=["ranker", "[no](http://such.example)"])
    notes = [warning.value for warning in app.warning]
    assert len(notes) == 2
    assert "by\\=colour" in notes[0] or "by=colour" in notes[0]
    assert "](" not in notes[1]
    assert metrics(app)["Requests"] == "600"
    assert app.query_params["service"] == "ranker"
    assert "by" not in app.query_params


def test_a_choice_changes_the_address_and_the_address_restores_it(app: AppTest) -> None:
    opened(app)
    app.multiselect(key="hardware").select("NVIDIA L4").run()
    app.segmented_control(key="by").set_value("service").run()
    app.segmented_control(key="scale").set_value("linear").run()
    address = dict(app.query_params)
    assert address == {"time": "all", "hardware": "NVIDIA L4", "by": "service", "scale": "linear"}
    shown = metrics(app)
    again = AppTest.from_file(app._script_path, default_timeout=30)
    again.query_params.update(address)
    again.run()
    assert metrics(again) == shown
    assert dict(again.query_params) == address


def test_choices_stay_when_the_view_changes(app: AppTest) -> None:
    opened(app, service="search", by="host")
    app.switch_page("views/tail.py")
    app.query_params.clear()  # as the browser does
    app.run()
    assert not app.exception
    assert dict(app.query_params) == {"time": "all", "service": "search"}
    app.switch_page("views/stages.py")
    app.query_params.clear()
    app.run()
    assert dict(app.query_params) == {"time": "all", "service": "search", "by": "host"}
    assert metrics(app)["Requests"] == "600"


def test_a_link_to_a_trace_keeps_what_other_views_have_chosen(app: AppTest) -> None:
    opened(app, by="host")
    app.switch_page("views/trace.py")
    app.query_params.clear()
    app.query_params.update({"time": "all", "service": "search", "id": "f" * 32})  # as the links write it
    app.run()
    app.switch_page("views/stages.py")
    app.query_params.clear()
    app.run()
    assert not app.exception
    assert dict(app.query_params) == {"time": "all", "service": "search", "by": "host"}


def test_a_custom_time_is_kept_to_the_minute(app: AppTest) -> None:
    opened(app)
    app.selectbox(key="time").select("custom").run()
    app.datetime_input(key="from").set_value(datetime.fromisoformat("2026-01-02T03:04")).run()
    assert not app.exception
    assert app.query_params["time"] == "custom"
    assert app.query_params["from"] == "2026-01-02T03:04Z"
    assert app.query_params["to"].endswith("Z")


def test_an_address_changed_by_the_browser_wins(app: AppTest) -> None:
    opened(app)
    app.multiselect(key="service").select("ranker").run()
    app.query_params.clear()
    app.query_params.update({"time": "all", "service": "search"})  # Back, or an edited address
    app.run()
    assert app.multiselect(key="service").value == ["search"]
