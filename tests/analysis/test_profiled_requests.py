"""Which requests count in a difference, and of which class: where requests were sampled, and where filters leave some out."""

from __future__ import annotations

from collections import Counter

from analysis.brute_force import _varint
from testkit.otlp import request, span, span_id, trace_id
from testkit.profiles import BASE_NS, place, profile

from tailsight_analysis import Filters, Store, Window
from tailsight_analysis.flames import FlameSideOf, stage_difference
from tailsight_analysis.profiled import process_spans, request_classes
from tailsight_storage.profiles import checked_profile, insert_profile

NS_PER_MS = 1_000_000
WINDOW = Window(BASE_NS, BASE_NS + 60 * 10**9)
REASON, WEIGHT = "tailsight.sampling.reason", "tailsight.sampling.weight"


def put(store: Store, spans: list[dict[str, object]], token: str) -> None:
    resource = {"service.name": "ranker", "host.name": "box", "process.pid": 77}
    message = request(spans, resource).SerializeToString()
    store.insert_otlp_traces(_varint(len(message)) + message, token)


def served(number: int, duration_ms: float, **attributes: object) -> dict[str, object]:
    start_ns = BASE_NS + number * 10 * NS_PER_MS
    return span(
        trace_id=trace_id(number), span_id=span_id(number), start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + int(duration_ms * NS_PER_MS), attributes=attributes,
    )  # fmt: skip


def test_typical_is_what_is_typical_of_all_requests_and_not_of_those_that_were_kept(store: Store) -> None:
    """2,000 requests of 1 to 20 ms, of which 5 % were kept, and 60 of 100 ms, all of them: half of what is stored."""
    usual = [served(1 + number, 1 + number * 0.2, **{WEIGHT: 20.0, REASON: "rate"}) for number in range(100)]
    slow = [served(1001 + number, 100 + number, **{REASON: "slow"}) for number in range(60)]
    failed = [served(2001 + number, 10.5, **{REASON: "error"}) for number in range(30)]
    put(store, usual + slow + failed, "sampled")
    found = request_classes(store, WINDOW, "ranker", 0.99)
    classes = Counter(found.classes.values())
    lengths = {
        name: [found.durations_ns[each] / 1e6 for each in found.classes if found.classes[each] == name]
        for name in classes
    }
    # p40 to p60 of all is 9 to 13 ms; of what is stored it would begin at 12 and reach into the slow ones
    assert 8.5 < min(lengths["typical"]) < max(lengths["typical"]) < 13.5
    # errors of that length were kept for being errors: they would outnumber the others
    assert 18 <= classes["typical"] <= 24
    kept_for_it = {trace_id(2001 + number).hex() for number in range(30)}
    assert not any(found.classes.get(each) == "typical" for each in kept_for_it)
    assert min(lengths["tail"]) >= 100
    assert found.threshold_ms is not None
    assert 100 < found.threshold_ms < 160


def test_where_only_slow_requests_were_kept_there_are_no_classes(store: Store) -> None:
    put(store, [served(1 + number, 100 + number, **{REASON: "slow"}) for number in range(60)], "slow alone")
    found = request_classes(store, WINDOW, "ranker", 0.99)
    assert (found.classes, found.threshold_ms) == ({}, None)


def test_a_process_says_whether_spans_of_other_requests_were_left_out(store: Store) -> None:
    put(store, [served(1, 5)], "all")
    assert process_spans(store, WINDOW, "box", 77).complete is True
    put(store, [served(2, 5, **{WEIGHT: 20.0, REASON: "rate"})], "some")
    assert process_spans(store, WINDOW, "box", 77).complete is False


def test_requests_of_another_model_are_not_counted_as_without_samples(store: Store) -> None:
    """30 of 60 typical requests, and 10 of 60 of the tail, are of the other model: they ran nothing of this one."""
    tail, typical = range(1, 61), range(101, 161)
    other = {*range(1, 11), *range(101, 131)}
    put(
        store,
        [served(n, 5, **{"tailsight.model": "other" if n in other else "llama"}) for n in (*tail, *typical)],
        "models",
    )
    places = [place(n, kind="tail", model="other" if n in other else "llama") for n in tail]
    places += [place(n, model="other" if n in other else "llama") for n in typical]
    plain = profile(places, [(at, 0, 3 + at % 3) for at in range(120)])
    plain["requests"]["run"] = [""] * 120
    insert_profile(store, checked_profile(plain))
    sides = FlameSideOf("tail", classes=("tail",)), FlameSideOf("typical", classes=("typical",))
    found = stage_difference(store, WINDOW, Filters(model=("llama",)), *sides).difference
    assert (found.requests_a, found.requests_b) == (50, 30)
    assert not any(entry.certain for entry in found.functions)
    every = stage_difference(store, WINDOW, Filters(), *sides).difference
    assert (every.requests_a, every.requests_b) == (60, 60)
