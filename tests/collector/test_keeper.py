"""When a loaded segment may be deleted: the order of listing, syncing, writing and deleting, and what failures do to it."""

import errno
import os
import threading
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailsight_collector.keep import checkpoints
from tailsight_collector.keep.checkpoints import Checkpoint, CheckpointFile, boot_id
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.keeper import CHECKPOINT_EVERY_S, SYNC_PATIENCE_S, Keeper
from tailsight_collector.keep.merges import Merges
from tailsight_collector.keep.parts import Part
from tailsight_collector.keep.records import encode_record
from tailsight_storage import StoreUnavailableError

PATIENCE_S = 60


class Disk:
    """Notes what happens in which order; `sync` waits for `may_sync` and fails with `error`."""

    def __init__(self):
        self.happened = []
        self.parts = {"spans": ["20261122_1_1_0"]}
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.error = None
        self.now_s = 0.0
        self.list_error = None

    def list_parts(self):
        if self.list_error:
            raise self.list_error
        self.happened.append("list")
        return dict(self.parts)

    def sync(self):
        self.happened.append("sync")
        assert self.may_sync.wait(PATIENCE_S)
        if self.error:
            raise self.error


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def journal(tmp_path):
    closed = []
    journal = Journal(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=4000, on_closed=closed.append)
    journal.closed = closed
    journal.start()
    yield journal
    journal.close()


@pytest.fixture
def keeper(tmp_path, disk, journal):
    keeper = Keeper(
        journal,
        CheckpointFile(tmp_path / "checkpoints" / "traces"),
        list_parts=disk.list_parts,
        sync=disk.sync,
        clock=lambda: disk.now_s,
    )
    keeper.start()
    yield keeper
    disk.may_sync.set()
    assert keeper.close(PATIENCE_S)


def loaded(journal, keeper, size=100):
    """Journal a segment and say that the database has it."""
    count = len(journal.closed)
    journal.append(encode_record(bytes(size), 1)).result(PATIENCE_S)
    while len(journal.closed) == count:
        threading.Event().wait(0.001)
    segment = journal.closed[-1]
    journal.confirm(segment)
    keeper.confirmed(segment)
    return segment


def written(tmp_path):
    checkpoint = CheckpointFile(tmp_path / "checkpoints" / "traces").read()
    assert checkpoint is not None
    return checkpoint


def test_a_segment_stays_until_a_sync_that_began_after_it_was_loaded(tmp_path, disk, journal, keeper):
    first = loaded(journal, keeper)
    disk.now_s = CHECKPOINT_EVERY_S
    disk.may_sync.clear()
    keeper.tick()
    second = loaded(journal, keeper)  # while the sync runs: that one says nothing about it
    disk.parts = {"spans": ["20261122_1_1_0", "20261122_2_2_0"]}
    assert first.path.exists()
    disk.may_sync.set()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert (first.path.exists(), second.path.exists()) == (False, True)
    assert written(tmp_path).tables == {"spans": ["20261122_1_1_0"]}
    assert journal.kept_bytes == second.size_bytes
    disk.now_s *= 2
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert not second.path.exists()
    assert disk.happened == ["list", "sync"] * 3
    assert journal.kept_bytes == 0


def test_nothing_is_listed_before_it_is_time(disk, journal, keeper):
    loaded(journal, keeper)
    disk.happened.clear()
    disk.now_s = CHECKPOINT_EVERY_S / 2
    keeper.tick()
    assert disk.happened == []


def test_much_that_is_kept_makes_it_time(disk, journal, keeper):
    segment = loaded(journal, keeper, size=2000)
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert not segment.path.exists()


def test_loading_waits_while_the_disk_is_too_slow(disk, journal, keeper):
    loaded(journal, keeper)
    disk.now_s = CHECKPOINT_EVERY_S
    disk.may_sync.clear()
    keeper.tick()
    assert not keeper.must_wait
    disk.now_s += SYNC_PATIENCE_S + 1
    assert keeper.must_wait
    disk.may_sync.set()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert not keeper.must_wait


def test_loading_waits_while_too_much_is_kept_and_a_sync_runs(disk, journal, keeper):
    loaded(journal, keeper)
    disk.now_s = CHECKPOINT_EVERY_S
    disk.may_sync.clear()
    keeper.tick()
    loaded(journal, keeper, size=2000)
    assert keeper.must_wait


def test_a_failed_sync_keeps_everything_and_marks_the_checkpoint(tmp_path, disk, journal, keeper):
    """The kernel says once that pages were lost, and then holds them for written: nothing after that proves anything."""
    segment = loaded(journal, keeper)
    disk.parts = {"spans": ["20261122_1_1_0", "20261122_2_2_0"]}
    disk.now_s = CHECKPOINT_EVERY_S
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    disk.error = None
    disk.now_s *= 10
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert segment.path.exists()
    assert "Input/output error" in keeper.failure
    assert keeper.must_wait
    checkpoint = written(tmp_path)
    assert (checkpoint.tables, checkpoint.boot) == ({"spans": ["20261122_1_1_0"]}, "")


