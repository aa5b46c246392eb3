import fcntl
import time
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span, span_id, trace_id

from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.checks import rejection
from tailsight_storage import DataRefusedError, QueryFailedError, decode_attributes, load_query, open_store, parse_dsn
from tailsight_storage import store as store_module
from tailsight_storage.errors import StoreInUseError, StoreUnavailableError
from tailsight_storage.migrations import load_migrations, migrate

DAY_NS = 86_400 * 10**9


def insert(store, *requests, token=None, received_ns=None):
    received_ns = received_ns or time.time_ns()
    segment = b"".join(encode_record(each.SerializeToString(), received_ns) for each in requests)
    store.insert_otlp_traces(segment, token or f"token-{time.time_ns()}")


def count(store, table="spans"):
    return store.rows(f"SELECT count() FROM {table}")[0][0]


def test_every_column_of_the_design_is_filled(store):
    start_ns = time.time_ns() - 5 * 10**9
    sent = span(
        trace_id=bytes(range(1, 17)),
        span_id=bytes(range(1, 9)),
        parent_span_id=bytes(range(2, 10)),
        name="run model",
        kind=2,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + 12_345,
        status={"code": 2, "message": "out of memory"},
        attributes={"tailsight.stage": "compute", "tailsight.model": "m1", "thread.id": 77, "tokens": 12},
        events=[{"time_unix_nano": start_ns + 5, "name": "retry"}],
        links=[{"trace_id": trace_id(9), "span_id": span_id(8)}],
    )
    resource = {
        "service.name": "ranker", "service.version": "1.2", "host.name": "h1", "cloud.region": "eu",
        "deployment.environment.name": "prod", "tailsight.run": "r1", "tailsight.hardware": "NVIDIA L4",
    }  # fmt: skip
    insert(store, request([sent], resource))
    columns = (
        "toUnixTimestamp64Nano(start_time), duration_ns, trace_id_hex, span_id_hex, parent_span_id_hex, service, stage, "
        "name, kind, status, status_message, hardware, host, region, environment, version, run, model, thread_id, "
        "attributes['tokens'], resource['service.name'], events.name, toUnixTimestamp64Nano(events.time[1]), "
        "hex(links.trace_id[1]), hex(links.span_id[1])"
    )
    [row] = store.rows(f"SELECT {columns} FROM spans")
    assert row == (
        start_ns, 12_345, bytes(range(1, 17)).hex(), bytes(range(1, 9)).hex(), bytes(range(2, 10)).hex(), "ranker",
        "compute", "run model", "SERVER", "ERROR", "out of memory", "NVIDIA L4", "h1", "eu", "prod", "1.2", "r1", "m1",
        77, "12", "ranker", ["retry"], start_ns + 5, trace_id(9).hex(), span_id(8).hex().upper(),
    )  # fmt: skip


def test_a_root_has_no_parent_in_hex(store):
    insert(store, request([span()]))
    assert store.rows("SELECT parent_span_id_hex FROM spans") == [("",)]


def test_the_spans_own_hardware_comes_before_its_resources(store):
    spans = [span(attributes={"tailsight.hardware": "NVIDIA H100"}), span()]
    insert(store, request(spans, {"tailsight.hardware": "AMD EPYC"}))
    assert store.rows("SELECT hardware, count() FROM spans GROUP BY hardware ORDER BY hardware") == [
        ("AMD EPYC", 1),
        ("NVIDIA H100", 1),
    ]


SCALARS = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.none(), st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(attributes=st.dictionaries(st.text(min_size=1, max_size=6), VALUES, max_size=6))
def test_attributes_of_every_type_come_back_as_sent(engine, attributes):
    store = engine
    sent = span(attributes=attributes)
    insert(store, request([sent], {"service.name": "roundtrip", **attributes}))
    [(values, types, resource, resource_types)] = store.rows(
        "SELECT attributes, attribute_types, resource, resource_types FROM spans WHERE span_id_hex = {id:String}",
        id=sent["span_id"].hex(),
    )
    assert decode_attributes(values, types) == attributes
    assert decode_attributes(resource, resource_types) == {"service.name": "roundtrip", **attributes}


def test_deep_nesting_comes_back_as_sent(store):
    deep = {"list": [[[[["bottom", -1, 0.5, True, None, b"\x00"]]]]], "map": {"a": {"b": {"c": {"d": {}}}}}}
    insert(store, request([span(attributes=deep)]))
    [(values, types)] = store.rows("SELECT attributes, attribute_types FROM spans")
    assert decode_attributes(values, types) == deep


