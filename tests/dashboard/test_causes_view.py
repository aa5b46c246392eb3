"""Causes, what-if and examples of the Tail view, by AppTest against a real collector."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from dashboard.apptest import opened, texts
from streamlit.testing.v1 import AppTest

from tailsight_analysis import Store, Window, tail, whatif
from tailsight_dashboard.format import duration, share


def test_causes_are_those_of_tail(app: AppTest, store: Store, everything: Window) -> None:
    answer = tail(store, everything)
    said = texts(opened(app, "tail")).replace("\\", "")
    assert answer.causes[0].stage == "queue"
    assert answer.causes[0].conditions[0].key == "tailsight.batch.size"
    for cause in answer.causes:
        assert f"**{share(cause.excess_share)}** of the extra time [" in said
        for condition in cause.conditions:
            assert f"where **{condition.text}**" in said
        if cause.without_ms is not None:
            assert f"would be about **{duration(cause.without_ms)}** instead of {duration(answer.threshold_ms)}" in said
    linked = [parse_qs(link.proto.query_string)["id"][0] for link in app.get("page_link")]
    causes = [trace_id for cause in answer.causes for trace_id in cause.examples]
    assert linked == [*causes, *answer.examples.tail, *answer.examples.typical]


def test_replaying_waits_to_be_asked_and_shows_what_whatif_answers(
    app: AppTest, store: Store, everything: Window
) -> None:
    opened(app, "tail")
    assert not any("Change (ms)" in each.value.columns for each in app.dataframe)
    assert len(app.get("plotly_chart")) == 1
    next(button for button in app.button if button.label == "Replay the requests").click().run()
    assert not app.exception
    answer = whatif(store, everything)
    frame = next(each.value for each in app.dataframe if "Change (ms)" in each.value.columns)
    assert list(frame["If"]) == [outcome.scenario.label for outcome in answer.outcomes]
    assert list(frame["p99 (ms)"]) == pytest.approx([outcome.tail.replayed_ms for outcome in answer.outcomes])
    assert list(frame["Change (ms)"]) == pytest.approx([outcome.tail.delta_ms for outcome in answer.outcomes])
    assert f"p99 would fall from {duration(answer.quantile_ms)} to **" in texts(app)
    assert len(app.get("plotly_chart")) == 2
    app.run()  # as Live does: the answer stays
    assert "Replay again" in [button.label for button in app.button]
    app.segmented_control(key="quantile").set_value("p90").run()  # another question: it goes
    assert "Replay the requests" in [button.label for button in app.button]
    assert not any("Change (ms)" in each.value.columns for each in app.dataframe)


def test_replaying_says_when_it_cannot(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(app, "tail")
    with monkeypatch.context() as away:
        away.setattr("tailsight_dashboard.source.whatif", _no_stage)
        next(button for button in app.button if button.label == "Replay the requests").click().run()
    assert not app.exception
    assert "There is nothing to change." in texts(app)
    assert app.metric


def _no_stage(*_args: object, **_kwargs: object) -> None:
    from tailsight_analysis import NotEnoughDataError

    raise NotEnoughDataError("there is nothing to change")
