"""What could not be loaded, kept with the reason, until somebody decides: look at it, try it again, or drop it.

    quarantine/<segment>.<number>.otlp      a record that the database refused, whole
    quarantine/<segment>.<number>.error     the database's own message
    quarantine/<segment>.<offset>.damaged   bytes of a segment that no longer are what was written; .error beside it
    quarantine/retry/                       records that the collector is to load again: it takes them from here

All of it is files and renames, so it works beside a running collector and without one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tailsight_collector.errors import CollectorError
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.segments import Segment
from tailsight_collector.keep.synced import make_folder, sync_folder, write_synced

log = logging.getLogger(__name__)

FOLDER = "quarantine"
RETRY_FOLDER = "retry"
RECORD_SUFFIX, DAMAGED_SUFFIX, ERROR_SUFFIX = ".otlp", ".damaged", ".error"
_KINDS = {RECORD_SUFFIX: "record", DAMAGED_SUFFIX: "damaged"}
_SEGMENT_DOTS = 1  # in a segment's token; a record's has one more


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing in quarantine. `kind` is `record`, or `damaged`, which nobody can load; `error` says why it is here."""

    name: str
    kind: str
    size_bytes: int
    since: datetime
    error: str
    is_waiting: bool  # for a collector to load it again
    path: Path


class Quarantine:
    """The quarantine of one journal."""

    def __init__(self, journal_folder: Path) -> None:
        self.folder = journal_folder / FOLDER
        self._retry_folder = self.folder / RETRY_FOLDER

    def __len__(self) -> int:
        return sum(1 for entry in self.entries() if not entry.is_waiting)

    # --- for the loader -------------------------------------------------------------------------------------------

    def put(self, token: str, number: int, record: bytes | memoryview, error: str) -> Path:
        """Keep a record that was refused; it is on the disk when this returns. Raises OSError."""
        return self._put(_name(token, number) + RECORD_SUFFIX, record, error)

    def put_damaged(self, token: str, offset: int, data: bytes | memoryview, error: str) -> Path:
        """Keep damaged bytes of a segment; they are on the disk when this returns. Raises OSError."""
        return self._put(f"{token}.{offset}{DAMAGED_SUFFIX}", data, error)

    def take_back(self, journal: Journal) -> Iterator[Segment]:
        """Make segments of the records that are to be loaded again, one after the other; raises OSError."""
        if not self._retry_folder.is_dir():
            return
        for path in sorted(self._retry_folder.glob(f"*{RECORD_SUFFIX}")):
            if (journal.folder / path.name).exists():
                continue  # it was tried before, and its file is kept until the next checkpoint deletes it
            segment = journal.adopt(path)
            (self.folder / path.name).with_suffix(ERROR_SUFFIX).unlink(missing_ok=True)
            yield segment

    def _put(self, name: str, data: bytes | memoryview, error: str) -> Path:
        make_folder(self.folder)
        path = self.folder / name
        write_synced(path.with_suffix(ERROR_SUFFIX), f"{error}\n".encode())
        write_synced(path, bytes(data))
        return path

    # --- for whoever decides --------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Quarantined]:
        """Everything in it, oldest segment first."""
        for path in sorted((*self.folder.glob("*"), *self._retry_folder.glob("*")), key=lambda path: path.name):
            if path.suffix not in _KINDS:
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # taken while we looked
            try:
                error = (self.folder / path.name).with_suffix(ERROR_SUFFIX).read_text("utf-8", "replace").strip()
            except FileNotFoundError:
                error = ""
            yield Quarantined(
                name=path.stem,
                kind=_KINDS[path.suffix],
                size_bytes=status.st_size,
                since=datetime.fromtimestamp(status.st_mtime, UTC),
                error=error,
                is_waiting=path.parent == self._retry_folder,
                path=path,
            )

    def retry(self, entry: Quarantined) -> None:
        """Hand a record to the collector that runs on this journal, or to the next one that starts.

        Raises CollectorError where it cannot be loaded, or is no longer there.
        """
        if entry.kind != _KINDS[RECORD_SUFFIX]:
            raise CollectorError(
                f"{entry.name} is damaged: there is no whole record in it to load; look at it with `show`, "
                "and remove it with `drop`"
            )
        if entry.is_waiting:
            return
        try:
            make_folder(self._retry_folder)
            entry.path.rename(self._retry_folder / entry.path.name)
            sync_folder(self._retry_folder)
            sync_folder(self.folder)
        except OSError as error:
            raise _cannot("be tried again", entry, error) from None

    def drop(self, entry: Quarantined) -> None:
        """Delete it for good; raises CollectorError where that fails, or it is no longer there."""
        try:
            entry.path.unlink()
            (self.folder / entry.path.name).with_suffix(ERROR_SUFFIX).unlink(missing_ok=True)
            sync_folder(entry.path.parent)
            sync_folder(self.folder)
        except OSError as error:
            raise _cannot("be dropped", entry, error) from None


def _name(token: str, number: int) -> str:
    """Name a record after its segment; one that is refused once more, alone in its segment, keeps its name."""
    return token if token.count(".") > _SEGMENT_DOTS else f"{token}.{number}"


def _cannot(what: str, entry: Quarantined, error: OSError) -> CollectorError:
    if isinstance(error, FileNotFoundError):
        return CollectorError(f"{entry.name} is no longer in quarantine: somebody dropped or retried it meanwhile")
    return CollectorError(f"{entry.name} cannot {what}: {error.filename}: {error.strerror}")
