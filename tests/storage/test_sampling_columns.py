"""Migration 0009: what the SDK says about keeping a request, and about when it should have started, as columns."""

import dataclasses
import math
import subprocess
import sys
import time

import pytest
from testkit.otlp import request, span
from testkit.processes import eventually

from tailsight_collector.keep.records import encode_record
from tailsight_storage import Store, migrations
from tailsight_storage.dsn import ChdbDsn

WEIGHT, REASON, INTENDED = (
    "tailsight.sampling.weight", "tailsight.sampling.reason", "tailsight.intended_start_unix_nano",
)  # fmt: skip


def insert(store, *attributes):
    spans = [span(name=str(number), attributes=each) for number, each in enumerate(attributes)]
    record = encode_record(request(spans).SerializeToString(), time.time_ns())
    store.insert_otlp_traces(record, f"sampling-{time.time_ns()}")


@pytest.mark.parametrize(
    ("said", "weight"),
    [
        (20.0, 20), (10 / 3, 10 / 3), (5, 5), ("7.5", 7.5), (1.0, 1), (1e9, 1e9),
        (0.5, 1), (0.0, 1), (-4.0, 1), (math.nan, 1), (math.inf, 1), (1.1e9, 1), ("many", 1), (True, 1), ([20.0], 1),
    ],
)  # fmt: skip
def test_a_weight_is_what_was_said_or_one_where_that_cannot_be(store, said, weight):
    insert(store, {WEIGHT: said, REASON: "rate"}, {})
    assert store.rows("SELECT weight, sampling_reason FROM spans ORDER BY name") == [(weight, "rate"), (1, "")]


@pytest.mark.parametrize(
    ("said", "stored"),
    [(1_795_305_600_000_000_000, 1_795_305_600_000_000_000), ("1795305600000000000", 1_795_305_600_000_000_000),
     (-5, 1), (0, 1), ("soon", 1), (1.5, 1), ("99999999999999999999", 1), ("", 0)],
)  # fmt: skip
def test_an_intended_start_is_kept_and_an_unreadable_one_is_marked(store, said, stored):
    insert(store, {INTENDED: said}, {})
    assert store.rows("SELECT intended_start_ns FROM spans ORDER BY name") == [(stored,), (0,)]


def test_the_roll_up_says_where_it_counts_a_sample(store):
    insert(store, {"tailsight.stage": "queue"}, {"tailsight.stage": "queue"})
    assert store.rows("SELECT sum(spans), max(max_weight) FROM stage_latency_1m") == [(2, 1)]
    insert(store, {WEIGHT: 20.0})
    assert store.rows("SELECT sum(spans), max(max_weight) FROM stage_latency_1m") == [(3, 20)]
    [(comment,)] = store.rows(
        "SELECT comment FROM system.tables WHERE name = 'stage_latency_1m' AND database = 'tailsight'"
    )
    assert "unweighted" in comment


def test_a_store_that_held_spans_before_the_migration_has_the_columns_of_these_too(admin, monkeypatch):
    older = Store(dataclasses.replace(admin.dsn, database="older"), admin.another()._client)  # a database beside ours
    assert isinstance(older.dsn, ChdbDsn)
    every = migrations.load_migrations()
    with monkeypatch.context() as before:
        before.setattr(migrations, "load_migrations", lambda: [each for each in every if each.version < 9])
        older.migrate()
        insert(older, {WEIGHT: 20.0, REASON: "rate", "tailsight.stage": "queue"}, {INTENDED: 7})
    older.migrate()
    columns = "SELECT weight, sampling_reason, intended_start_ns FROM spans ORDER BY name"
    assert older.rows(columns) == [(20, "rate", 0), (1, "", 7)]
    insert(older, {WEIGHT: 5.0})
    assert older.rows("SELECT sum(weight) FROM spans") == [(26,)]
    assert older.rows("SELECT sum(spans), max(max_weight) FROM stage_latency_1m") == [(3, 5)]
    running = "SELECT count() FROM system.mutations WHERE database = 'older' AND NOT is_done"
    eventually(lambda: older.rows(running) == [(0,)], "the columns of older spans are written")
    assert older.rows("SELECT weight FROM spans WHERE sampling_reason = 'rate'") == [(20,)]
    older.run("DROP DATABASE older")
    older.close()


LOAD = """
import sys
from pathlib import Path
from tailsight_storage import migrations, open_store
folder, newest = sys.argv[1], int(sys.argv[2])
every = migrations.load_migrations()
migrations.load_migrations = lambda: [each for each in every if each.version <= newest]
with open_store(f"chdb://{folder}", create=True) as store:
    store.insert_otlp_traces(Path(folder, "segment").read_bytes(), "the same token")
    print(store.rows("SELECT count() FROM spans")[0][0], store.rows("SELECT sum(spans) FROM stage_latency_1m")[0][0])
"""


@pytest.mark.parametrize("newest", [9, 999], ids=["with this migration", "with all"])
def test_a_segment_loaded_before_the_migration_and_again_after_it_is_counted_once(tmp_path, newest):
    """In processes of their own: what the engine remembers of an insert must not depend on views that changed since."""
    spans = [span(attributes={WEIGHT: 20.0, "tailsight.stage": "queue"}) for _ in range(50)]
    (tmp_path / "segment").write_bytes(encode_record(request(spans).SerializeToString(), time.time_ns()))
    for version in (7, newest, newest):
        command = [sys.executable, "-c", LOAD, str(tmp_path), str(version)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.split() == ["50", "50"], f"after migration {version}"
