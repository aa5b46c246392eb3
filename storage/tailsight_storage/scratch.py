"""A store for a while: spans are loaded once, asked a few times, and thrown away.

Its tables come from the migrations, so that spans are read and named as everywhere; then everything goes that only a
store needs which lasts (sql/scratch.sql). There is no guard against loading a segment twice.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tailsight_storage.dsn import ChdbDsn
from tailsight_storage.migrations import statements_in
from tailsight_storage.store import Store, open_store


def open_scratch(folder: Path) -> Store:
    """Open an embedded store in an empty folder. Raises StoreUnavailableError and QueryFailedError."""
    store = open_store(ChdbDsn(folder), create=True)
    try:
        for statement in statements_in((resources.files("tailsight_storage") / "sql/scratch.sql").read_text("utf-8")):
            store.run(statement)
    except BaseException:
        store.close()
        raise
    return store
