import threading

import pytest

from tailsight_collector.keep import quarantine
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.loader import MEMORY_ATTEMPTS, Loader
from tailsight_collector.keep.records import encode_record
from tailsight_collector.keep.segments import Segment
from tailsight_storage import DataRefusedError, StoreUnavailableError

PATIENCE_S = 60


class FakeStore:
    """A store that keeps what it is given, once a token; `fails` is asked before each insert."""

    def __init__(self, fails=lambda data: None):
        self.kept: dict[str, bytes] = {}
        self.calls = 0
        self._fails = fails
        self._changed = threading.Condition()

    def insert_otlp_traces(self, segment, token):
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            error = self._fails(bytes(segment))
            if error:
                raise error
            if not token.endswith("/probe"):
                self.kept.setdefault(token, bytes(segment))

    def wait_for_calls(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= count, PATIENCE_S)


def run(tmp_path, store, *batches):
    """Journal each batch of records as a segment, load them, and return the loader."""
    closed = []
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=closed.append)
    journal.start()
    loader = Loader(store.insert_otlp_traces, journal)
    loader.start()
    for batch in batches:
        journal.append(b"".join(batch)).result(PATIENCE_S)
    journal.close()
    for segment in closed:
        loader.offer(segment)
    return loader


def records(*names):
    return [encode_record(name.encode(), 1) for name in names]


def test_segments_are_loaded_in_order_and_deleted(tmp_path):
    store = FakeStore()
    loader = run(tmp_path, store, records("a"), records("b"), records("c"))
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == [b"".join(records(name)) for name in "abc"]
    assert not list(tmp_path.glob("*.otlp"))
    assert loader.state.loaded_segments == 3


def test_a_database_that_is_away_is_waited_out(tmp_path):
    failures = [StoreUnavailableError("away"), StoreUnavailableError("away")]
    store = FakeStore(lambda _: failures.pop() if failures else None)
    loader = run(tmp_path, store, records("a"))
    store.wait_for_calls(3)
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == records("a")
    assert loader.state.last_error == ""


def test_what_cannot_be_loaded_when_it_stops_stays_for_the_next_start(tmp_path):
    store = FakeStore(lambda _: StoreUnavailableError("away"))
    loader = run(tmp_path, store, records("a"))
    store.wait_for_calls(1)
    loader.close(0.01)
    assert store.kept == {}
    assert len(list(tmp_path.glob("*.otlp"))) == 1
    assert loader.state.last_error == "away"


def test_a_refused_record_is_quarantined_and_its_neighbours_are_loaded(tmp_path):
    bad = records("bad")[0]
    store = FakeStore(lambda data: DataRefusedError("cannot parse", 33) if bad in data else None)
    loader = run(tmp_path, store, records("a", "b", "bad", "c", "d"))
    loader.close(PATIENCE_S)
    assert b"".join(store.kept.values()) == b"".join(records("a", "b", "c", "d"))
    [quarantined] = (tmp_path / "quarantine").glob("*.otlp")
    assert quarantined.read_bytes() == bad
    assert quarantined.with_suffix(".error").read_text() == "cannot parse\n"
    assert loader.state.quarantined_records == 1
    assert not list(tmp_path.glob("*.otlp"))


def test_a_second_pass_over_a_refused_segment_uses_the_same_tokens(tmp_path):
    """A crash between the parts: everything is offered again, and the database knows the parts by their tokens."""
    bad = records("bad")[0]
    tokens = []

    class Recording(FakeStore):
        def insert_otlp_traces(self, segment, token):
            tokens.append(token.partition("/")[2])
            super().insert_otlp_traces(segment, token)

    for folder in ("first", "second"):
        store = Recording(lambda data: DataRefusedError("cannot parse", 33) if bad in data else None)
        run(tmp_path / folder, store, records("a", "b", "bad", "c")).close(PATIENCE_S)
    half = len(tokens) // 2
    assert tokens[:half] == tokens[half:]


def test_a_store_that_takes_nothing_quarantines_nothing(tmp_path):
    """A missing table refuses every insert: the bytes are not at fault."""
    store = FakeStore(lambda _: DataRefusedError("no such table", 60))
    loader = run(tmp_path, store, records("a", "b"))
    store.wait_for_calls(4)
    loader.close(0.01)
    assert not (tmp_path / "quarantine").exists()
    assert len(list(tmp_path.glob("*.otlp"))) == 1
    assert "takes nothing at all" in loader.state.last_error


def test_a_record_that_needs_too_much_memory_is_tried_again_and_then_put_aside(tmp_path):
    big = records("big")[0]
    store = FakeStore(lambda data: DataRefusedError("memory limit", 241) if big in data else None)
    loader = run(tmp_path, store, records("big"), records("b"))
    while "b" not in str(list(store.kept.values())):
        store.wait_for_calls(store.calls + 1)
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == records("b")
    assert loader.state.quarantined_records == 1


