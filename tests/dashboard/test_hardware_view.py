"""The Hardware view, by AppTest against a real collector: what it shows is what analysis answers."""

from __future__ import annotations

import pandas as pd
import pytest
from dashboard.apptest import opened, texts
from dashboard.varied_store import H100, L4, POWER_W, RATIO
from streamlit.testing.v1 import AppTest

from tailsight_analysis import NotEnoughDataError, Store, Window, hardware, pareto, variance, whole_time
from tailsight_dashboard.format import share
from tailsight_dashboard.wording_hardware import times

PRICES = {L4: 0.71, H100: 2.99}


@pytest.fixture
def everything(varied_store: Store) -> Window:
    held = whole_time(varied_store)
    assert held is not None
    return held


def _table(app: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in app.dataframe if column in each.value.columns)


def _known(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else value for value in values]


def test_ratios_are_those_of_hardware(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = hardware(varied_store, everything)
    said = texts(opened(varied_app, "hardware")).replace("\\", "")
    lines = [each for comparison in answer.comparisons for each in comparison.types]
    frame = _table(varied_app, "Like with like")
    assert list(frame["Hardware"]) == [each.hardware for each in lines]
    assert list(frame["Raw mean (ms)"]) == [each.raw_mean_ms for each in lines]
    assert _known(frame["Raw"]) == [each.raw_ratio for each in lines]
    assert _known(frame["Like with like"]) == [
        each.standardised.mean_ratio.value if each.standardised else None for each in lines
    ]
    compute = next(each for each in answer.comparisons if each.stage == "compute").types[1]
    assert compute.standardised is not None
    ratio = compute.standardised.mean_ratio.value
    assert compute.raw_ratio is not None
    assert compute.raw_ratio < 1.4 < ratio < RATIO
    assert f"## **{L4}** is **{times(ratio)} slower**" in said
    assert "at **compute**, like with like" in said
    assert "it gets shorter inputs" in said
    assert "preprocess" not in said.split("##")[1]  # a difference that reads 1.00× is none


def test_cost_and_energy_where_they_are_known(
    varied_app: AppTest, varied_store: Store, everything: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(varied_app, "hardware")
    assert "Costs need prices: `TAILSIGHT_PRICES=" in texts(varied_app)
    assert "Cost busy" not in _table(varied_app, "Busy (ms)").columns
    monkeypatch.setenv("TAILSIGHT_PRICES", "; ".join(f"{name}={price}" for name, price in PRICES.items()))
    answer = hardware(varied_store, everything, prices=PRICES)
    frame = _table(varied_app.run(), "Cost busy")
    assert list(frame["Hardware"]) == [use.hardware for use in answer.uses]
    assert list(frame["Cost paid"]) == pytest.approx([1000 * (use.cost_paid or 0) for use in answer.uses])
    assert list(frame["Power (W)"]) == [POWER_W[use.hardware] for use in answer.uses]
    assert list(frame["In all (J)"]) == [use.energy_j for use in answer.uses]
    monkeypatch.setenv("TAILSIGHT_PRICES", "NVIDIA L4: 1")
    assert "TAILSIGHT_PRICES: 'NVIDIA L4: 1' is no price" in texts(varied_app.run()).replace("\\", "")


def test_the_ledger_is_that_of_variance(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = variance(varied_store, everything)
    said = texts(opened(varied_app, "hardware")).replace("\\", "")
    first = answer.total.stages[0]
    assert f"**{share(first.share)}** of the requests' variance is **{first.stage}**" in said
    frame = _table(varied_app, "With others")
    assert list(frame["Share"])[:-1] == [stage.share for stage in answer.total.stages]
    assert list(frame["Share"])[-1] == pytest.approx(1)
    types = _table(varied_app, "Within")
    assert list(types["Within"]) == [part.within_share for part in answer.hardware]
    assert sum(types["Within"]) + sum(types["Between"]) == pytest.approx(1)


def test_variants_are_those_of_pareto(varied_app: AppTest, varied_store: Store, everything: Window) -> None:
    answer = pareto(varied_store, everything)
    opened(varied_app, "hardware")
    frame = _table(varied_app, "On the front")
    assert list(frame["Model"]) == [variant.group["model"] for variant in answer.variants]
    assert list(frame["Quality"]) == [variant.quality.value for variant in answer.variants if variant.quality]
    assert list(frame["p99 (ms)"]) == [variant.p99_ms.value for variant in answer.variants]
    assert len(varied_app.get("plotly_chart")) == 4
    varied_app.segmented_control(key="variants").set_value("version").run()
    assert not varied_app.exception
    assert varied_app.query_params["variants"] == "version"
    assert "No request here both carries a quality and names a version" in texts(varied_app)
    assert len(varied_app.get("plotly_chart")) == 3
    varied_app.segmented_control(key="variants").set_value("hardware").run()
    assert sorted(_table(varied_app, "On the front")["Hardware"]) == sorted([L4, H100])


def test_one_type_alone_is_said(varied_app: AppTest) -> None:
    said = texts(opened(varied_app, "hardware", hardware=L4))
    assert f"## Nothing to compare: all work was done on **{L4}**." in said
    assert "no utilisation, nor what was paid" in said
    assert "Like with like" not in [column for each in varied_app.dataframe for column in each.value.columns]


@pytest.mark.parametrize("view", ["jitter", "hardware"])
def test_an_empty_store_says_how_to_send_data(app_on_empty: AppTest, view: str) -> None:
    app_on_empty.query_params.update({"time": "1h"})
    app_on_empty.run()
    app_on_empty.switch_page(f"views/{view}.py")
    app_on_empty.run()
    assert not app_on_empty.exception
    assert "No spans yet" in texts(app_on_empty)


@pytest.mark.parametrize("view", ["jitter", "hardware"])
def test_nothing_in_the_time_is_said(varied_app: AppTest, view: str) -> None:
    address = {"time": "custom", "from": "2020-01-01T00:00Z", "to": "2020-01-01T01:00Z"}
    assert "Nothing started in" in texts(opened(varied_app, view, **address))


def test_parts_without_an_answer_say_so_and_the_rest_stands(
    varied_app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_few(*_args: object, **_kwargs: object) -> None:
        raise NotEnoughDataError("9 requests are too few for a variance: 1 more is needed", 1)

    monkeypatch.setattr("tailsight_dashboard.source.variance", too_few)
    said = texts(opened(varied_app, "hardware")).replace("\\", "")
    assert "9 requests are too few for a variance: 1 more is needed." in said
    assert "On the front of quality and p99" in said
    assert len(varied_app.get("plotly_chart")) == 2
