"""What a power cut may take from the embedded engine, and how it is put back (docs/decisions/0011).

An insert is confirmed when its parts are in the page cache. So a loaded segment is kept until a *checkpoint*: the list
of the tables' parts, made while no insert ran, and written down after a `syncfs` that began later has returned. Only
then are the segments that came before it deleted (keeper.py).

At a start after a power cut, each table is made what its checkpoint lists (parts.py), and the segments that are still
in the journal are loaded. Which of the later parts would have been whole need not be known. After kill -9 the page
cache is still there, and the parts in it: then only the engine's memory of blocks is checked against them.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tailsight_collector.errors import JournalError
from tailsight_collector.keep.checkpoints import FOLDER, Checkpoint, CheckpointFile, boot_id, checkpoint_files
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.keeper import DamagedPartError, Keeper
from tailsight_collector.keep.merges import Merges
from tailsight_collector.keep.parts import forget_missing_blocks, is_short, parts_in, roll_back
from tailsight_storage import ChdbDsn, StorageError, Store

log = logging.getLogger(__name__)

# The engine keeps what it has merged for so long: longer than a checkpoint takes. chDB's own default is not at all.
OLD_PARTS_LIFETIME_S = 240
UNTIL_RESTART_S = 365 * 86_400
_LIST_PARTS = """
SELECT table, name, bytes_on_disk FROM system.parts
WHERE active AND database = currentDatabase() AND has({tables:Array(String)}, table)
ORDER BY table, name
"""
_LIST_TABLES = """
SELECT name, data_paths[1], toUInt64OrZero(extract(engine_full, 'old_parts_lifetime = ([0-9]+)')) FROM system.tables
WHERE database = currentDatabase() AND has({tables:Array(String)}, name)
"""
_KEEP_OLD_PARTS = "ALTER TABLE {table:Identifier} MODIFY SETTING old_parts_lifetime = {lifetime:UInt64}"


class Disk:
    """The file systems that hold some folders. One object a process: a failed write is told once to each."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._fds: dict[int, int] = {}
        for folder in folders:
            device = folder.stat().st_dev
            if device not in self._fds:
                self._fds[device] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file systems back."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def sync(self) -> None:
        """Return when all that was written there before is on the disk; raises OSError where some of it is lost."""
        for fd in self._fds.values():
            _syncfs(fd)


def recover(data: Path) -> None:
    """Make the embedded store in a data folder what its checkpoints list, before the engine opens it.

    After a clean end nothing changes; nor does it where another process has the engine: opening it will say so.
    Raises OSError.
    """
    engine = ChdbDsn(data).engine_path
    with _owned(engine) as is_ours:
        if is_ours:
            _recover(data, engine)


def _recover(data: Path, engine: Path) -> None:
    boot = boot_id()
    for file in checkpoint_files(data):
        checkpoint = file.read()
        if checkpoint is None:
            continue
        if checkpoint.is_clean:
            file.write(Checkpoint(_on_the_disk(engine, checkpoint.tables), boot=boot))
            continue
        if checkpoint.boot and checkpoint.boot == boot:
            for folder in checkpoint.tables:
                forget_missing_blocks(engine / folder)
            continue
        for folder, names in checkpoint.tables.items():
            if put_aside := roll_back(engine / folder, names):
                log.warning(
                    "the machine went down: %d parts of %s were not known to be safe and are put aside; "
                    "their segments are loaded again",
                    put_aside,
                    folder,
                )


def settle(data: Path) -> None:
    """Note a clean end, after the engine has closed; raises OSError. Another process's engine is left alone."""
    engine = ChdbDsn(data).engine_path
    with _owned(engine) as is_ours:
        if is_ours:
            _settle(data, engine)


def _settle(data: Path, engine: Path) -> None:
    files = [(file, checkpoint) for file in checkpoint_files(data) if (checkpoint := file.read())]
    tables = [engine / folder for _, checkpoint in files for folder in checkpoint.tables]
    with Disk(folder for folder in (engine, *tables) if folder.is_dir()) as disk:
        disk.sync()
    for file, checkpoint in files:
        file.write(Checkpoint(_on_the_disk(engine, checkpoint.tables), is_clean=True))


