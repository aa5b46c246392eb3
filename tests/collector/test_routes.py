"""A segment goes into the store the way that it may have gone before, whatever was installed since."""

import time

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.errors import JournalError
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.records import encode_record
from tailsight_collector.keep.routes import FILE, Routes
from tailsight_storage import decoder, open_store


def test_a_new_journal_goes_todays_way(tmp_path):
    assert Routes(tmp_path, decodes_here=True, left_over=[]).is_decoded_here("a")
    assert not Routes(tmp_path, decodes_here=False, left_over=[]).is_decoded_here("b")


def test_what_an_older_collector_left_goes_its_way(tmp_path):
    routes = Routes(tmp_path, decodes_here=True, left_over=["old"])
    assert not routes.is_decoded_here("old")
    assert not routes.is_decoded_here("old/0-3")
    assert routes.is_decoded_here("new")


def test_the_way_is_kept_over_any_number_of_starts(tmp_path):
    Routes(tmp_path, decodes_here=True, left_over=[])
    Routes(tmp_path, decodes_here=False, left_over=["a"])
    routes = Routes(tmp_path, decodes_here=False, left_over=["a", "b"])
    assert routes.is_decoded_here("a")
    assert not routes.is_decoded_here("b")
    routes = Routes(tmp_path, decodes_here=True, left_over=["a", "b"])
    assert routes.is_decoded_here("a")
    assert not routes.is_decoded_here("b")
    Routes(tmp_path, decodes_here=True, left_over=[])
    assert Routes(tmp_path, decodes_here=True, left_over=["b"]).is_decoded_here("b")  # a token is never used again


def test_a_start_that_changes_nothing_writes_nothing(tmp_path, monkeypatch):
    """So it needs no room on the disk."""
    Routes(tmp_path, decodes_here=True, left_over=[])
    monkeypatch.setattr("tailsight_collector.keep.routes.os.fsync", lambda _: pytest.fail("nothing is to be written"))
    assert Routes(tmp_path, decodes_here=True, left_over=["a"]).is_decoded_here("a")
    assert (tmp_path / FILE).exists()


def test_a_file_that_says_nothing_is_an_error(tmp_path):
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(JournalError, match="mend it"):
        Routes(tmp_path, decodes_here=True, left_over=["a"])


@pytest.mark.skipif(decoder.decoder is None, reason=decoder.why_not)
@pytest.mark.parametrize("first", ["0", "1"])
def test_a_segment_that_was_inserted_before_the_installation_changed_is_stored_once(tmp_path, monkeypatch, first):
    """Stored by one installation, its journal not yet emptied; the next start decodes in the other way."""
    monkeypatch.setenv("TAILSIGHT_NATIVE", first)
    with CollectorProcess(tmp_path / "data") as collector:
        pass
    journal = Journal(
        tmp_path / "data/journal", segment_bytes=10**6, segment_age_s=1, max_bytes=10**8, on_closed=lambda _: None
    )
    journal.start()
    body = request([span() for _ in range(20)], {"service.name": "routes"}).SerializeToString()
    journal.append(encode_record(body, time.time_ns())).result()
    journal.close()
    [segment] = (tmp_path / "data/journal").glob("*.otlp")
    with open_store(f"chdb://{tmp_path}/data") as store:
        store.insert_otlp_traces(segment.read_bytes(), segment.stem, decoded_here=first == "1")
        assert store.rows("SELECT count() FROM spans") == [(20,)]
    monkeypatch.setenv("TAILSIGHT_NATIVE", "1" if first == "0" else "0")
    if first == "1":  # its way is not here: nothing is stored, and nothing is lost
        with CollectorProcess(tmp_path / "data") as collector:
            eventually(lambda: "decoded in C" in collector.health()["loading"]["last_error"], "it says why it waits")
        monkeypatch.setenv("TAILSIGHT_NATIVE", "1")
    with CollectorProcess(tmp_path / "data") as collector:
        collector.wait_until_loaded()
        with open_store(collector.store) as reader:
            assert reader.rows("SELECT count() FROM spans") == [(20,)]
            assert reader.rows("SELECT sum(spans) FROM stage_latency_1m") == [(20,)]


def test_what_an_embedded_store_left_can_be_loaded_into_a_server(tmp_path):
    """Killed, and started again with a store elsewhere, which knows no token: the way of before is of no use there."""
    with CollectorProcess(tmp_path / "server", "--sql-ingest") as server:
        first = CollectorProcess(tmp_path / "data", "--segment-age", "60")
        with first:
            body = request([span() for _ in range(3)], {"service.name": "moved"}).SerializeToString()
            assert first.post(body).status_code == 200
            first.kill()
        with CollectorProcess(tmp_path / "data", "--store", server.store) as moved:
            moved.wait_until_loaded()
        with open_store(server.store) as reader:
            assert reader.rows("SELECT count() FROM spans") == [(3,)]
