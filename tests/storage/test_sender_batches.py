"""The numbered batches of our SDK's senders, from the bytes of a segment into `sender_batches`."""

import time

import pytest
from testkit.otlp import any_value, request, span
from testkit.senders import Sidecar, apart

from tailsight_collector.keep.records import encode_record

DAY_NS = 86_400 * 10**9


def insert(store, *messages, token=None, received_ns=None):
    received_ns = received_ns or time.time_ns()
    segment = b"".join(encode_record(each.SerializeToString(), received_ns) for each in messages)
    store.insert_otlp_traces(segment, token or f"token-{time.time_ns()}")


def batches(store, columns="number"):
    rows = store.rows(f"SELECT {columns} FROM sender_batches ORDER BY sender, number")
    return rows if "," in columns else [row[0] for row in rows]


def with_scope(message, **changes):
    """Set attributes of the scope, `sender__id=…` for `tailsight.sender.id`; None takes one away."""
    attributes = message.resource_spans[0].scope_spans[0].scope.attributes
    for name, value in changes.items():
        key = "tailsight." + name.replace("__", ".")
        kept = [pair for pair in attributes if pair.key != key]
        del attributes[:]
        attributes.extend(kept)
        if value is not None:
            attributes.add(key=key, value=any_value(value))
    return message


def test_every_attribute_of_the_wire_contract_has_its_column(store):
    sidecar = Sidecar(
        host="edge-7", service="ranker", id="00c0ffee00c0ffee", sampled_out={"rate": 40}, kept={"slow": 2}
    )
    sidecar.drop("buffer_full", 7)
    sidecar.drop("internal_error", 1)
    message = sidecar.batch(3, last=True, priority="high")
    for key, value in {"cloud.region": "eu", "tailsight.hardware": "Jetson", "tailsight.run": "r1"}.items():
        message.resource_spans[0].resource.attributes.add(key=key, value=any_value(value))
    received_ns = time.time_ns() // 10**6 * 10**6
    insert(store, message, received_ns=received_ns)
    columns = (
        "toUnixTimestamp64Milli(received_at), sender, number, priority, service, host, region, hardware, version, run, "
        "spans, arrived, rejected, stored, recorded, sent_total, dropped, sampled_out, kept, last"
    )
    assert batches(store, columns) == [(
        received_ns // 10**6, "00c0ffee00c0ffee", 1, "high", "ranker", "edge-7", "eu", "Jetson", "1.2", "r1",
        3, 3, 0, 3, 11, 3, {"buffer_full": 7, "internal_error": 1}, {"rate": 40}, {"slow": 2}, True,
    )]  # fmt: skip
    assert store.rows("SELECT count() FROM spans") == [(3,)]


def test_a_batch_without_spans_reports_its_counters(store):
    sidecar = Sidecar(dropped={"spool_full": 5})
    insert(store, sidecar.batch(0, last=True))
    assert batches(store, "number, spans, arrived, dropped, last") == [(1, 0, 0, {"spool_full": 5}, True)]
    assert store.rows("SELECT count() FROM spans") == [(0,)]


def test_a_segment_that_is_inserted_again_adds_nothing(store):
    sidecar, received_ns = Sidecar(), time.time_ns() - 2 * DAY_NS  # found again after two midnights
    messages = [sidecar.batch(), sidecar.batch(), request([span()])]
    for _ in range(3):
        insert(store, *messages, token="same", received_ns=received_ns)
    assert batches(store) == [1, 2]
    assert store.rows("SELECT DISTINCT toDate(received_at) = today() - 2 FROM sender_batches") == [(True,)]


def test_a_batch_that_was_sent_twice_leaves_two_rows(store):
    message = Sidecar().batch()
    insert(store, message)
    insert(store, message)
    assert batches(store) == [1, 1]


def test_rejected_spans_are_not_counted_as_stored(store):
    spans = [span(), span(trace_id=b"short"), span(start_time_unix_nano=0, end_time_unix_nano=1), span()]
    insert(store, Sidecar().batch(spans))
    assert batches(store, "spans, arrived, rejected, stored") == [(4, 4, 2, 2)]
    assert store.rows("SELECT (SELECT count() FROM spans), (SELECT count() FROM rejected_spans)") == [(2, 2)]


