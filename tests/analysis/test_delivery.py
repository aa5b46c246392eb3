"""What was sent, and did it arrive? Hand-built batches of a known sender, straight into a real store."""

import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from testkit.otlp import request, span
from testkit.senders import Sidecar

from tailsight_analysis import (
    Filters,
    Gap,
    NoSendersError,
    QuestionError,
    SenderState,
    Window,
    delivery,
    senders_heard,
)
from tailsight_collector.keep.records import encode_record

S = 10**9
BASE_NS = (time.time_ns() // S - 7200) * S
HOUR_LATER = Window(BASE_NS - S, BASE_NS + 3600 * S)
_tokens = itertools.count()


def arrive(store, *messages, at_s=0.0):
    arrive_at(store, [(at_s, message) for message in messages])


def arrive_at(store, arrivals):
    segment = b"".join(
        encode_record(message.SerializeToString(), BASE_NS + round(second * 1000) * 10**6)
        for second, message in arrivals
    )
    store.insert_otlp_traces(segment, f"{BASE_NS}-{next(_tokens)}")


def as_of(second):
    return Window(BASE_NS - S, BASE_NS + round(second * S))


def only_sender(store, window=HOUR_LATER, **options):
    [device] = delivery(store, window, **options).devices
    [sender] = device.senders
    return sender


def test_a_complete_sequence_has_lost_nothing(store):
    sidecar = Sidecar(host="edge-7")
    arrive(store, *[sidecar.batch(40) for _ in range(300)], sidecar.batch(40, last=True))
    [device] = delivery(store, HOUR_LATER).devices
    assert (device.host, device.sent, device.stored, device.lost, device.outstanding) == (
        "edge-7",
        12_040,
        12_040,
        0,
        0,
    )
    assert (device.batches, device.missing_batches, device.repeated_batches, device.contradictions) == (301, 0, 0, 0)
    assert device.senders[0].state is SenderState.ENDED
    assert device.lost_by == {}


def test_a_gap_is_lost_to_the_span_once_nothing_more_can_come(store):
    sidecar = Sidecar()
    messages = [sidecar.batch(number) for number in range(1, 31)] + [sidecar.batch(0, last=True)]
    missing = {17, 18, 19, 25}
    arrive(store, *[message for number, message in enumerate(messages, 1) if number not in missing])
    sender = only_sender(store)
    assert [(gap.label, gap.spans) for gap in sender.gaps] == [("17–19", 17 + 18 + 19), ("25", 25)]
    assert (sender.lost, sender.lost_by, sender.outstanding) == (79, {"missing_batches": 79}, 0)
    assert (sender.sent, sender.stored, sender.missing_batches) == (465, 465 - 79, 4)


def test_batches_before_the_first_that_came_are_missing_too(store):
    sidecar = Sidecar()
    sidecar.batch(6), sidecar.batch(7)
    arrive(store, sidecar.batch(8, last=True))
    sender = only_sender(store)
    assert (sender.gaps, sender.lost) == ((Gap(1, 2, 13, BASE_NS),), 13)


def test_a_gap_of_a_sender_that_still_runs_is_outstanding_however_old(store):
    sidecar = Sidecar()
    first, late, third = sidecar.batch(5), sidecar.batch(6), sidecar.batch(7)
    arrive(store, first, third)
    arrive(store, sidecar.batch(1), at_s=3000)
    sender = only_sender(store, as_of(3100))
    assert (sender.state, sender.lost, sender.outstanding) == (SenderState.RUNNING, 0, 6)
    assert [gap.label for gap in sender.gaps] == ["2"]
    arrive(store, late, at_s=3150)  # from the spool
    sender = only_sender(store, as_of(3200))
    assert (sender.lost, sender.outstanding, sender.missing_batches, sender.stored) == (0, 0, 0, 19)


def test_after_the_last_batch_the_grace_is_waited_out(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch(5))
    late = sidecar.batch(6)
    arrive(store, sidecar.batch(7, last=True), at_s=100)
    for second, settled, outstanding, lost in ((100.001, False, 6, 0), (399.9, False, 6, 0), (400, True, 0, 6)):
        sender = only_sender(store, as_of(second))
        assert (sender.state, sender.settled) == (SenderState.ENDED, settled)
        assert (sender.outstanding, sender.lost) == (outstanding, lost)
    assert only_sender(store, as_of(200), grace_s=50).lost == 6
    arrive(store, late, at_s=500)  # whatever comes after all is believed
    assert (only_sender(store, as_of(600)).lost, only_sender(store, as_of(900)).stored) == (0, 18)


def test_a_sender_that_fell_silent_keeps_its_gaps_outstanding(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch(5))
    sidecar.batch(6)
    arrive(store, sidecar.batch(7))
    sender = only_sender(store)
    assert (sender.state, sender.outstanding, sender.lost) == (SenderState.SILENT, 6, 0)


def test_what_the_sender_gave_up_is_lost_before_it_ends(store):
    """It has dropped a numbered batch from its spool: the gap and the counter are one loss, not two."""
    sidecar = Sidecar()
    arrive(store, sidecar.batch(5))
    sidecar.batch(6), sidecar.batch(8)
    sidecar.dropped["spool_full"] += 6
    arrive(store, sidecar.batch(1))
    sender = only_sender(store, as_of(1))
    assert (sender.state, sender.lost_by, sender.outstanding) == (SenderState.RUNNING, {"missing_batches": 6}, 8)
    arrive(store, sidecar.batch(0, last=True))
    assert only_sender(store).lost_by == {"missing_batches": 14}


def test_a_batch_that_was_given_up_and_came_after_all_is_not_lost(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch(5))  # stored, but the answer got lost and then the collector refused it
    sidecar.dropped["refused"] += 5
    arrive(store, sidecar.batch(1, last=True))
    assert (only_sender(store).lost, only_sender(store).stored) == (0, 6)


def test_dropped_spans_are_lost_by_reason(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch(10))
    sidecar.drop("buffer_full", 12)
    sidecar.drop("internal_error", 1)
    arrive(store, sidecar.batch(10))
    sidecar.drop("buffer_full", 3)
    arrive(store, sidecar.batch(0, last=True))
    sender = only_sender(store)
    assert sender.lost_by == {"buffer_full": 15, "internal_error": 1}
    assert (sender.lost, sender.sent, sender.recorded, sender.stored) == (16, 20, 36, 20)


def test_spans_that_the_sender_cannot_account_for_are_lost(store):
    sidecar = Sidecar()
    sidecar.recorded += 4  # recorded, and neither sent nor dropped
    arrive(store, sidecar.batch(10))
    assert only_sender(store).lost == 0  # they may still be in its buffer
    arrive(store, sidecar.batch(0, last=True))
    assert only_sender(store).lost_by == {"unaccounted": 4}


def test_requests_that_sampling_left_out_are_not_lost(store):
    sidecar = Sidecar(sampled_out={"rate": 90}, kept={"rate": 10, "slow": 2})
    sidecar.recorded += 540
    arrive(store, sidecar.batch(10, last=True))
    sender = only_sender(store)
    assert (sender.lost, sender.kept, sender.sampled_out) == (0, {"rate": 10, "slow": 2}, {"rate": 90})


def test_rejected_spans_are_lost_once(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch([span(), span(trace_id=b"short"), span()]))
    sidecar.dropped["rejected"] += 1  # as the collector told it
    arrive(store, sidecar.batch(0, last=True))
    sender = only_sender(store)
    assert (sender.lost_by, sender.stored, sender.sent) == ({"rejected": 1}, 2, 3)


def test_order_and_repetition_change_no_count(store):
    sidecar = Sidecar()
    messages = [sidecar.batch(number) for number in range(1, 9)] + [sidecar.batch(2, last=True)]
    arrive_at(store, [(second, messages[at]) for second, at in enumerate([4, 8, 0, 1, 1, 7, 3, 2, 6, 5, 1, 8])])
    sender = only_sender(store)
    assert (sender.batches, sender.stored, sender.sent, sender.lost) == (9, 38, 38, 0)
    assert (sender.repeated_batches, sender.repeated_spans) == (2, 2 + 2 + 2)


def test_a_batch_that_was_split_on_its_way_counts_as_the_sum_of_its_parts(store):
    """As a batch processor in between may do; if a part gets lost, it is known."""
    sidecar = Sidecar()
    parts = [sidecar.batch(6), None]
    parts[1] = type(parts[0]).FromString(parts[0].SerializeToString())
    del parts[0].resource_spans[0].scope_spans[0].spans[4:]
    del parts[1].resource_spans[0].scope_spans[0].spans[:4]
    arrive(store, parts[0], sidecar.batch(1, last=True))
    sender = only_sender(store)
    assert (sender.stored, sender.lost, sender.short_batches) == (5, 2, 1)
    arrive(store, parts[1])
    sender = only_sender(store)
    assert (sender.stored, sender.lost, sender.short_batches, sender.repeated_batches) == (7, 0, 0, 0)


def test_senders_of_one_host_are_one_device(store):
    one, two, other = Sidecar(service="ranker"), Sidecar(service="camera"), Sidecar(host="edge-8")
    arrive(store, one.batch(5), two.batch(7), one.batch(5, last=True), other.batch(1))
    two.drop("buffer_full", 2)
    arrive(store, two.batch(0, last=True), two.batch(0))
    devices = delivery(store, HOUR_LATER).devices
    assert [(device.host, device.sent, device.lost) for device in devices] == [("edge-7", 17, 2), ("edge-8", 1, 0)]
    assert [(sender.service, sender.sent, sender.lost) for sender in devices[0].senders] == [
        ("camera", 7, 2), ("ranker", 10, 0),
    ]  # fmt: skip
    assert devices[0].lost_by == {"buffer_full": 2}


def test_two_processes_with_one_sender_id_are_noticed(store):
    sidecar = Sidecar()
    arrive(store, sidecar.batch(5))
    twin = Sidecar(id=sidecar.id, number=1, recorded=5, sent=5)
    arrive(store, sidecar.batch(3), twin.batch(9))
    assert only_sender(store).contradictions == 1


def test_window_and_filters_choose_senders_and_their_whole_life_counts(store):
    old, new = Sidecar(host="h1", service="a"), Sidecar(host="h2", service="b")
    arrive(store, old.batch(5), new.batch(3))
    arrive(store, new.batch(4), at_s=100)
    arrive(store, new.batch(5), at_s=200)
    later = Window(BASE_NS + 50 * S, BASE_NS + 150 * S)
    [device] = delivery(store, later).devices
    assert (device.host, device.sent) == ("h2", 7)  # as of the window's end, from the sender's beginning
    for filters in (Filters(host=("h1",)), Filters(service=("a", "x")), Filters(version=("1.2",), host=("h1", "h3"))):
        assert [device.host for device in delivery(store, HOUR_LATER, filters).devices] == ["h1"]
    with pytest.raises(NoSendersError, match="host=h3"):
        delivery(store, HOUR_LATER, Filters(host=("h3",)))


def test_spans_of_others_are_not_spoken_about(store):
    arrive(store, request([span()]))
    with pytest.raises(NoSendersError):
        delivery(store, HOUR_LATER)
    assert senders_heard(store) is None
    arrive(store, Sidecar(host="h1").batch(1))
    window, names = senders_heard(store)
    assert window.since_ns == BASE_NS
    assert names == {"host": ["h1"], "service": ["ranker"]}


def test_a_question_that_makes_no_sense_is_refused(store):
    with pytest.raises(QuestionError, match="a batch has no stage"):
        delivery(store, HOUR_LATER, Filters(stage=("queue",)))
    with pytest.raises(QuestionError, match="grace"):
        delivery(store, HOUR_LATER, grace_s=-1)


def test_many_gaps_are_counted_and_the_first_are_listed(store):
    sidecar = Sidecar()
    messages = [sidecar.batch(1) for _ in range(301)]
    arrive(store, *messages[::2])
    sender = only_sender(store)
    assert (sender.gap_count, sender.missing_batches, sender.outstanding) == (150, 150, 150)
    assert [gap.first for gap in sender.gaps] == list(range(2, 202, 2))


def test_a_number_out_of_all_bounds_is_told_and_not_counted_out(store):
    sidecar = Sidecar(number=2**62, sent=2**62)
    arrive(store, sidecar.batch(1))
    sender = only_sender(store)
    assert (sender.missing_batches, sender.outstanding, sender.highest) == (2**62, 2**62, 2**62 + 1)


# --- the definitions a second time: loops over what really happened, which know nothing of the counters on the wire ---

BATCH = st.tuples(
    st.integers(0, 9),  # spans
    st.integers(0, 3),  # spans dropped before it
    st.sampled_from(["arrives", "arrives", "arrives", "twice", "never", "given up"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(st.tuples(st.lists(BATCH, min_size=1, max_size=12), st.booleans()), min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
    after_s=st.sampled_from([1.0, 299.0, 301.0]),
)
def test_any_order_of_arrival_equals_brute_force(engine, lives, order, after_s):
    engine.run("TRUNCATE TABLE sender_batches")
    arrivals = []
    sidecars = []
    for fates, ends in lives:
        sidecar = Sidecar()
        sidecars.append(sidecar)
        for at, (spans, dropped, fate) in enumerate(fates):
            if dropped:
                sidecar.drop("buffer_full", dropped)
            message = sidecar.batch(spans, last=ends and at == len(fates) - 1)
            arrivals += [(sidecar, message)] * {"arrives": 1, "twice": 2}.get(fate, 0)
            if fate == "given up":
                sidecar.dropped["refused"] += spans
    order.shuffle(arrivals)
    halves = [(second, message) for second, (_, message) in enumerate(arrivals)]
    for half in (halves[::2], halves[1::2]):
        arrive_at(engine, half)
    window = as_of(len(arrivals) - 1 + after_s)
    if not arrivals:
        with pytest.raises(NoSendersError):
            delivery(engine, window)
        return
    [device] = delivery(engine, window).devices
    found = {sender.sender: sender for sender in device.senders}
    heard = {sidecar.id: second for second, (sidecar, _) in enumerate(arrivals)}
    assert found.keys() == heard.keys()
    for sidecar, (fates, ends) in zip(sidecars, lives, strict=True):
        there = [number for number, (_, _, fate) in enumerate(fates, 1) if fate in ("arrives", "twice")]
        if not there:
            continue
        known = list(enumerate(fates[: max(there)], 1))  # of what came after the highest number nobody can know
        absent = [(number, spans) for number, (spans, _, _) in known if number not in there]
        # what was given up is known from the last that came behind it
        given_up = sum(spans for _, (spans, _, fate) in known[:-1] if fate == "given up")
        missing = sum(spans for _, spans in absent)
        has_last = ends and max(there) == len(fates)
        quiet = len(arrivals) - 1 + after_s - heard[sidecar.id] >= 300
        lost = missing if has_last and quiet else given_up
        sender = found[sidecar.id]
        assert sender.lost_by.get("missing_batches", 0) == lost
        assert sender.outstanding == missing - lost
        assert sender.lost_by.get("buffer_full", 0) == sum(dropped for _, (_, dropped, _) in known)
        assert sender.stored == sum(spans for number, (spans, _, _) in known if number in there)
        assert sender.sent == sum(spans for _, (spans, _, _) in known)
        assert sender.repeated_batches == sum(fate == "twice" for _, (_, _, fate) in known)
        assert sender.repeated_spans == sum(spans for _, (spans, _, fate) in known if fate == "twice")
        gaps = {number for gap in sender.gaps for number in range(gap.first, gap.last + 1)}
        assert gaps == {number for number, _ in absent}
        assert sum(gap.spans for gap in sender.gaps) == missing
        assert sender.state == ("ended" if has_last else "silent" if quiet else "running")
        assert sender.contradictions == 0
        assert sender.sent == sender.stored + sender.lost_by.get("missing_batches", 0) + sender.outstanding
    assert device.sent == sum(sender.sent for sender in device.senders)
    assert device.lost == sum(sender.lost for sender in device.senders)
