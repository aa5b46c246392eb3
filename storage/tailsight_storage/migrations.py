"""Bring a database to the tables of this version: the numbered files in `sql/migrations/`, each run once, in order.

They run on the embedded engine and on a server alike. What was applied stands in `schema_migrations`, with a checksum,
because a file that changes after it was applied would make two stores of the same version differ. One process at a time
changes anything (migration_lock.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from tailsight_storage.errors import MigrationError
from tailsight_storage.migration_lock import Connection, migration_lock
from tailsight_storage.queries import with_includes, without_comments

_SQL = resources.files("tailsight_storage") / "sql"
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(version UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = MergeTree ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file: `statements` run in order."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of what is run, included types and all; a comment may be mended."""
        return hashlib.sha256("\n".join(self.statements).encode()).hexdigest()[:16]

    @property
    def statements(self) -> Iterator[str]:
        """The file's statements."""
        return statements_in(self.text)


def statements_in(text: str) -> Iterator[str]:
    """Give a file's statements without comment lines: servers take one statement at a time."""
    parts = re.split(r";\s*(?:\n|$)", without_comments(text))
    return (statement.strip() for statement in parts if statement.strip())


def load_migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    found = [
        Migration(int(match[1]), match[2], with_includes(_SQL, entry.read_text(encoding="utf-8")))
        for entry in (_SQL / "migrations").iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


def migrate(connection: Connection, *, alone: bool = False) -> list[Migration]:
    """Apply what is missing and return it; raises MigrationError where the database is newer or differs.

    A database that has everything is only read, so that a connection which may not change tables can open it. Several
    may do this at once: one migrates, the others wait for it. `alone`: nobody outside this process can be at it.
    """
    if not _missing(connection):
        return []
    with migration_lock(connection, alone=alone) as show_life:
        missing = _missing(connection)  # again: somebody else may have been quicker
        if missing:
            connection.run(_CREATE_LEDGER)
        for migration in missing:
            for statement in migration.statements:
                show_life()
                connection.run(statement)
            connection.run(
                "INSERT INTO schema_migrations (version, name, checksum) "
                "SELECT {version:UInt32}, {name:String}, {checksum:String}",
                version=migration.version,
                name=migration.name,
                checksum=migration.checksum,
            )
    return missing


def _missing(connection: Connection) -> list[Migration]:
    """Find what is not applied yet, by reading alone."""
    known = load_migrations()
    applied = _applied(connection)
    newest = known[-1].version
    if applied and max(applied) > newest:
        raise MigrationError(
            f"the store's tables are at version {max(applied)}, this tailsight knows {newest}: "
            "install the newer tailsight, or point --store at another database"
        )
    missing = []
    for migration in known:
        if migration.version not in applied:
            missing.append(migration)
        elif applied[migration.version] != migration.checksum:
            raise MigrationError(
                f"migration {migration.version:04}_{migration.name} was applied to this store in another form: "
                "the store was made by a different build; import its data into a new store"
            )
    return missing


def _applied(connection: Connection) -> dict[int, str]:
    [(exists,)] = connection.rows("EXISTS TABLE schema_migrations")
    if not exists:
        return {}
    rows = connection.rows("SELECT version, any(checksum) FROM schema_migrations GROUP BY version")
    return {int(str(version)): str(checksum) for version, checksum in rows}