def test_a_checkpoint_that_cannot_be_written_keeps_its_segments_for_the_next(disk, journal, keeper, monkeypatch):
    segment = loaded(journal, keeper)
    real = os.pwrite

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", no_space)
    disk.now_s = CHECKPOINT_EVERY_S
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert segment.path.exists()
    monkeypatch.setattr(os, "pwrite", real)
    disk.now_s *= 2
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert not segment.path.exists()
    assert keeper.failure == ""


def test_a_store_that_cannot_list_its_parts_is_asked_again(disk, journal, keeper):
    segment = loaded(journal, keeper)
    disk.list_error = StoreUnavailableError("busy")
    disk.now_s = CHECKPOINT_EVERY_S
    keeper.tick()
    assert segment.path.exists()
    disk.list_error = None
    disk.now_s *= 2
    keeper.tick()
    assert keeper.wait_until_synced(PATIENCE_S)
    assert not segment.path.exists()


def test_the_end_waits_for_a_sync_and_makes_one_more(disk, journal, keeper):
    first = loaded(journal, keeper)
    disk.now_s = CHECKPOINT_EVERY_S
    keeper.tick()
    second = loaded(journal, keeper)
    keeper.tick(last=True)
    assert keeper.close(PATIENCE_S)
    assert (first.path.exists(), second.path.exists()) == (False, False)


def test_a_checkpoint_names_the_machines_run(tmp_path, keeper):
    assert written(tmp_path).boot == boot_id()


def test_where_nobody_knows_the_machines_run_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BOOT_ID_FILE", tmp_path / "nowhere")
    assert boot_id() == ""


@given(st.data())
def test_a_checkpoint_that_is_torn_anywhere_leaves_the_one_before(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("slots")
    file = CheckpointFile(folder / "c")
    for names in (["a"], ["a", "b"]):
        file.write(Checkpoint({"spans": names}))
    before = (folder / "c.1").read_bytes()  # the slot that is overwritten next
    file.write(Checkpoint({"spans": ["a", "b", "c"]}))
    new = (folder / "c.1").read_bytes()
    length = new.index(b"\n") + 1 + int(new.split(maxsplit=2)[1])
    cut = data.draw(st.integers(0, length))
    (folder / "c.1").write_bytes(new[:cut] + before[cut:])
    found = CheckpointFile(folder / "c").read()
    assert found is not None
    assert found.tables == {"spans": ["a", "b", "c"] if cut == length else ["a", "b"]}


def test_a_full_disk_has_room_for_a_checkpoint(tmp_path):
    """Its room is taken at the start: without a checkpoint no segment could be deleted, and the disk would stay full."""
    file = CheckpointFile(tmp_path / "c")
    for _ in range(2):
        file.write(Checkpoint({}))
    sizes = [(tmp_path / f"c.{number}").stat().st_size for number in range(2)]
    file.write(Checkpoint({"spans": [f"20261122_{number}_{number}_0" for number in range(5000)]}))
    assert [(tmp_path / f"c.{number}").stat().st_size for number in range(2)] == sizes
    assert (tmp_path / "c.0").stat().st_blocks * 512 >= sizes[0]


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        ("20261122_1_5_1", "20261122_3_3_0", True),
        ("20261122_1_5_1", "20261122_1_5_1", True),
        ("20261122_1_5_1_9", "20261122_1_5_1", True),
        ("20261122_1_5_1", "20261122_1_5_1_9", False),
        ("20261122_1_5_1", "20261122_5_6_1", False),
        ("20261122_1_5_1", "20261121_3_3_0", False),
        ("all_1_5_1", "all_3_3_0", True),
    ],
)
def test_which_part_covers_which(one, other, covers):
    parts = Part.named(one), Part.named(other)
    assert None not in parts
    assert parts[0].covers(parts[1]) is covers


@pytest.mark.parametrize(
    "name", ["tmp_merge_20261122_1_5_1", "delete_tmp_20261122_1_5_1", "detached", "format_version.txt"]
)
def test_what_is_no_part(name):
    assert Part.named(name) is None


def test_merges_stop_while_the_disk_is_nearly_full(tmp_path, monkeypatch):
    """chDB ends what a full disk has cut off as if it were whole."""
    free_blocks = [1000, 51, 49, 10, 60, 99, 100, 1000]

    class Store:
        ran: ClassVar[list[str]] = []

        def run(self, statement):
            self.ran.append(statement)

    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(f_bavail=free_blocks.pop(0), f_frsize=4096, f_blocks=1000)
    )
    merges = Merges(Store(), tmp_path)
    while free_blocks:
        merges.look()
    assert Store.ran == ["SYSTEM STOP MERGES", "SYSTEM START MERGES"]


def test_the_engine_stops_and_starts_its_merges(engine, monkeypatch, tmp_path):
    merges = Merges(engine, tmp_path)
    monkeypatch.setattr("tailsight_collector.keep.merges.LOW_SPACE_PART", 0.0001)
    monkeypatch.setattr("tailsight_collector.keep.merges.LOW_SPACE_BYTES", 1 << 62)
    merges.look()
    assert merges.are_stopped
    monkeypatch.setattr("tailsight_collector.keep.merges.LOW_SPACE_BYTES", 1)
    merges.look()
    assert not merges.are_stopped
