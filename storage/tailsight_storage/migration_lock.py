"""One at a time may change a database's tables: two collectors that start at once must not both migrate.

ClickHouse without Keeper has no lock, but its catalog has atomic steps: of several `CREATE TABLE` without IF NOT EXISTS
one succeeds. So the lock is a table; its comment names the owner, and the owner's last sign of life is the time at
which the table's definition was last changed, by the server's own clock.

An owner that died leaves the table behind. After ABANDONED_S without a sign of life it is renamed to a name that
follows from its owner: of several who try that, one succeeds, and a lock that was taken anew in between cannot be
meant, because the name that it would get exists already. For that reason the renamed table stays for a while.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from tailsight_storage.errors import MigrationError, QueryFailedError, StorageError

# Between two statements of a migration: longer than any of them takes, mutations run in the background.
ABANDONED_S = 60
LIFE_EVERY_S = 5
POLL_S = 0.2
_FORGET_ABANDONED_S = 86_400
# ClickHouse's codes
_TABLE_EXISTS, _UNKNOWN_TABLE = 57, 60
_MAY_NOT = frozenset({164, 497})  # READONLY, ACCESS_DENIED
# What came of this process: in a folder that only one process can open, any other owner is dead.
_PROCESS = secrets.token_hex(4)


class Connection(Protocol):
    """What migrating needs of a database connection, set to the right database."""

    def run(self, statement: str, **parameters: object) -> None:
        """Run one statement that gives no rows."""

    def rows(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""


@contextmanager
def migration_lock(
    connection: Connection,
    *,
    alone: bool = False,
    abandoned_s: int = ABANDONED_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Callable[[], None]]:
    """Hold the lock; gives what is to be called between two steps, as a sign of life.

    `alone`: nobody outside this process can hold it, so that what a dead process left is taken over at once. Raises
    MigrationError where the connection may not change tables, or where the lock was lost.
    """
    owner = f"{_PROCESS}{secrets.token_hex(4)}"
    _take(connection, owner, alone=alone, abandoned_s=abandoned_s, sleep=sleep)
    shown_s = time.monotonic()

    def show_life() -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s > LIFE_EVERY_S:
            _show_life(connection, owner)
            shown_s = time.monotonic()

    try:
        _forget_abandoned(connection)
        yield show_life
    finally:
        with suppress(StorageError):  # what cannot be given back is found abandoned later
            if _owner(connection) == owner:
                connection.run("DROP TABLE IF EXISTS migration_lock")


def _take(connection: Connection, owner: str, *, alone: bool, abandoned_s: int, sleep: Callable[[float], None]) -> None:
    while True:
        try:
            connection.run(
                # a comment cannot be bound
                f"CREATE TABLE migration_lock (unused UInt8) ENGINE = Memory COMMENT '{_comment(owner)}'"
            )
        except QueryFailedError as error:
            if error.code in _MAY_NOT:
                raise MigrationError(
                    "the store's tables are older than this tailsight needs, and it does not let us change them: "
                    "first upgrade the collector that owns the store, or give this one a user who may create tables"
                ) from error
            if error.code != _TABLE_EXISTS:
                raise
        else:
            return
        found = _state(connection)
        if found is None:
            continue  # given back in between
        holder, silent_s = found
        if (alone and not holder.startswith(_PROCESS)) or silent_s >= abandoned_s:
            _put_aside(connection, holder)
        else:
            sleep(POLL_S)


def _put_aside(connection: Connection, holder: str) -> None:
    try:
        connection.run(
            "RENAME TABLE migration_lock TO {aside:Identifier}", aside=f"migration_lock_abandoned_{holder or 'unknown'}"
        )
    except QueryFailedError as error:
        if error.code not in (_TABLE_EXISTS, _UNKNOWN_TABLE):
            raise  # somebody else was quicker


def _show_life(connection: Connection, owner: str) -> None:
    if _owner(connection) != owner:
        raise MigrationError(
            "another tailsight has taken over this migration, because it saw no sign of life of ours: start again"
        )
    connection.run(f"ALTER TABLE migration_lock MODIFY COMMENT '{_comment(owner)}'")


def _comment(owner: str) -> str:
    """Name the owner for the lock, and for people; letters, digits and `.:/-_ ` alone, as it stands in a statement."""
    host = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter in ".-_")
    return f"{owner} {host}:{os.getpid()} {secrets.token_hex(2)}"


def _owner(connection: Connection) -> str:
    found = _state(connection)
    return found[0] if found else ""


def _state(connection: Connection) -> tuple[str, int] | None:
    """Return the owner of the lock and for how many seconds it has shown no life; None where nobody has it."""
    rows = connection.rows(
        "SELECT comment, dateDiff('second', metadata_modification_time, now()) FROM system.tables "
        "WHERE database = currentDatabase() AND name = 'migration_lock'"
    )
    if not rows:
        return None
    comment, silent_s = rows[0]
    return str(comment).partition(" ")[0], int(str(silent_s))


def _forget_abandoned(connection: Connection) -> None:
    for (name,) in connection.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, 'migration_lock_') "
        "AND dateDiff('second', metadata_modification_time, now()) > {after_s:UInt32}",
        after_s=_FORGET_ABANDONED_S,
    ):
        connection.run("DROP TABLE IF EXISTS {name:Identifier}", name=str(name))
