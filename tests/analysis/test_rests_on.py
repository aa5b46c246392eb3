"""Every answer says what it rests on: what is sampled, late, dropped, missing and rejected."""

import itertools
import time
from collections import Counter

import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS
from analysis.every_question import ALL, QUESTIONS, REQUESTS, spans
from testkit.otlp import request, span
from testkit.senders import Sidecar

from tailsight_collector.keep.records import encode_record

_tokens = itertools.count()


def arrive(store, message, at_ns: int) -> None:
    store.insert_otlp_traces(
        encode_record(message.SerializeToString(), at_ns), f"rests-on-{time.time_ns()}-{next(_tokens)}"
    )


def something_is_lost(store) -> None:
    """In the first half of the time: 7 spans dropped, 10 in a batch that never comes, one that ends before it starts."""
    sidecar = Sidecar()
    sidecar.dropped = Counter(buffer_full=7)
    for message in [sidecar.batch(10) for _ in range(3)][::2]:
        arrive(store, message, BASE_NS + 10**9)
    backwards = span(start_time_unix_nano=BASE_NS + 10**9, end_time_unix_nano=BASE_NS)
    arrive(store, request([backwards], {"service.name": "front"}), BASE_NS + 10**9)


@pytest.mark.parametrize("weight", [1, 5])
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_says_what_it_rests_on(store, name, weight):
    brute_force.insert(store, spans(weight))
    something_is_lost(store)
    answer = QUESTIONS[name](store, ALL).to_json()
    halves = [answer["baseline"], answer["candidate"]] if name == "compare" else [answer]
    stored = REQUESTS // len(halves)
    lost = {"dropped_spans": 7, "missing_spans": 10, "rejected_spans": 1}
    for half, missing in zip(halves, (lost, dict.fromkeys(lost, 0)), strict=False):
        estimated = stored // 2 * (1 + weight)
        assert half["data"] == {
            "stored": stored, "estimated": estimated, "sampled_share": stored / estimated, "late_spans": 4 * stored, **missing,
        }  # fmt: skip
