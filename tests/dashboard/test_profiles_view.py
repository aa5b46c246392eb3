"""The Profiles view by AppTest against a real collector, and the links to it from Trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest
from dashboard.apptest import metrics, opened, texts
from dashboard.conftest import fresh_app
from dashboard.profiled_store import FEW_SAMPLES, HOSTILE, TAIL, UNSEEN, other_run, send_profile
from dashboard.sample_store import RunningCollector, running_collector
from streamlit.testing.v1 import AppTest

from tailsight_analysis import Filters, Store, Window, tail
from tailsight_analysis.flames import (
    FlameSideOf,
    profiled_stages,
    profiled_time,
    recorded_profiles,
    stage_difference,
    stage_flame,
    top_functions,
)
from tailsight_analysis.profiles import State
from tailsight_dashboard.charts_profiles import of_difference, of_states, state_totals
from tailsight_dashboard.format import count, duration, share
from tailsight_dashboard.views.profiles import TAIL as TAIL_SIDE
from tailsight_dashboard.views.profiles import TYPICAL as TYPICAL_SIDE

COMPUTE = Filters(service=("ranker",), stage=("compute",))
LONG_AGO = {"time": "custom", "from": "2026-01-01T00:00Z", "to": "2026-01-01T01:00Z"}
TRACE = f"{TAIL[0]:032x}"


@pytest.fixture
def ever(profiled_store: Store) -> Window:
    window = profiled_time(profiled_store)
    assert window is not None
    return window


def said(app: AppTest) -> str:
    return texts(app).replace("\\", "").replace("\u00a0", " ")


def headline(app: AppTest) -> str:
    [title] = [each.value for each in app.markdown if each.value.startswith("## ")]
    return str(title).removeprefix("## ").replace("\\", "").replace("\u00a0", " ")


def table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


def drawn(app: AppTest) -> dict[str, Any]:
    """What the flame graph was given."""
    [graph] = app.get("bidi_component")
    mixed = graph.proto.mixed.json or graph.proto.json
    return dict(json.loads(mixed))


def same(data: dict[str, Any], of: dict[str, Any]) -> bool:
    return json.loads(json.dumps(of)).items() <= data.items()


def links(app: AppTest) -> dict[str, dict[str, list[str]]]:
    return {
        each.proto.label.replace("\\", ""): parse_qs(each.proto.query_string)
        for each in app.get("page_link")
        if each.proto.page.endswith("profiles")
    }


def test_the_answer_the_figures_and_the_tables_are_the_functions(
    profiled_app: AppTest, profiled_store: Store, ever: Window
) -> None:
    app = opened(profiled_app, "profiles", service="ranker", stage="compute")
    flame = stage_flame(profiled_store, ever, COMPUTE).flame
    found = stage_difference(profiled_store, ever, COMPUTE, TAIL_SIDE, TYPICAL_SIDE)
    first = found.functions[0]
    assert headline(app).startswith(
        f"Tail requests spend **{duration(first.difference_ms)} more** in **slow** (ranker/score.py:30) of compute "
    )
    totals = state_totals(flame)
    [ambiguous] = [each for each in profiled_stages(profiled_store, ever, COMPUTE) if each.stage == "compute"]
    assert metrics(app) == {
        "Samples": count(flame.samples),
        "Requests": count(flame.requests),
        "Waiting for the GIL": share(totals[State.GIL] / flame.samples),
        "Waiting otherwise": share(totals[State.WAITING] / flame.samples),
        "Ambiguous": share(ambiguous.ambiguous / (ambiguous.ambiguous + ambiguous.samples)),
    }
    assert same(drawn(app), of_states(flame))
    assert list(table(app, "Certain")["Function"]) == [each.function for each in found.functions]
    assert list(table(app, "Self")["Self"]) == [each.self_samples for each in top_functions(flame)]
    listed = recorded_profiles(profiled_store, ever, Filters(service=("ranker",)))
    assert list(table(app, "Clock")["Id"]) == [each.id for each in listed]


@pytest.mark.parametrize("graph", ["tail", "typical"])
def test_a_class_has_a_graph_of_its_own(profiled_app: AppTest, profiled_store: Store, ever: Window, graph: str) -> None:
    app = opened(profiled_app, "profiles", service="ranker", stage="compute", graph=graph)
    assert same(drawn(app), of_states(stage_flame(profiled_store, ever, COMPUTE, classes=(graph,)).flame))
    names = {name for name, _ in drawn(app)["names"]}
    assert ("slow" in names) is (graph == "tail")


def test_the_difference_is_a_graph_too(profiled_app: AppTest, profiled_store: Store, ever: Window) -> None:
    app = opened(profiled_app, "profiles", service="ranker", stage="compute")
    app.segmented_control(key="graph").set_value("difference").run()
    assert not app.exception
    assert app.query_params["graph"] == "difference"
    found = stage_difference(profiled_store, ever, COMPUTE, TAIL_SIDE, TYPICAL_SIDE)
    assert same(drawn(app), of_difference(found))
    assert "Both sides laid on each other." in said(app)


def test_two_runs_are_compared_and_can_be_chosen(profiled_app: AppTest, profiled_store: Store, ever: Window) -> None:
    app = opened(profiled_app, "profiles", service="ranker", sides="runs", graph="difference")
    assert headline(app).startswith("Requests of run b spend **")
    app.selectbox(key="first").select("a")
    app.selectbox(key="second").select("b").run()
    sides = (FlameSideOf(name, runs=(name,)) for name in ("a", "b"))
    found = stage_difference(profiled_store, ever, Filters(service=("ranker",)), *sides)
    assert headline(app).startswith(f"Requests of run a spend **{duration(found.functions[0].difference_ms)} more**")
    assert same(drawn(app), of_difference(found))
    assert (app.query_params["first"], app.query_params["second"]) == ("a", "b")
    app.selectbox(key="second").select("a").run()
    assert headline(app) == "Two runs can be compared once samples of two are here: `tailsight.run` names them."
    assert not app.exception


def test_too_few_samples_are_said_instead_of_a_graph(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service="ranker", stage="few")
    assert f"{FEW_SAMPLES} samples" in headline(app)
    assert f"{50 - FEW_SAMPLES} more are needed." in headline(app)
    assert "Record for longer, or at a higher rate" in said(app)
    assert not app.get("bidi_component")
    assert not metrics(app)
    assert len(table(app, "Clock"))


def test_what_a_comparison_lacks_is_said_and_the_graph_stands(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service="wide", graph="difference")
    assert headline(app).startswith("0 samples of tail")
    assert "50 more are needed." in headline(app)
    assert not app.get("bidi_component")
    app.segmented_control(key="graph").set_value("tail").run()
    assert "0 samples" in said(app)
    assert not app.get("bidi_component")
    assert metrics(app)["Requests"] == "40"


def test_filters_limit_the_page(profiled_app: AppTest, profiled_store: Store, ever: Window) -> None:
    app = opened(profiled_app, "profiles", service="ranker", run="a")
    filters = Filters(service=("ranker",), run=("a",))
    assert same(drawn(app), of_states(stage_flame(profiled_store, ever, filters).flame))
    assert len(table(app, "Clock")) == 1


def test_a_search_is_in_the_address(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service="ranker", search="slow")
    assert drawn(app)["search"] == "slow"
    assert app.query_params["search"] == "slow"


def test_what_the_address_names_wrongly_is_said(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service="ranker", stage="[x](http://such.example)", graph="hot")
    warned = [each.value for each in app.warning]
    assert len(warned) == 2
    assert any("graph\\=hot" in each or "graph=hot" in each for each in warned)
    assert all("](http" not in each for each in warned)
    assert app.get("bidi_component")


def test_where_no_profile_is_the_page_says_how_to_make_one(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service="ranker", **LONG_AGO)
    assert headline(app) == "No profile here"
    assert "The store holds some of " in said(app)
    [command] = [each.value for each in app.code]
    assert "tailsight profile --service ranker --duration 1m" in command
    app.button[1].click().run()
    assert not app.exception
    assert app.query_params["time"] == "all"
    assert drawn(app)["kind"] == "states"


def test_a_store_without_any_profile_says_so(app: AppTest) -> None:
    opened(app, "profiles", service="ranker")
    assert headline(app) == "No profile here"
    assert "The store holds some" not in said(app)
    assert "tailsight profile --service ranker" in app.code[0].value


@pytest.fixture(scope="module")
def only_profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with running_collector(tmp_path_factory.mktemp("only profiles") / "data") as collector:
        send_profile(collector.otlp_url, other_run())
        yield collector


def test_profiles_need_no_spans(only_profiles: RunningCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    for app in fresh_app(only_profiles.store, monkeypatch):
        opened(app, "profiles")
        assert metrics(app)["Samples"] == "140"
        assert drawn(app)["kind"] == "states"


def test_a_trace_links_to_the_profiles_of_its_stages_with_its_own_samples(
    profiled_app: AppTest, profiled_store: Store, ever: Window
) -> None:
    app = opened(profiled_app, "trace", id=TRACE)
    own = {each.stage: each.samples for each in profiled_stages(profiled_store, ever, Filters(), TRACE)}
    found = links(app)
    assert set(found) == {f"{stage} of ranker ({own[stage]} samples of this trace)" for stage in ("compute", "queue")}
    for label, address in found.items():
        assert address == {"time": ["all"], "service": ["ranker"], "stage": [label.split(" ")[0]]}


def test_a_trace_without_samples_of_its_own_links_to_what_its_stages_ran(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "trace", id=f"{UNSEEN:032x}", time="15m", service="wide")
    assert links(app) == {"compute of ranker": {"time": ["15m"], "service": ["ranker"], "stage": ["compute"]}}


def test_a_trace_outside_of_the_time_links_to_all_of_it(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "trace", id=f"{UNSEEN:032x}", **LONG_AGO)
    assert links(app) == {"compute of ranker": {"time": ["all"], "service": ["ranker"], "stage": ["compute"]}}


def test_a_trace_that_no_profile_knows_says_how_to_make_one(app: AppTest, store: Store, everything: Window) -> None:
    opened(app, "trace", id=tail(store, everything).examples.tail[0])
    assert links(app) == {}
    assert "Which code these stages ran: no profile says. `tailsight profile --service " in said(app)


def test_names_of_others_are_only_names(profiled_app: AppTest) -> None:
    app = opened(profiled_app, "profiles", service=HOSTILE)
    assert [name for name, _ in drawn(app)["names"]][1].startswith(HOSTILE)
    for text in texts(app).splitlines():
        assert "](http" not in text.replace("\\]", "").replace("\\(", "")
        assert "<img" not in text.replace("\\<", "")
    assert HOSTILE in list(table(app, "Clock")["Service"])


def test_too_many_samples_are_said_without_advice_to_record_more(
    profiled_app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailsight_analysis.flames.MAX_SAMPLES", 600)
    app = opened(profiled_app, "profiles", service="ranker", search="many")
    assert headline(app) == ("That are more samples than a flame graph is made of: choose a stage or a shorter window.")
    assert "Record for longer" not in said(app)
    assert not app.get("bidi_component")