def test_a_segment_that_goes_in_parts_never_goes_as_a_whole_again(tmp_path, monkeypatch):
    """Memory comes back after the first part, then the collector is killed: the part is not stored once more."""
    monkeypatch.setattr("tailsight_collector.keep.loader.FIRST_BACKOFF_S", 0.001)
    free = threading.Event()
    b = records("b")[0]
    store = FakeStore(lambda data: DataRefusedError("memory limit", 241) if b in data and not free.is_set() else None)
    loader = run(tmp_path, store, [b"".join(records("a", "b"))])
    while not store.kept:
        store.wait_for_calls(store.calls + 1)
    loader.close(0)  # as if killed
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    left = journal.start()
    assert len(left) == 1
    free.set()
    loader = Loader(store.insert_otlp_traces, journal)
    for segment in left:
        loader.offer(segment)
    loader.start()
    assert loader.close(PATIENCE_S)
    journal.close()
    assert sorted(store.kept.values()) == records("a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_memory_that_is_short_for_a_moment_takes_nothing_apart(tmp_path, monkeypatch):
    """The whole may be in the store already, without our knowing: its parts have other tokens."""
    monkeypatch.setattr("tailsight_collector.keep.loader.FIRST_BACKOFF_S", 0.001)
    failures = [DataRefusedError("memory limit", 241) for _ in range(MEMORY_ATTEMPTS - 1)]
    store = FakeStore(lambda _: failures.pop() if failures else None)
    loader = run(tmp_path, store, records("a", "b"))
    store.wait_for_calls(MEMORY_ATTEMPTS)
    assert loader.close(PATIENCE_S)
    assert list(store.kept.values()) == [b"".join(records("a", "b"))]


def test_an_unexpected_error_does_not_end_loading(tmp_path):
    failures = [ZeroDivisionError("a defect")]
    store = FakeStore(lambda _: failures.pop() if failures else None)
    loader = run(tmp_path, store, records("a"))
    store.wait_for_calls(2)
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == records("a")


def test_a_segment_that_somebody_removed_is_passed_over(tmp_path):
    store = FakeStore()
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    loader = Loader(store.insert_otlp_traces, journal)
    loader.offer(Segment(tmp_path / "gone.otlp"))
    loader.start()
    loader.close(PATIENCE_S)
    assert loader.state.waiting_segments == 0


def test_quarantined_records_are_counted_after_a_restart(tmp_path):
    bad = records("bad")[0]
    store = FakeStore(lambda data: DataRefusedError("cannot parse", 33) if bad in data else None)
    run(tmp_path, store, records("bad")).close(PATIENCE_S)
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    assert Loader(store.insert_otlp_traces, journal).state.quarantined_records == 1


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (243, "Cannot reserve 1.00 MiB, not enough space"),
        (75, "Cannot write to file: No space left on device"),
        (1001, "std::exception. type: std::__1::__fs::filesystem::filesystem_error, No space left on device"),
    ],
)
def test_a_database_whose_disk_is_full_quarantines_nothing(tmp_path, monkeypatch, code, detail):
    """An empty request is taken even then, and writes nothing: it must not make the others look guilty."""
    monkeypatch.setattr("tailsight_collector.keep.loader.FIRST_BACKOFF_S", 0.01)
    is_full = threading.Event()
    is_full.set()

    def fails(data):
        return DataRefusedError(f"Code: {code}. {detail}", code, detail) if is_full.is_set() and b"a" in data else None

    store = FakeStore(fails)
    loader = run(tmp_path, store, records("a"))
    store.wait_for_calls(3)
    assert "cannot write" in loader.state.last_error
    is_full.clear()
    store.wait_for_calls(store.calls + 1)
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == records("a")
    assert loader.state.quarantined_records == 0
    assert (loader.state.last_error, loader.oldest_s) == ("", None)


def test_a_damaged_place_in_a_segment_costs_its_record_alone(tmp_path):
    """Somebody, or the disk, has changed a closed segment."""
    (tmp_path / "lock").touch()
    good = records("a", "b", "c")
    damaged = bytearray(b"".join(good))
    damaged[len(good[0]) + 2] ^= 1
    path = tmp_path / "20260101T000000.000000000-aaaaaaaa.otlp"
    path.write_bytes(damaged)
    store = FakeStore()
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20, on_closed=lambda _: None)
    [segment] = journal.start()
    loader = Loader(store.insert_otlp_traces, journal)
    loader.offer(segment)
    loader.start()
    journal.close()
    loader.close(PATIENCE_S)
    assert list(store.kept.values()) == [good[0] + good[2]]
    [aside] = (tmp_path / "quarantine").glob("*.damaged")
    assert aside.read_bytes() == bytes(damaged[len(good[0]) : len(good[0]) + len(good[1])])
    assert "checksum" in aside.with_suffix(".error").read_text()
    assert loader.state.quarantined_records == 1
    assert not path.exists()


def test_a_record_that_cannot_be_put_aside_keeps_its_segment(tmp_path, monkeypatch):
    """The quarantine's disk is full: the segment waits, whole, and nothing of it is stored twice."""
    bad = records("bad")[0]
    store = FakeStore(lambda data: DataRefusedError("cannot parse", 33) if bad in data else None)
    monkeypatch.setattr("tailsight_collector.keep.loader.FIRST_BACKOFF_S", 0.01)
    real = quarantine.write_synced
    fails = [OSError(28, "No space left on device")] * 2

    def no_space(path, data):
        if fails:
            raise fails.pop()
        real(path, data)

    monkeypatch.setattr(quarantine, "write_synced", no_space)
    loader = run(tmp_path, store, records("a", "bad", "b"))
    while fails:
        store.wait_for_calls(store.calls + 1)
    store.wait_for_calls(store.calls + 1)
    loader.close(PATIENCE_S)
    assert b"".join(store.kept.values()) == b"".join(records("a", "b"))
    assert [path.read_bytes() for path in (tmp_path / "quarantine").glob("*.otlp")] == [bad]
