import errno
import os
import threading
import time

import pytest

from tailsight_collector import JournalError, JournalFullError
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.records import encode_record
from tailsight_collector.keep.segments import Segment

PATIENCE_S = 60


class Closed:
    """Collects the closed segments, and tells when there is one."""

    def __init__(self):
        self.segments: list[Segment] = []
        self._changed = threading.Condition()

    def __call__(self, segment):
        with self._changed:
            self.segments.append(segment)
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.segments) >= count, PATIENCE_S)


def open_journal(folder, closed=None, *, segment_bytes=1 << 20, segment_age_s=60.0, max_bytes=1 << 30):
    return Journal(
        folder,
        segment_bytes=segment_bytes,
        segment_age_s=segment_age_s,
        max_bytes=max_bytes,
        on_closed=closed or Closed(),
    )


def records(count):
    return [encode_record(str(number).encode() * 20, 1) for number in range(count)]


def test_what_was_acknowledged_lies_on_the_disk_in_order(tmp_path):
    closed = Closed()
    journal = open_journal(tmp_path, closed)
    journal.start()
    for record in records(50):
        journal.append(record).result(PATIENCE_S)
    [path] = tmp_path.glob("*.open")
    assert path.read_bytes() == b"".join(records(50))
    journal.close()
    [segment] = closed.segments
    assert segment.path.read_bytes() == b"".join(records(50))


def test_a_segment_is_closed_by_size_and_by_age(tmp_path):
    by_size, by_age = Closed(), Closed()
    journal = open_journal(tmp_path / "size", by_size, segment_bytes=4096)
    journal.start()
    journal.append(encode_record(bytes(5000), 1)).result(PATIENCE_S)
    by_size.wait_for(1)
    journal.close()
    journal = open_journal(tmp_path / "age", by_age, segment_age_s=0.01)
    journal.start()
    journal.append(encode_record(b"one", 1)).result(PATIENCE_S)
    by_age.wait_for(1)
    journal.close()


def test_many_writers_share_a_sync(tmp_path, monkeypatch):
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))
    journal = open_journal(tmp_path)
    with journal._changed:  # the writing thread waits for this lock: all appends come first
        journal.start()
        waiting = [journal.append(record) for record in records(200)]
    for each in waiting:
        each.result(PATIENCE_S)
    journal.close()
    assert 1 <= len(syncs) <= 2


def test_nothing_is_acknowledged_before_the_sync(tmp_path, monkeypatch):
    may_sync = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (may_sync.wait(PATIENCE_S), real(fd)))
    journal = open_journal(tmp_path)
    journal.start()
    done = journal.append(records(1)[0])
    with pytest.raises(TimeoutError):
        done.result(0.2)
    may_sync.set()
    done.result(PATIENCE_S)
    journal.close()


def test_an_open_segment_of_a_crash_is_recovered_without_its_torn_end(tmp_path):
    whole = b"".join(records(3))
    (tmp_path / "20260101T000000.000000000-aaaaaaaa.open").write_bytes(whole + records(4)[3][:-3])
    journal = open_journal(tmp_path)
    [segment] = journal.start()
    journal.close()
    assert segment.token == "20260101T000000.000000000-aaaaaaaa"
    assert segment.path.read_bytes() == whole


def test_a_last_record_torn_at_every_byte_costs_nothing_before_it(tmp_path):
    whole, last = b"".join(records(2)), encode_record(bytes(range(100)), 1)
    for cut in range(len(last)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "20260101T000000.000000000-aaaaaaaa.open").write_bytes(whole + last[:cut])
        journal = open_journal(folder)
        [segment] = journal.start()
        journal.close()
        assert segment.path.read_bytes() == whole


def test_whole_records_behind_a_damaged_place_of_an_open_segment_are_kept(tmp_path):
    """They may have been acknowledged; the damaged bytes stay between them, for the loader to put aside."""
    first, second, third, fourth = records(4)
    data = first + second[:5] + bytes(3) + second[8:] + third
    (tmp_path / "20260101T000000.000000000-aaaaaaaa.open").write_bytes(data + fourth[:-1])
    journal = open_journal(tmp_path)
    [segment] = journal.start()
    journal.close()
    assert segment.path.read_bytes() == data


