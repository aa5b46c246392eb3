"""The same questions through a collector's SQL port, which allows only what it knows."""

from analysis import brute_force
from analysis.test_truth import pipeline
from testkit.otlp import request
from testkit.processes import CollectorProcess, eventually

from tailsight_analysis import DIMENSIONS, Filters, breakdown, choices, connect, tail, timeline, whole_time

FILTERS = Filters(service=("front",), stage=("queue",), run=())


def test_every_question_passes_the_sql_port_and_has_the_same_answer(store, tmp_path):
    spans = pipeline(5, 300, "queue", "purple")
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
            assert breakdown(remote, window).rows == breakdown(store, window).rows
            assert tail(remote, window, FILTERS, 0.9).stages == tail(store, window, FILTERS, 0.9).stages
            assert timeline(remote, window) == timeline(store, window)
            assert choices(remote, window)["stage"] == choices(store, window)["stage"]
