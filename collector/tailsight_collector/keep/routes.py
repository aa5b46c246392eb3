"""Which way a segment goes into the store: decoded here, in C, or by the database.

Each way has deduplication tokens of its own. What a crash left over may have been inserted before, without anybody's
knowing; so it goes the way that it went, although this installation would choose another (docs/decisions/0012). A file
in the journal's folder says which way that is; without one it is the database's, as it was before there were two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tailsight_collector.errors import JournalError
from tailsight_collector.keep.synced import sync_folder

FILE = "route.json"
_HERE, _DATABASE = "here", "database"


class Routes:
    """The way of every segment, by its token."""

    def __init__(self, folder: Path, *, decodes_here: bool, left_over: Iterable[str]) -> None:
        """Remember this run's way before there is a segment of it; raises JournalError."""
        self._path = folder / FILE
        self._now = _HERE if decodes_here else _DATABASE
        before, others = self._read()
        self._others = {
            token: way for token in left_over if (way := others.get(token, before)) != self._now
        }  # nobody else is left over
        if (self._now, self._others) != (before, others):  # a full disk must not keep a collector from starting
            self._write()

    def is_decoded_here(self, token: str) -> bool:
        """Whether a segment, or a part of one (`TOKEN/…`), is decoded here."""
        return self._others.get(token.partition("/")[0], self._now) == _HERE

    def _read(self) -> tuple[str, dict[str, str]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return str(found["way"]), dict(found["others"])
        except FileNotFoundError:
            return _DATABASE, {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{self._path} cannot be read: {error}; it says how left-over segments were loaded: mend it, or remove "
                "it where no *.otlp file lies beside it"
            ) from None

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump({"way": self._now, "others": self._others}, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be written: {error.strerror}") from None