def test_several_resources_and_scopes_in_one_request_are_told_apart(store):
    """As something between the sender and the collector may put them together."""
    first, second, other = Sidecar(id="a", host="h1"), Sidecar(id="b", host="h2"), request([span()] * 3)
    both = first.batch(2)
    both.resource_spans[0].scope_spans.append(first.batch(4).resource_spans[0].scope_spans[0])
    both.resource_spans[0].scope_spans.append(other.resource_spans[0].scope_spans[0])
    both.resource_spans.extend([*other.resource_spans, *second.batch(5).resource_spans])
    insert(store, both)
    assert batches(store, "sender, number, host, arrived") == [("a", 1, "h1", 2), ("a", 2, "h1", 4), ("b", 1, "h2", 5)]
    assert store.rows("SELECT count() FROM spans") == [(2 + 4 + 3 + 3 + 5,)]


@pytest.mark.parametrize(
    "changes",
    [
        {"batch__number": None}, {"batch__number": 0}, {"batch__number": -1}, {"batch__number": "1"},
        {"batch__number": [1]}, {"sender__id": None}, {"sender__id": ""}, {"sender__id": 7},
    ],
)  # fmt: skip
def test_without_a_sender_and_a_number_the_spans_are_stored_and_nothing_is_counted(store, changes):
    insert(store, with_scope(Sidecar().batch(2), **changes))
    assert batches(store) == []
    assert store.rows("SELECT count() FROM spans") == [(2,)]


def test_odd_counters_lose_no_batch_and_no_span(store):
    odd = [
        {"sender__dropped": "many"}, {"sender__dropped": {"a": "x", "b": -4, "c": 2}}, {"sender__dropped": None},
        {"sender__recorded": -1}, {"sender__spans": 2**63 - 1}, {"batch__spans": "2"}, {"sender__last": "yes"},
    ]  # fmt: skip
    sidecar = Sidecar()
    insert(store, *[with_scope(sidecar.batch(2), **changes) for changes in odd])
    assert batches(store) == [1, 2, 3, 4, 5, 6, 7]
    assert batches(store, "dropped, recorded, sent_total, spans, last")[:7] == [
        ({}, 2, 2, 2, False), ({"a": 0, "b": 0, "c": 2}, 4, 4, 2, False), ({}, 6, 6, 2, False), ({}, 0, 8, 2, False),
        ({}, 10, 2**63 - 1, 2, False), ({}, 12, 12, 0, False), ({}, 14, 14, 2, False),
    ]  # fmt: skip
    assert store.rows("SELECT count() FROM spans") == [(14,)]


def test_the_senders_counters_do_not_stand_beside_every_span(store):
    insert(store, apart(Sidecar().batch(3)))
    assert store.rows("SELECT scope_attributes, scope_name, count() FROM spans GROUP BY ALL") == [({}, "tailsight", 3)]


def test_spans_in_a_scope_of_their_own_are_counted_as_the_batchs(store):
    sidecar = Sidecar()
    bad = [span(), {**span(), "trace_id": b"short"}, span()]
    for message in (sidecar.batch(7), sidecar.batch(bad), sidecar.batch(0, last=True)):
        insert(store, apart(message) if message.resource_spans[0].scope_spans[0].spans else message)
    assert store.rows("SELECT number, spans, arrived, rejected, stored FROM sender_batches ORDER BY number") == [
        (1, 7, 7, 0, 7),
        (2, 3, 3, 1, 2),
        (3, 0, 0, 0, 0),
    ]


def test_scope_attributes_of_others_stay_as_they_were(store):
    message = request([span()])
    scope = message.resource_spans[0].scope_spans[0].scope
    for key, value in {"library": "x", "tailsight.other": 1}.items():
        scope.attributes.add(key=key, value=any_value(value))
    insert(store, message)
    assert store.rows("SELECT scope_attributes FROM spans") == [({"library": "x", "tailsight.other": "1"},)]


def test_numbers_are_remembered_longer_than_spans(store):
    """A number that was forgotten would look like one that never came."""
    [(create,)] = store.rows(
        "SELECT create_table_query FROM system.tables WHERE name = 'sender_batches' AND database = currentDatabase()"
    )
    assert "toIntervalDay(400)" in create
