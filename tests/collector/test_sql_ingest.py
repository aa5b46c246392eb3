"""Inserts over the ClickHouse protocol: what another collector's store sends runs once, and nothing beside it."""

import time

import httpx
import pytest
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span
from testkit.ports import BOTH, READER, SENDER, as_caller, write_tokens
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.keep.records import encode_record
from tailsight_storage import (
    DataRefusedError,
    QueryFailedError,
    ServerDsn,
    insert_settings,
    load_query,
    open_store,
    parse_dsn,
)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    """A collector that asks for tokens."""
    folder = tmp_path_factory.mktemp("keeper")
    tokens = write_tokens(folder / "tokens.txt")
    with CollectorProcess(folder / "data", "--tokens", str(tokens)) as running:
        yield running


def url_of(collector):
    return "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")


@pytest.fixture
def sender(keeper):
    """The store as another collector opens it."""
    with open_store(as_caller(SENDER, keeper.store), create=True) as store:
        yield store


@pytest.fixture(scope="module")
def reader(keeper):
    with open_store(as_caller(READER, keeper.store)) as store:
        yield store


def segment_of(service, spans=3):
    message = request([span() for _ in range(spans)], {"service.name": service})
    return encode_record(message.SerializeToString(), time.time_ns())


def stored(reader, service):
    [(spans, ids)] = reader.rows(
        "SELECT count(), uniqExact(span_id) FROM spans WHERE service = {service:String}", service=service
    )
    [(rolled_up,)] = reader.rows(
        "SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service
    )
    assert spans == ids == rolled_up
    return spans


def insert_request(
    keeper, *, statement="INSERT INTO otlp_traces_in FORMAT Protobuf\n", token=SENDER, body=None, **changes
):
    """Send an insert as the store does, with changes to its settings; None takes one away."""
    settings = {**insert_settings(ServerDsn(""), "otlp_traces.proto", f"token-{time.time_ns()}"), **changes}
    params = {name: str(value) for name, value in settings.items() if value is not None}
    content = statement.encode() + (segment_of("refused") if body is None else body)
    return httpx.post(url_of(keeper), params=params, content=content, auth=("any", token), timeout=30)


def test_spans_and_metrics_of_another_collector_are_stored(sender, reader):
    sender.insert_otlp_traces(segment_of("from-another", 5), "another-segment-1")
    assert stored(reader, "from-another") == 5
    points = metrics_request([metric("hw.power", [point(7.0)])], {"host.name": "from-another"})
    sender.insert_otlp_metrics(encode_record(points.SerializeToString(), time.time_ns()), "another-metrics-1")
    assert reader.rows("SELECT value FROM hardware_samples WHERE host = 'from-another'") == [(7.0,)]


def test_the_same_token_again_adds_nothing_and_another_does(sender, reader):
    segment = segment_of("repeated")
    for _ in range(3):
        sender.insert_otlp_traces(segment, "repeated-1")
    assert stored(reader, "repeated") == 3
    sender.insert_otlp_traces(segment_of("repeated"), "repeated-2")
    assert stored(reader, "repeated") == 6


def test_a_token_is_remembered_after_the_keeper_was_killed(keeper, sender, reader):
    segment = segment_of("remembered")
    sender.insert_otlp_traces(segment, "remembered-1")
    keeper.kill()
    keeper.start()
    sender.insert_otlp_traces(segment, "remembered-1")
    assert stored(reader, "remembered") == 3


def test_bytes_that_cannot_be_read_are_refused_as_data(sender):
    with pytest.raises(DataRefusedError):
        sender.insert_otlp_traces(b"\x07\xff\xff\xff\xff\xff\xff\xff", "garbage-1")


def test_a_large_segment_comes_through_whole(sender, reader):
    spans = [span(attributes={"text": "x" * 100_000}) for _ in range(200)]
    record = encode_record(request(spans, {"service.name": "large"}).SerializeToString(), time.time_ns())
    sender.insert_otlp_traces(record, "large-1")
    assert stored(reader, "large") == 200