def test_arrays_read_as_json_in_sql(store):
    insert(store, request([span(attributes={"tags": ["a", "b"], "sizes": [1, 2.0], "map": {"k": [True]}})]))
    query = "SELECT attributes['tags'], attributes['sizes'], attributes['map'] FROM spans"
    assert store.rows(query) == [('["a","b"]', "[1,2.0]", '{"k":[true]}')]


RECEIVED_NS = time.time_ns()
IDS = st.one_of(st.binary(max_size=20), st.just(bytes(8)), st.just(bytes(16)), st.binary(min_size=8, max_size=8))
TIMES = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(946_684_800 * 10**9 - 2, 946_684_800 * 10**9 + 2),
    st.integers(-2, 2).map(lambda delta: RECEIVED_NS + DAY_NS + delta),
    st.just(1_500_000_000 * 10**9),
)
CASES = st.tuples(st.one_of(IDS, st.binary(min_size=16, max_size=16)), IDS, IDS, TIMES, TIMES)


@settings(max_examples=25, deadline=None)
@given(cases=st.lists(CASES, min_size=1, max_size=30))
def test_the_store_rejects_what_the_collector_says_it_rejects(engine, cases):
    store = engine
    batch = f"batch-{time.time_ns()}"
    wanted = [(rejection(*case, RECEIVED_NS), *case[:3], *case[3:]) for case in cases]
    spans = [
        span(
            name=batch, trace_id=trace, span_id=own, parent_span_id=parent, start_time_unix_nano=start_ns,
            end_time_unix_nano=end_ns,
        )
        for trace, own, parent, start_ns, end_ns in cases
    ]  # fmt: skip
    insert(store, request(spans), received_ns=RECEIVED_NS)
    rejected = store.rows(
        "SELECT reason, trace_id_hex, span_id_hex, parent_span_id_hex, start_time_unix_nano, end_time_unix_nano "
        "FROM rejected_spans WHERE name = {batch:String}",
        batch=batch,
    )
    assert sorted(rejected) == sorted(
        (reason, trace.hex(), own.hex(), parent.hex(), start_ns, end_ns)
        for reason, trace, own, parent, start_ns, end_ns in wanted
        if reason
    )
    stored = store.rows("SELECT count() FROM spans WHERE name = {batch:String}", batch=batch)
    assert stored == [(sum(not reason for reason, *_ in wanted),)]


def test_old_spans_and_any_mix_of_days_stay(store, admin):
    first_ns = 1_500_000_000 * 10**9  # July 2017
    spans = [
        span(start_time_unix_nano=first_ns + day * DAY_NS, end_time_unix_nano=first_ns + day * DAY_NS + 1)
        for day in range(500)
    ]
    insert(store, request(spans))
    admin.run("OPTIMIZE TABLE spans FINAL")  # would apply a TTL
    assert store.rows("SELECT count(), uniqExact(toDate(start_time)) FROM spans") == [(500, 500)]


def test_the_same_token_again_changes_no_table(store):
    good, bad = span(attributes={"tailsight.stage": "compute"}), span(trace_id=b"abc")
    batch = request([good, bad])
    received_ns = time.time_ns()
    for _ in range(3):
        insert(store, batch, token="same", received_ns=received_ns)
    assert count(store) == 1
    assert count(store, "rejected_spans") == 1
    assert store.rows("SELECT sum(spans) FROM stage_latency_1m") == [(1,)]


def test_the_same_bytes_with_another_token_are_another_batch(store):
    batch, received_ns = request([span()]), time.time_ns()
    insert(store, batch, token="one", received_ns=received_ns)
    insert(store, batch, token="two", received_ns=received_ns)
    assert count(store) == 2


def test_a_segment_loaded_again_after_midnight_is_still_known(store):
    """Partitions and their deduplication follow the arrival that the record carries, not the time of the insert."""
    received_ns = time.time_ns() - 2 * DAY_NS
    sent = request([span(start_time_unix_nano=received_ns - 5, end_time_unix_nano=received_ns)])
    for _ in range(2):
        insert(store, sent, token="night", received_ns=received_ns)
    assert store.rows("SELECT toDate(received_at) = today() - 2 FROM spans") == [(True,)]