def test_every_new_name_is_synced_with_its_folder(tmp_path, monkeypatch):
    """A file that is synced and whose name is not may be gone after a power cut."""
    synced = []
    for module in ("journal", "segments", "synced"):
        monkeypatch.setattr(f"tailsight_collector.keep.{module}.sync_folder", synced.append)
    closed = Closed()
    folder = tmp_path / "a" / "b"
    journal = open_journal(folder, closed, segment_bytes=1)
    journal.start()
    assert synced == [tmp_path, tmp_path / "a"]
    synced.clear()
    journal.append(records(1)[0]).result(PATIENCE_S)
    closed.wait_for(1)
    assert synced == [folder, folder]  # made, and renamed
    journal.confirm(closed.segments[0])
    journal.forget(closed.segments)
    assert synced == [folder] * 3  # deleted
    journal.close()


def test_a_rename_whose_folder_cannot_be_synced_is_finished_later(tmp_path, monkeypatch):
    monkeypatch.setattr("tailsight_collector.keep.journal._CLOSE_AGAIN_S", 0.01)
    from tailsight_collector.keep import journal as module

    failures = [OSError(errno.EIO, os.strerror(errno.EIO))] * 2
    real = module.sync_folder
    closed = Closed()
    journal = open_journal(tmp_path, closed)
    journal.start()
    journal.append(records(1)[0]).result(PATIENCE_S)

    def broken(folder):
        if failures:
            raise failures.pop()
        real(folder)

    monkeypatch.setattr(module, "sync_folder", broken)
    journal._segment_bytes = 1
    journal.append(records(2)[1]).result(PATIENCE_S)
    closed.wait_for(1)
    journal.close()
    [segment] = closed.segments
    assert segment.path.read_bytes() == b"".join(records(2))
    assert segment.size_bytes == len(segment.path.read_bytes())


def test_the_limit_counts_right_when_segments_cannot_be_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("tailsight_collector.keep.journal._CLOSE_AGAIN_S", 0.01)
    closed = Closed()
    journal = open_journal(tmp_path, closed, segment_bytes=1)
    journal.start()
    fails = threading.Event()
    fails.set()
    real = os.ftruncate

    def broken(fd, size):
        if fails.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd, size)

    monkeypatch.setattr(os, "ftruncate", broken)
    for record in records(3):
        journal.append(record).result(PATIENCE_S)
    assert journal.stored_bytes == sum(map(len, records(3)))
    assert journal.open_since_s is not None
    fails.clear()
    closed.wait_for(3)
    for segment in closed.segments:
        journal.confirm(segment)
    assert (journal.stored_bytes, journal.kept_bytes) == (0, sum(map(len, records(3))))
    journal.forget(closed.segments)
    assert (journal.stored_bytes, journal.kept_bytes) == (0, 0)
    journal.close()


@pytest.mark.parametrize("step_s", [-3600, 3600, -5 * 86_400, 5 * 86_400])
def test_a_clock_that_is_set_leaves_all_segments_with_names_of_their_own(tmp_path, monkeypatch, step_s):
    closed = Closed()
    journal = open_journal(tmp_path, closed, segment_bytes=1)
    journal.start()
    real = time.time_ns
    for number, record in enumerate(records(4)):
        monkeypatch.setattr(time, "time_ns", lambda number=number: real() + number % 2 * step_s * 10**9)
        journal.append(record).result(PATIENCE_S)
        closed.wait_for(number + 1)
    monkeypatch.setattr(time, "time_ns", real)
    journal.close()
    assert [segment.path.read_bytes() for segment in closed.segments] == records(4)
    again = open_journal(tmp_path)
    left_over = again.start()
    again.close()
    assert sorted(segment.path.read_bytes() for segment in left_over) == sorted(records(4))
    assert all(segment.born_s <= time.monotonic() for segment in left_over)


def test_an_open_segment_with_nothing_whole_is_removed(tmp_path):
    (tmp_path / "20260101T000000.000000000-aaaaaaaa.open").write_bytes(b"\x50torn")
    journal = open_journal(tmp_path)
    assert journal.start() == []
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_segments_of_before_come_oldest_first(tmp_path):
    names = [f"20260101T00000{number}.000000000-aaaaaaaa" for number in (2, 0, 1)]
    for name in names:
        (tmp_path / f"{name}.otlp").write_bytes(records(1)[0])
    journal = open_journal(tmp_path)
    assert [segment.token for segment in journal.start()] == sorted(names)
    assert journal.stored_bytes == 3 * len(records(1)[0])
    journal.close()