def test_an_up_to_date_store_opens_for_who_may_only_send_and_for_who_may_only_read(keeper):
    for token in (SENDER, READER, BOTH):
        with open_store(as_caller(token, keeper.store), create=True) as store:
            assert store.migrate() == []


def test_who_may_only_read_cannot_insert(keeper, reader):
    answer = insert_request(keeper, token=READER)
    assert answer.status_code == 403
    assert "ingest" in answer.text
    assert stored(reader, "refused") == 0


def test_who_may_only_send_asks_what_a_collector_asks_at_its_start(sender):
    query = load_query("tailsight_collector", "recent_batches")
    assert sender.ask(query, limit=10) == []


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM spans", "SELECT count() FROM stage_latency_1m", "SELECT 1 IN spans", "SELECT (1, 2) IN tailsight.spans", "SELECT globalNullIn(1, spans)", "SHOW TABLES", "SHOW DATABASES",
     "DESCRIBE TABLE spans", "SHOW CREATE TABLE spans", "EXISTS TABLE spans", "SELECT * FROM system.tables", "SELECT * FROM system.parts",
     "SELECT * FROM numbers(3)", "SELECT * FROM tailsight.sender_batches", "WITH s AS (SELECT * FROM spans) SELECT * FROM s",
     "SELECT name FROM system.settings UNION ALL SELECT name FROM spans", "SELECT version FROM schema_migrations WHERE 1 IN (SELECT 1 FROM spans)",
     "SELECT m.version FROM schema_migrations m JOIN spans s ON 1", "SELECT * FROM merge('spans')"],
)  # fmt: skip
def test_who_may_only_send_reads_nothing_of_what_others_sent(keeper, query):
    answer = httpx.post(url_of(keeper), content=query, auth=("any", SENDER))
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO spans FORMAT Protobuf\n", "INSERT INTO schema_migrations FORMAT Native\n", "INSERT INTO otlp_traces_in FORMAT Native\n",
     "INSERT INTO otlp_traces_in FORMAT Protobuf SETTINGS async_insert=1\n", "INSERT INTO otlp_traces_in SETTINGS async_insert=1 FORMAT Protobuf\n",
     "INSERT INTO otlp_traces_in (resource_spans) FORMAT Protobuf\n", "INSERT INTO otlp_traces_in SELECT * FROM spans\n",
     "INSERT INTO system.otlp_traces_in FORMAT Protobuf\n", "INSERT INTO FUNCTION file('x') FORMAT Protobuf\n",
     "INSERT INTO otlp_traces_in FROM INFILE '/etc/passwd' FORMAT Protobuf\n", "insert into otlp_traces_in values ('x')\n",
     "INSERT INTO `otlp_traces_in` FORMAT Protobuf\n", "INSERT INTO otlp_traces_in FORMAT Protobuf; DROP TABLE spans\n",
     "INSERT INTO otlp_traces_in /* x */ FORMAT Protobuf\n", "INSERT INTO TABLE FUNCTION url('http://127.0.0.1') FORMAT Protobuf\n",
     "/* x */ INSERT INTO spans FORMAT Protobuf\n", "INSERT INTO otlp_traces_in FORMAT Protobuf" + " " * 5000],
)  # fmt: skip
def test_other_inserts_are_refused(keeper, reader, statement):
    answer = insert_request(keeper, statement=statement)
    assert answer.status_code in (400, 403), answer.text
    assert answer.headers["x-clickhouse-exception-code"] in ("497", "62")
    assert stored(reader, "refused") == 0


