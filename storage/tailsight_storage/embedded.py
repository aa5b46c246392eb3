"""A read-only session of the embedded engine, for statements that strangers wrote (the collector's SQL port).

It goes to chDB directly. clickhouse-connect is for our own statements: where it finds no `{name:Type}` it puts
parameters into the text by `%`, which must never happen to a text that was checked before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tailsight_storage.dsn import ChdbDsn
from tailsight_storage.errors import QueryFailedError, StorageError
from tailsight_storage.translation import translated

MAX_ANSWER_BYTES = 1024**3
# ClickHouse's codes
_BAD_ARGUMENTS = 36
_TOO_LARGE = 396
_PARAMETER_NAME = re.compile(r"\w{1,64}", re.ASCII)


class EmbeddedReader:
    """One session; not for use by several threads at once. `limits` are ClickHouse settings, fixed for its life."""

    def __init__(self, dsn: ChdbDsn, limits: Mapping[str, int]) -> None:
        import chdb

        self._dsn = dsn
        with translated(dsn):
            connect: Any = chdb.connect
            self._connection = connect(str(dsn.engine_path))
        self.run(f"USE {dsn.database}", {})
        for name, value in limits.items():
            self.run(f"SET {name} = {value}", {})
        self.run("SET readonly = 1", {})  # the last: nothing can be set after it

    def run(
        self, statement: str, parameters: Mapping[str, str], *, default_format: str = "TabSeparated", tag: str = ""
    ) -> bytes:
        """Run one statement and return the answer's bytes in its own or in the default format.

        `parameters` are texts in ClickHouse's own escaping, as its HTTP interface receives them. A query with a `tag`
        can be ended by it (`Store.kill`). Raises QueryFailedError.
        """
        for name in parameters:
            if not _PARAMETER_NAME.fullmatch(name):
                raise QueryFailedError(
                    f"parameter {name[:64]!r} has a name that cannot be bound; use letters, digits and _",
                    _BAD_ARGUMENTS,
                )
        text = f"/* {tag} */ {statement}" if tag else statement
        with translated(self._dsn):
            result = self._connection.query(text, default_format, params=dict(parameters))
            if result.size() > MAX_ANSWER_BYTES:  # before it is copied
                raise QueryFailedError(f"the answer has more than {MAX_ANSWER_BYTES} bytes", _TOO_LARGE)
            answer: bytes = result.bytes()
        return answer or b""

    def close(self) -> None:
        """End the session."""
        try:
            self._connection.close()
        except RuntimeError as error:
            raise StorageError(f"store {self._dsn}: {error}") from error