def test_a_full_journal_refuses_and_takes_again_when_a_segment_is_gone(tmp_path):
    closed = Closed()
    record = encode_record(bytes(3000), 1)
    journal = open_journal(tmp_path, closed, segment_bytes=4096, max_bytes=7000)
    journal.start()
    journal.append(record).result(PATIENCE_S)
    journal.append(record).result(PATIENCE_S)
    with pytest.raises(JournalFullError, match="7000"):
        journal.append(record)
    closed.wait_for(1)
    journal.confirm(closed.segments[0])
    with pytest.raises(JournalFullError, match="7000"):
        journal.append(record)  # it is loaded, and kept
    journal.forget(closed.segments)
    journal.append(record).result(PATIENCE_S)
    journal.close()


def test_a_full_disk_fails_the_batch_and_the_journal_goes_on(tmp_path, monkeypatch):
    closed = Closed()
    journal = open_journal(tmp_path, closed)
    journal.start()
    first, second, third = records(3)
    journal.append(first).result(PATIENCE_S)
    real = os.write
    written = []

    def no_space(fd, data):
        if not written:
            written.append(real(fd, data[:3]))  # some of it reaches the file first
            return 3
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        journal.append(second).result(PATIENCE_S)
    monkeypatch.setattr(os, "write", real)
    journal.append(third).result(PATIENCE_S)
    journal.close()
    assert [segment.path.read_bytes() for segment in closed.segments] == [first, third]


def test_a_failed_sync_ends_its_segment(tmp_path, monkeypatch):
    """After a failed fsync the kernel may have dropped the pages: what it says later about that file means nothing."""
    closed = Closed()
    journal = open_journal(tmp_path, closed)
    journal.start()
    first, second, third = records(3)
    journal.append(first).result(PATIENCE_S)
    real = os.fdatasync

    def broken(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output"):
        journal.append(second).result(PATIENCE_S)
    monkeypatch.setattr(os, "fdatasync", real)
    journal.append(third).result(PATIENCE_S)
    journal.close()
    assert [segment.path.read_bytes() for segment in closed.segments] == [first, third]


def test_a_folder_has_one_collector(tmp_path):
    first = open_journal(tmp_path)
    first.start()
    with pytest.raises(JournalError, match="another collector"):
        open_journal(tmp_path).start()
    first.close()
    second = open_journal(tmp_path)
    second.start()
    second.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"/file cannot.*--data"):
        open_journal(tmp_path / "file" / "journal").start()


def test_a_closed_journal_takes_nothing(tmp_path):
    journal = open_journal(tmp_path)
    journal.start()
    journal.close()
    with pytest.raises(JournalError, match="shutting down"):
        journal.append(records(1)[0])


def test_a_segment_that_cannot_be_closed_is_closed_later(tmp_path, monkeypatch):
    monkeypatch.setattr("tailsight_collector.keep.journal._CLOSE_AGAIN_S", 0.01)
    closed = Closed()
    journal = open_journal(tmp_path, closed, segment_bytes=1)
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))] * 3
    real = os.ftruncate

    def broken(fd, size):
        if failures:
            raise failures.pop()
        real(fd, size)

    monkeypatch.setattr(os, "ftruncate", broken)
    journal.start()
    journal.append(records(1)[0]).result(PATIENCE_S)
    closed.wait_for(1)
    journal.close()
    assert closed.segments[0].path.read_bytes() == records(1)[0]


def test_a_defect_of_the_journal_is_told_to_whoever_waits_and_comes(tmp_path, monkeypatch):
    journal = open_journal(tmp_path)
    monkeypatch.setattr(journal, "_write", lambda batch: 1 / 0)
    with journal._changed:
        journal.start()
        first, second = journal.append(records(1)[0]), journal.append(encode_record(bytes(2 << 20), 1))
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        second.result(PATIENCE_S)
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        first.result(PATIENCE_S)
    with pytest.raises(JournalError, match="has failed"):
        journal.append(records(1)[0])
    journal.close()


def test_records_beyond_a_segment_wait_for_the_next_one(tmp_path):
    closed = Closed()
    journal = open_journal(tmp_path, closed, segment_bytes=10_000)
    with journal._changed:
        journal.start()
        waiting = [journal.append(encode_record(bytes(4000), 1)) for _ in range(6)]
    for each in waiting:
        each.result(PATIENCE_S)
    journal.close()
    assert max(segment.path.stat().st_size for segment in closed.segments) <= 2 * 10_000  # what it held, and one batch


def test_what_waits_for_the_disk_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("tailsight_collector.keep.journal.MAX_WAITING_BYTES", 5000)
    journal = open_journal(tmp_path)
    with journal._changed:
        journal.start()
        first = journal.append(encode_record(bytes(4000), 1))
        with pytest.raises(JournalFullError, match="wait for the disk"):
            journal.append(encode_record(bytes(4000), 1))
    first.result(PATIENCE_S)
    journal.close()
