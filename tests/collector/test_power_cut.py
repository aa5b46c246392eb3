"""Power cuts, by hand: a real engine is killed, and what a power cut may take is taken from its folder."""

import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from testkit.loading import LoadingProcess
from testkit.processes import CollectorProcess

from tailsight_collector.keep.checkpoints import CheckpointFile, checkpoint_files
from tailsight_collector.keep.parts import is_short, parts_in, roll_back
from tailsight_collector.keep.power_cut import kept_safe
from tailsight_storage import StoreInUseError, open_store

TABLES = ("spans", "rejected_spans", "stage_latency_1m", "sender_batches", "hardware_samples")


class Folders:
    """The tables' folders of an engine that has ended, and what was there at a moment."""

    def __init__(self, process):
        self.of = {table: process.table_folder(table) for table in TABLES}
        self.safe = {}
        self.safe_logs = {}

    def all_is_safe(self):
        self.safe = {table: {part.name for part in parts_in(folder)} for table, folder in self.of.items()}
        self.safe_logs = {table: len(self.log(table).read_bytes()) for table in TABLES}

    def later(self, table):
        return [self.of[table] / part.name for part in parts_in(self.of[table]) if part.name not in self.safe[table]]

    def log(self, table):
        return self.of[table] / "deduplication_logs" / "deduplication_log_1.txt"


def remove(path):
    shutil.rmtree(path)


def fill_with_zeros(part):
    for path in part.rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))


def cut_files(part):
    for path in part.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def cut_log(folders, table):
    log = folders.log(table)
    log.write_bytes(log.read_bytes()[: folders.safe_logs[table]])


def zero_log(folders, table):
    log, safe = folders.log(table), folders.safe_logs[table]
    log.write_bytes(log.read_bytes()[:safe] + bytes(len(log.read_bytes()) - safe))


def cut_power(folders, damage):
    for table in TABLES:
        damage(folders, table)


def spans_without_their_log(folders, table):
    cut_log(folders, table)


def log_without_its_parts(folders, table):
    for part in folders.later(table):
        remove(part)


def roll_up_without_its_spans(folders, table):
    if table != "stage_latency_1m":
        for part in folders.later(table):
            remove(part)


def spans_without_their_roll_up(folders, table):
    if table == "stage_latency_1m":
        for part in folders.later(table):
            remove(part)


def zeros(folders, table):
    for part in folders.later(table):
        fill_with_zeros(part)
    zero_log(folders, table)


def empty_files(folders, table):
    for part in folders.later(table):
        cut_files(part)
    cut_log(folders, table)


def nothing(folders, table):
    """As after kill -9."""


DAMAGES = (
    nothing, spans_without_their_log, log_without_its_parts, roll_up_without_its_spans, spans_without_their_roll_up,
    zeros, empty_files,
)  # fmt: skip


def once(*names):
    return {
        "spans": Counter(dict.fromkeys(names, 3)),
        "rejected_spans": Counter(dict.fromkeys(names, 1)),
        "sender_batches": Counter(dict.fromkeys(names, 1)),
        "hardware_samples": Counter(dict.fromkeys(names, 1)),
    }


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_after_a_power_cut_all_that_was_acknowledged_is_there_once(tmp_path, damage):
    with LoadingProcess(tmp_path) as process:
        process.load("old", "older")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        process.load("newer", "newest")
        assert process.stored() == once("old", "older", "new", "newer", "newest")
        process.kill()
    assert list((tmp_path / "journal").glob("*.otlp"))
    cut_power(folders, damage)
    with LoadingProcess(tmp_path, boot="second") as process:
        assert process.stored() == once("old", "older", "new", "newer", "newest")


def test_after_going_back_the_store_goes_on_as_before(tmp_path):
    with LoadingProcess(tmp_path) as process:
        process.load("old")
        process.kill()
    with LoadingProcess(tmp_path, boot="second") as process:
        process.load("after")
        process.run("OPTIMIZE TABLE spans FINAL")
        process.checkpoint()
        process.load("later")
        process.stop()
    assert not list((tmp_path / "journal").glob("*.otlp"))
    with LoadingProcess(tmp_path, boot="third") as process:
        assert process.stored() == once("old", "after", "later")


def test_a_merge_that_was_not_safe_does_not_take_old_rows_with_it(tmp_path):
    """What was merged is old and in no journal any more: its sources must still be there."""
    with LoadingProcess(tmp_path) as process:
        for number in range(4):
            process.load(f"old-{number}")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        for table in TABLES:
            process.run(f"OPTIMIZE TABLE {table} FINAL")
        process.kill()
    assert all(folders.later(table) for table in TABLES)
    cut_power(folders, zeros)
    names = ("old-0", "old-1", "old-2", "old-3", "new")
    with LoadingProcess(tmp_path, boot="second") as process:
        assert process.stored() == once(*names)


