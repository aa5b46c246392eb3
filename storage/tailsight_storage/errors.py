"""The store's errors.

StorageError
├── InvalidDsnError         the setting that names the store cannot be read
├── StoreUnavailableError   nobody answers, or the answer is not a store's
├── StoreInUseError         another process owns the embedded engine's folder
├── MigrationError          the tables cannot be brought to this version
├── InvalidSourcesError     a file of rules for sources cannot be read
├── InvalidReportError      what claims to be a gate's report is none
├── InvalidProfileError     what claims to be a profile is none
├── QueryFailedError        the database refused a statement
└── DataRefusedError        the database refused the bytes themselves: trying again will not help
"""

from __future__ import annotations


class StorageError(Exception):
    """Base of all errors of this package; its text is one line that names the thing, the value and the way out."""


class InvalidDsnError(StorageError):
    """The setting that names the store cannot be read."""


class StoreUnavailableError(StorageError):
    """Nobody answers at the store's address, or the answer is not a store's. Trying again later may help."""


class StoreInUseError(StorageError):
    """Another process owns the embedded engine's folder: chDB allows one."""


class MigrationError(StorageError):
    """The tables cannot be brought to the version that this program needs."""


class InvalidSourcesError(StorageError):
    """A file of rules for sources is wrong; `is_missing` where it cannot be read at all."""

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class InvalidReportError(StorageError):
    """What claims to be a gate's report cannot be kept: it is none, too large, or of a kind that is not known here."""


class InvalidProfileError(StorageError):
    """What claims to be a profile cannot be kept: it is none, too large, or of a kind that is not known here."""


class QueryFailedError(StorageError):
    """The database refused a statement. `code` and `detail` are ClickHouse's own error code and text."""

    def __init__(self, message: str, code: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail or message


class DataRefusedError(QueryFailedError):
    """The database refused the inserted bytes themselves: trying them again unchanged will not help."""