@pytest.mark.parametrize(
    "changes",
    [{"async_insert": 1}, {"insert_deduplicate": 0}, {"max_memory_usage": 0}, {"max_memory_usage": 10**15}, {"max_memory_usage": "1; DROP"},
     {"insert_deduplication_token": None}, {"insert_deduplication_token": ""}, {"insert_deduplication_token": "a'b c\n12"},
     {"insert_deduplication_token": "x" * 300}, {"format_schema": None}, {"format_schema": 'syntax = "proto3"; message Export {}'},
     {"format_schema": "/etc/passwd:Export", "format_schema_source": "file"}, {"format_schema_message_name": "Other"},
     {"deduplicate_blocks_in_dependent_materialized_views": 0}, {"readonly": 0}, {"max_threads": 64}, {"log_comment": "x"},
     {"input_format_allow_errors_num": 5}, {"param_x": "1"}, {"role": "admin"}],
)  # fmt: skip
def test_settings_of_an_insert_are_the_stores_own(keeper, reader, changes):
    answer = insert_request(keeper, **changes)
    assert answer.status_code == 403, answer.text
    assert answer.headers["x-clickhouse-exception-code"] == "497"
    assert stored(reader, "refused") == 0


def test_less_memory_may_be_asked_for_and_the_statement_may_stand_in_the_address(keeper, reader):
    params = {
        **insert_settings(ServerDsn(""), "otlp_traces.proto", "in-the-address"),
        "max_memory_usage": 10**9,
        "query": "INSERT INTO tailsight.otlp_traces_in FORMAT Protobuf",
        "database": "tailsight",
    }
    answer = httpx.post(url_of(keeper), params=params, content=segment_of("addressed"), auth=("any", BOTH))
    assert answer.status_code == 200, answer.text
    assert stored(reader, "addressed") == 3


def test_a_refusal_is_not_taken_as_one_of_the_bytes(keeper, tmp_path):
    """Else the sender's loader would put acknowledged spans into quarantine because of a token."""
    with open_store(as_caller(READER, keeper.store)) as store:
        store._client.server_settings.clear()  # else the driver itself would not send the settings
        with pytest.raises(QueryFailedError) as caught:
            store.insert_otlp_traces(segment_of("refused"), "read-only-1")
    assert not isinstance(caught.value, DataRefusedError)


def test_tables_are_changed_by_nobody_and_the_message_says_what_to_do(keeper):
    with open_store(as_caller(BOTH, keeper.store)) as store:
        for statement in ("CREATE TABLE x (a UInt8) ENGINE = Memory", "DROP TABLE spans", "TRUNCATE TABLE spans"):
            with pytest.raises(QueryFailedError) as caught:
                store.run(statement)
            assert caught.value.code == 497


def test_without_tokens_nothing_is_inserted_unless_it_is_said_so(collector, tmp_path):
    with open_store(collector.store, create=True) as store:
        store._client.server_settings.clear()
        with pytest.raises(QueryFailedError, match="--sql-ingest") as caught:
            store.insert_otlp_traces(segment_of("not-asked"), "not-asked-1")
    assert caught.value.code == 497
    with (
        CollectorProcess(tmp_path, "--sql-ingest") as open_to_all,
        open_store(open_to_all.store, create=True) as store,
    ):
        store.insert_otlp_traces(segment_of("asked"), "asked-1")
        assert stored(store, "asked") == 3


def test_a_sender_that_leaves_in_the_middle_leaves_nothing_behind(keeper, sender, reader):
    dsn = parse_dsn(keeper.store)
    segment = segment_of("cut")
    params = httpx.QueryParams(
        {k: str(v) for k, v in insert_settings(ServerDsn(""), "otlp_traces.proto", "cut-1234").items()}
    )

    def half():
        yield b"INSERT INTO otlp_traces_in FORMAT Protobuf\n" + segment[: len(segment) // 2]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        httpx.post(f"http://{dsn.host}:{dsn.port}/", params=params, content=half(), auth=("any", SENDER))
    assert stored(reader, "cut") == 0
    sender.insert_otlp_traces(segment, "cut-1234")
    eventually(lambda: stored(reader, "cut") == 3, "the whole segment is stored")