def test_a_merge_that_the_engine_cut_off_is_noticed_while_its_sources_are_there(tmp_path):
    """On a full disk chDB ends such merges without a word: seen with an empty data.cmrk4, and unreadable for good."""
    with LoadingProcess(tmp_path) as process:
        process.load("old")
        process.load("older")
        assert process.checkpoint() == ["", ""]
        process.load("new")
        process.run("OPTIMIZE TABLE spans FINAL")
        [[merged]] = process.rows("SELECT path FROM system.parts WHERE active AND table = 'spans'")
        for path in Path(merged).glob("data.c*"):
            path.write_bytes(b"")
        assert "was cut off while it was written" in process.checkpoint()[0]
        assert len(list((tmp_path / "journal").glob("*.otlp"))) == 1
        [[text]] = process.rows("SELECT engine_full FROM system.tables WHERE name = 'spans' AND engine = 'MergeTree'")
        assert "old_parts_lifetime = 31536000" in text
        process.kill()
    with LoadingProcess(tmp_path) as process:
        assert process.stored() == once("old", "older", "new")


def test_the_engine_counts_the_bytes_of_a_part_as_we_do(tmp_path):
    """An engine that counts in another way would make whole parts look cut off."""
    with LoadingProcess(tmp_path) as process:
        process.load("a", "b")
        process.load("c")
        process.run("OPTIMIZE TABLE spans FINAL")
        parts = process.rows("SELECT path, bytes_on_disk FROM system.parts WHERE active AND database = 'tailsight'")
        assert len(parts) > len(TABLES)
        for path, size_bytes in parts:
            part = Path(path)
            assert not is_short(part.parent, part.name, size_bytes)
            assert is_short(part.parent, part.name, size_bytes + 1)
        process.stop()


def test_a_merge_whose_sources_are_cleared_away_is_kept_and_nothing_doubles(tmp_path):
    """The clock was set ahead, or somebody read the store meanwhile: the engine clears old parts away."""
    with LoadingProcess(tmp_path) as process:
        process.load("a", "b")
        process.load("c")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        for table in TABLES:
            process.run(f"OPTIMIZE TABLE {table} FINAL")
        process.load("newest")
        process.kill()
    for table in TABLES:
        for name in folders.safe[table]:
            remove(folders.of[table] / name)
    with LoadingProcess(tmp_path, boot="second") as process:
        assert process.stored() == once("a", "b", "c", "new", "newest")


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_of_what_reached_the_disk_is_put_in_order(tmp_path, seed):
    """Each file of each later part arrives whole, in part, as zeros or not at all; twice in a row."""
    choose = random.Random(seed)
    names = []
    for round_number in range(2):
        with LoadingProcess(tmp_path, boot=f"boot-{round_number}") as process:
            assert process.stored() == once(*names)
            process.load(f"safe-{round_number}")
            process.checkpoint()
            folders = Folders(process)
            folders.all_is_safe()
            for number in range(choose.randrange(1, 4)):
                process.load(f"late-{round_number}-{number}")
                names.append(f"late-{round_number}-{number}")
            names.append(f"safe-{round_number}")
            process.kill()
        for table in TABLES:
            for part in folders.later(table):
                for path in [path for path in part.rglob("*") if path.is_file()]:
                    match choose.randrange(4):
                        case 0:
                            path.unlink()
                        case 1:
                            path.write_bytes(bytes(path.stat().st_size))
                        case 2:
                            path.write_bytes(path.read_bytes()[: choose.randrange(path.stat().st_size + 1)])
            log = folders.log(table)
            data, safe = log.read_bytes(), folders.safe_logs[table]
            cut = choose.randrange(safe, len(data) + 1)
            log.write_bytes(data[:cut] + bytes(choose.choice((0, len(data) - cut))))
    with LoadingProcess(tmp_path, boot="last") as process:
        assert process.stored() == once(*names)


def test_going_back_can_be_cut_short_and_done_again(tmp_path, monkeypatch):
    with LoadingProcess(tmp_path) as process:
        process.load("old")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        process.load("newer")
        process.kill()
    for table in TABLES:  # some tables are back already, with their memory or still without
        if table in ("spans", "hardware_samples"):
            roll_back(folders.of[table], folders.safe[table])
    log = folders.log("sender_batches").read_bytes()
    roll_back(folders.of["sender_batches"], folders.safe["sender_batches"])
    folders.log("sender_batches").write_bytes(log)
    with LoadingProcess(tmp_path, boot="second") as process:
        assert process.stored() == once("old", "new", "newer")


