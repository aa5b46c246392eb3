"""The same questions through a collector's SQL port, which allows only what it knows."""

from dataclasses import replace

import pytest
from analysis import brute_force, every_question
from analysis.every_question import ALL, QUESTIONS
from analysis.test_truth import pipeline
from testkit.otlp import request
from testkit.processes import CollectorProcess, eventually

from tailsight_analysis import DIMENSIONS, Filters, breakdown, choices, connect, tail, timeline, whole_time

FILTERS = Filters(service=("front",), stage=("queue",), run=())


@pytest.mark.parametrize("sampled", [pytest.param(False, marks=pytest.mark.long), True])
def test_breakdown_and_tail_pass_the_sql_port_with_filters_and_dimensions(store, tmp_path, sampled):
    spans = pipeline(5, 300, "queue", "purple")
    if sampled:
        weights = {span.trace: 20 if span.duration < 150 else 1 for span in spans if span.parent == 0}
        spans = [
            replace(span, weight=weights[span.trace], decided=True, intended=span.start - 3)
            if span.parent == 0
            else span
            for span in spans
        ]
    brute_force.insert(store, spans)
    with CollectorProcess(tmp_path) as collector:
        # one resource is enough for all: what depends on hosts is not compared
        message = request((brute_force.fields(span) for span in spans), {"service.name": "front"})
        assert collector.post(message.SerializeToString()).status_code == 200
        with connect(collector.store) as remote:
            eventually(lambda: whole_time(remote) is not None, "spans are loaded")
            window = whole_time(store)
            assert whole_time(remote) == window
            assert breakdown(remote, window, by=DIMENSIONS).requests == breakdown(store, window).requests
            assert breakdown(remote, window).response == breakdown(store, window).response
            assert breakdown(remote, window).weighted == sampled
            assert breakdown(remote, window).rows == breakdown(store, window).rows
            assert tail(remote, window, FILTERS, 0.9).stages == tail(store, window, FILTERS, 0.9).stages
            assert tail(remote, window, quantile=0.9).attributes == tail(store, window, quantile=0.9).attributes
            assert timeline(remote, window) == timeline(store, window)
            assert choices(remote, window)["stage"] == choices(store, window)["stage"]


@pytest.mark.parametrize("weight", [1, pytest.param(5, marks=pytest.mark.long)])
def test_every_question_passes_the_sql_port_and_has_the_same_answer(store, tmp_path, weight):
    spans = every_question.spans(weight)
    brute_force.insert(store, spans)
    with CollectorProcess(tmp_path) as collector:
        for message in brute_force.messages(spans):
            assert collector.post(message).status_code == 200
        with connect(collector.store) as remote:
            eventually(lambda: whole_time(remote) == whole_time(store), "spans are loaded")
            for name, ask in QUESTIONS.items():
                assert ask(remote, ALL).to_json() == ask(store, ALL).to_json(), name