def recover_for_a_collector(data: Path) -> None:
    """Do `recover`; raises JournalError where the disk does not let it."""
    try:
        recover(data)
    except OSError as error:
        raise JournalError(
            f"the store in {data} cannot be put in order after the last end: {error.filename}: {error.strerror}; "
            "nothing is lost, give the collector write access to it and start it again"
        ) from None


def settle_if_possible(data: Path) -> None:
    """Do `settle`; where that fails, the next start loads a few segments again."""
    try:
        settle(data)
    except OSError as error:
        log.warning("the clean end cannot be noted: %s: %s", error.filename, error.strerror)


@contextmanager
def kept_safe(data: Path) -> Iterator[None]:
    """Put the embedded store in order before the block opens it, and sync it when the block has closed it."""
    recover(data)
    try:
        yield
    finally:
        settle_if_possible(data)


def keeper_of(store: Store, dsn: ChdbDsn, name: str, tables: Sequence[str], journal: Journal) -> Keeper:
    """Make the keeper of what a journal loads into some tables of an embedded store, and write its first checkpoint.

    `store` is the connection that the loader uses. Raises StorageError or OSError.
    """
    folders: dict[str, Path] = {}
    for table, path, lifetime_s in store.rows(_LIST_TABLES, tables=list(tables)):
        folders[str(table)] = Path(str(path))
        if int(str(lifetime_s)) != OLD_PARTS_LIFETIME_S:
            store.run(_KEEP_OLD_PARTS, table=table, lifetime=OLD_PARTS_LIFETIME_S)
    keys = {table: os.path.relpath(path, dsn.engine_path) for table, path in folders.items()}

    whole: set[tuple[str, str]] = set()
    is_first = True
    merges = Merges(store, dsn.engine_path)

    def list_parts() -> Mapping[str, Sequence[str]]:
        merges.look()
        listed: dict[str, list[str]] = {key: [] for key in keys.values()}
        seen: set[tuple[str, str]] = set()
        nonlocal is_first
        for table, part, size_bytes in store.rows(_LIST_PARTS, tables=list(tables)):
            key, name = keys[str(table)], str(part)
            if (key, name) not in whole and is_short(folders[str(table)], name, int(str(size_bytes))):
                what = f"part {name} of {table} was cut off while it was written"
                if not is_first:
                    _keep_what_it_was_made_of(store, folders)
                    raise DamagedPartError(what)
                log.error("%s, before this start: there is nothing to go back to", what)
            listed[key].append(name)
            seen.add((key, name))
        is_first = False
        whole.clear()
        whole.update(seen)
        return listed

    disk = Disk((dsn.engine_path, *folders.values()))
    file = CheckpointFile(dsn.folder / FOLDER / name)
    file.read()
    keeper = Keeper(journal, file, list_parts=list_parts, sync=disk.sync)
    keeper.start()
    return keeper


@contextmanager
def _owned(engine: Path) -> Iterator[bool]:
    """Hold the engine's own lock, so that nobody opens it meanwhile; False where somebody has."""
    try:
        fd = os.open(engine / "status", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # there is no store yet
        return
    try:
        yield _is_locked_now(fd)
    finally:
        os.close(fd)


def _is_locked_now(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keep_what_it_was_made_of(store: Store, tables: Iterable[str]) -> None:
    """Let the engine delete nothing until the next start, which goes back to it."""
    try:
        for table in tables:
            store.run(_KEEP_OLD_PARTS, table=table, lifetime=UNTIL_RESTART_S)
    except StorageError as error:
        log.error("merged parts are deleted in %d s, restart before that: %s", OLD_PARTS_LIFETIME_S, error)


def _on_the_disk(engine: Path, folders: Iterable[str]) -> dict[str, list[str]]:
    return {folder: sorted(part.name for part in parts_in(engine / folder)) for folder in folders}


def _libc_syncfs() -> Callable[[int], int] | None:
    try:
        function: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return None
    return function


_SYNCFS = _libc_syncfs()


def _syncfs(fd: int) -> None:
    """Sync one file system; where the C library has no call for that, all of them."""
    if _SYNCFS is None:
        os.sync()
    elif _SYNCFS(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