def test_roll_up_equals_the_table(store):
    start_ns = 1_700_000_000 * 10**9
    spans = [
        span(
            start_time_unix_nano=start_ns + number * 10**9,
            end_time_unix_nano=start_ns + number * 10**9 + number * 1000,
            status={"code": 2 if number % 5 == 0 else 0},
            attributes={"tailsight.stage": ("queue", "compute")[number % 2]},
        )
        for number in range(200)
    ]
    insert(store, request(spans[:90]))
    insert(store, request(spans[90:]))
    by_minute = "SELECT {minute} AS m, stage, {count}, {errors}, {total}, {longest} FROM {table} GROUP BY m, stage ORDER BY m, stage"
    table = by_minute.format(
        minute="toStartOfMinute(start_time)", count="count()", errors="countIf(status = 'ERROR')",
        total="sum(duration_ns)", longest="max(duration_ns)", table="spans",
    )  # fmt: skip
    roll_up = by_minute.format(
        minute="minute", count="sum(spans)", errors="sum(errors)", total="sum(duration_sum_ns)",
        longest="max(duration_max_ns)", table="stage_latency_1m",
    )  # fmt: skip

    def plain(rows):
        return [tuple(str(value)[:19] for value in row) for row in rows]

    assert plain(store.rows(roll_up)) == plain(store.rows(table))
    [(estimated,)] = store.rows(
        "SELECT quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99, 0.999)(duration_quantiles)[1] FROM stage_latency_1m"
    )
    assert estimated == pytest.approx(99_500, rel=0.02)


def test_bytes_that_are_no_otlp_are_refused_as_data(store):
    with pytest.raises(DataRefusedError):
        store.insert_otlp_traces(b"\x07\xff\xff\xff\xff\xff\xff\xff", "garbage")
    assert count(store) == 0


def test_an_empty_envelope_stores_nothing(store):
    envelope = ExportTraceServiceRequest()
    envelope.resource_spans.add()
    insert(store, envelope)
    assert count(store) == 0


def test_queries_name_missing_and_unknown_parameters(store):
    query = load_query("tailsight_analysis", "whole_time")
    with pytest.raises(TypeError, match="nonsense"):
        store.ask(query, nonsense=1)


def test_a_wrong_statement_is_an_error_with_its_code(store):
    with pytest.raises(QueryFailedError) as caught:
        store.rows("SELECT nothing FROM nowhere")
    assert caught.value.code == 60


def test_migrations_are_numbered_without_gaps_and_run_once(store):
    versions = [migration.version for migration in load_migrations()]
    assert versions == list(range(1, len(versions) + 1))
    assert migrate(store) == []
    assert count(store, "schema_migrations") == len(versions)


def test_a_migration_that_changed_after_it_was_applied_is_refused(store, admin):
    from tailsight_storage import MigrationError

    admin.run("ALTER TABLE schema_migrations UPDATE checksum = 'other' WHERE version = 3 SETTINGS mutations_sync = 2")
    try:
        with pytest.raises(MigrationError, match="0003_spans"):
            migrate(store)
    finally:
        right = load_migrations()[2].checksum
        admin.run(
            "ALTER TABLE schema_migrations UPDATE checksum = {right:String} WHERE version = 3 SETTINGS mutations_sync = 2",
            right=right,
        )
    assert migrate(store) == []


def test_a_key_that_came_twice_with_two_types_keeps_its_text():
    assert decode_attributes({"k": "two", "n": "1"}, {"k": "int", "n": "int"}) == {"k": "two", "n": 1}
    assert decode_attributes({"k": "[1"}, {"k": "array"}) == {"k": "[1"}


def test_two_who_open_a_store_in_the_same_moment_are_told_who_came_second(tmp_path, monkeypatch):
    """The engine would only say that it cannot start."""
    dsn = parse_dsn(f"chdb://{tmp_path}")

    def too_late(*_: object, **__: object) -> None:
        dsn.engine_path.joinpath("status").touch()
        stack.enter_context(taken := (dsn.engine_path / "status").open("rb"))
        fcntl.flock(taken, fcntl.LOCK_EX)
        raise StoreUnavailableError("Error initializing EmbeddedServer")

    monkeypatch.setattr(store_module, "_connect", too_late)
    with ExitStack() as stack, pytest.raises(StoreInUseError, match="is in use by"):
        open_store(dsn, create=True)