@pytest.mark.parametrize("damage", [nothing, log_without_its_parts], ids=lambda damage: damage.__name__)
def test_after_kill_9_nothing_is_put_aside_and_all_is_there_once(tmp_path, damage):
    """The engine writes a block into its memory before the block's part has its name: it may be killed in between."""
    with LoadingProcess(tmp_path) as process:
        process.load("old")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        process.run("INSERT INTO sender_batches (received_at, sender, number) SELECT now(), 'by another way', 1")
        process.kill()
    if damage is log_without_its_parts:
        damage(folders, "spans")
    with LoadingProcess(tmp_path) as process:
        stored = process.stored()
        assert stored["sender_batches"].pop("by another way") == 1
        assert stored == once("old", "new") if damage is nothing else stored["spans"] == once("old", "new")["spans"]


def test_a_disk_that_cannot_be_synced_is_not_relied_on_again(tmp_path):
    """The mark of the failed sync, and not the machine's run, decides: back to the last checkpoint."""
    with LoadingProcess(tmp_path) as process:
        process.load("old")
        process.checkpoint()
        folders = Folders(process)
        folders.all_is_safe()
        process.load("new")
        process.kill()
    for name in ("traces", "metrics"):
        file = CheckpointFile(tmp_path / "checkpoints" / name)
        file.write(replace(file.read(), boot=""))
    cut_power(folders, zeros)
    with LoadingProcess(tmp_path) as process:
        assert process.stored() == once("old", "new")
        process.kill()
    with LoadingProcess(tmp_path) as process:
        assert process.stored() == once("old", "new")


def test_a_clean_end_needs_no_going_back(tmp_path):
    """What somebody adds to a stopped store stays, though no checkpoint lists it."""
    with LoadingProcess(tmp_path) as process:
        process.load("ours")
        process.stop()
    assert not list((tmp_path / "journal").glob("*.otlp"))
    with LoadingProcess(tmp_path) as process:  # stands for any other program: what it adds is in no journal
        process.run("INSERT INTO sender_batches (received_at, sender, number) SELECT now(), 'theirs', 1")
        process.stop()
    with LoadingProcess(tmp_path) as process:
        assert process.stored()["sender_batches"] == Counter({"ours": 1, "theirs": 1})


def test_segments_are_deleted_only_behind_a_checkpoint(tmp_path):
    with LoadingProcess(tmp_path) as process:
        process.load("a")
        assert len(list((tmp_path / "journal").glob("*.otlp"))) == 1
        process.checkpoint()
        assert not list((tmp_path / "journal").glob("*.otlp"))


def test_the_engine_keeps_merged_parts_for_a_while(tmp_path):
    """chDB's own default is to delete them at once, while the merged part is in the page cache only."""
    with LoadingProcess(tmp_path) as process:
        for table in TABLES:
            [[text]] = process.rows(f"SELECT engine_full FROM system.tables WHERE name = '{table}'")
            assert "old_parts_lifetime = 240" in text


def test_every_table_that_is_loaded_into_has_a_checkpoint(engine):
    """A new table must be put into line.py's lists: going back with some of the tables would tear them apart."""
    tables = {
        name
        for (name,) in engine.rows(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' "
            "AND engine_full LIKE '%non_replicated_deduplication_window%' "
            "AND engine_full NOT LIKE '%fsync_after_insert%'"  # rows that no journal holds are on the disk at once
        )
    }
    assert tables == set(TABLES)


def test_an_import_that_is_refused_leaves_a_running_collectors_checkpoint_alone(tmp_path):
    """Marked as ended cleanly, a power cut would not make it go back."""
    with CollectorProcess(tmp_path) as collector:
        before = {file.path.name: file.read() for file in checkpoint_files(tmp_path)}
        with pytest.raises(StoreInUseError), kept_safe(tmp_path), open_store(f"chdb://{tmp_path}", create=True):
            pass
        after = {file.path.name: file.read() for file in checkpoint_files(tmp_path)}
        assert collector.health()["status"] == "ok"
    assert before.keys() == after.keys() == {"traces", "metrics"}
    assert not any(checkpoint.is_clean for checkpoint in (*before.values(), *after.values()))
    assert all(file.read().is_clean for file in checkpoint_files(tmp_path))  # that was the collector itself
