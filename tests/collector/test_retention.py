import time

import httpx
import pytest
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess, eventually

from tailsight_collector import SettingsError
from tailsight_collector.keep.records import encode_record
from tailsight_collector.retention import COLUMNS, Retention
from tailsight_storage import QueryFailedError

DAY_NS = 86_400 * 10**9
DEFAULTS = {"spans": 30, "rejected_spans": 30, "stage_latency_1m": 400, "hardware_samples": 30, "sender_batches": 400}


@pytest.fixture
def store(store):
    """A store whose tables have the times of a new one."""
    Retention(DEFAULTS).apply(store)
    return store


def segment(age_days, count=1):
    """A segment that arrived some days ago."""
    received_ns = time.time_ns() - age_days * DAY_NS
    spans = [span(start_time_unix_nano=received_ns, end_time_unix_nano=received_ns + 5) for _ in range(count)]
    return encode_record(request(spans).SerializeToString(), received_ns)


def counts(store):
    [[spans]] = store.rows("SELECT count() FROM spans")
    [[rolled_up]] = store.rows("SELECT sum(spans) FROM stage_latency_1m")
    return spans, rolled_up


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ([], {}),
        (["spans=14", "stage_latency_1m=forever"], {"spans": 14, "stage_latency_1m": 0}),
        (["rejected_spans=0", " sender_batches = 36500 "], {"rejected_spans": 0, "sender_batches": 36500}),
    ],
)
def test_days_are_read(words, days):
    assert Retention.of(words).days == days


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["span=14"], "no table 'span'"),
        (["schema_migrations=1"], "no table"),
        (["spans"], "no number of days"),
        (["spans=-1"], "'-1'"),
        (["spans=1.5"], "'1.5'"),
        (["spans=1d"], "'1d'"),
        (["spans=٣"], "'٣'"),
        (["spans=36501"], "36500"),
        (["spans=1", "spans=2"], "twice"),
        (["spans=1) SETTINGS x=1 --"], "no number of days"),
    ],
)
def test_what_is_no_retention_is_named(words, named):
    with pytest.raises(SettingsError, match="--retain") as caught:
        Retention.of(words)
    assert named in str(caught.value)


def test_only_what_differs_is_changed(store):
    assert Retention(DEFAULTS).apply(store) == []
    assert Retention({"spans": 7, "rejected_spans": 30}).apply(store) == ["spans"]
    assert Retention({"spans": 7, "rejected_spans": 30}).apply(store) == []
    for table in COLUMNS:
        assert Retention({table: 0}).apply(store) == [table]
        assert Retention({table: 0}).apply(store) == []
        assert Retention({table: 9}).apply(store) == [table]


def test_expired_rows_vanish_and_others_stay(store):
    store.insert_otlp_traces(segment(age_days=10, count=3), "old")
    store.insert_otlp_traces(segment(age_days=1, count=2), "young")
    assert counts(store) == (5, 5)
    Retention({"spans": 5}).apply(store)
    eventually(lambda: counts(store) == (2, 5), "spans of ten days ago are gone, and their roll-up is not")
    store.insert_otlp_traces(segment(age_days=6), "late")
    store.run("OPTIMIZE TABLE spans FINAL")
    eventually(lambda: counts(store) == (2, 6), "a span that arrived expired is gone")


def test_a_longer_time_keeps_what_a_shorter_one_would_have_dropped(store):
    Retention({"spans": 60}).apply(store)
    store.insert_otlp_traces(segment(age_days=45), "kept")
    store.run("OPTIMIZE TABLE spans FINAL")
    Retention({"spans": 0}).apply(store)
    store.insert_otlp_traces(segment(age_days=400), "for ever")
    store.run("OPTIMIZE TABLE spans FINAL")
    assert counts(store)[0] == 2


def test_a_segment_loaded_before_the_change_and_again_after_it_is_stored_once(store):
    young, old = segment(age_days=1), segment(age_days=10)
    store.insert_otlp_traces(young, "young")
    store.insert_otlp_traces(old, "old")
    Retention({"spans": 5, "stage_latency_1m": 50}).apply(store)
    eventually(lambda: counts(store) == (1, 2), "the old span is gone")
    for _ in range(2):
        store.insert_otlp_traces(young, "young")
        store.insert_otlp_traces(old, "old")
    assert counts(store) == (1, 2)


def test_a_refusal_says_what_to_do():
    class Refusing:
        def run(self, statement, **parameters):
            raise QueryFailedError("…", 497, "Code: 497. Not enough privileges")

        def rows(self, statement, **parameters):
            return [("MergeTree TTL toDateTime(received_at) + toIntervalDay(30) SETTINGS x = 1",)]

    assert Retention({"spans": 30}).apply(Refusing()) == []
    with pytest.raises(SettingsError, match=r"--retain spans=7 .*privileges; grant .*ALTER TTL"):
        Retention({"spans": 7}).apply(Refusing())


def test_a_collector_applies_it_at_its_start(tmp_path):
    with CollectorProcess(tmp_path, "--retain", "spans=3", "--retain", "sender_batches=forever") as collector:
        collector.post(request([span()]).SerializeToString())
        collector.wait_until_loaded()
        address = collector.store.replace("clickhouse", "http").removesuffix("/tailsight")
        answer = httpx.post(address, content="SELECT count() FROM spans", headers=PROTOBUF, timeout=30)
        assert answer.text.strip() == "1"
        collector.stop()
        collector.start()
        assert collector.health()["status"] == "ok"


def test_a_wrong_table_ends_the_start(tmp_path):
    with pytest.raises(AssertionError, match="no table 'span'"):
        CollectorProcess(tmp_path, "--retain", "span=3").start()
