"""The collector's errors.

CollectorError
├── SettingsError       an option of the collector cannot be used
├── BadRequestError     a client sent something that cannot be decoded: an answer of 4xx, never worth a retry
├── JournalError        the journal cannot be used at all
│   └── JournalFullError    it holds as much as it may: clients keep their data and try again
├── RefusedQueryError   the SQL port does not run this statement
└── UnreadableFileError a file that was to be imported cannot be read
    └── UnknownFormatError   it is of no kind that is known here: not a trace file at all
"""

from __future__ import annotations


class CollectorError(Exception):
    """Base of all errors of this package; its text is one line that names the thing, the value and the way out."""


class SettingsError(CollectorError):
    """An option of the collector cannot be used."""


class BadRequestError(CollectorError):
    """A client sent something that cannot be decoded. `status` is the HTTP status of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class JournalError(CollectorError):
    """The journal cannot be used: its folder is locked or not writable."""


class JournalFullError(JournalError):
    """The journal holds as much as it may; clients keep their data and try again later."""


class RefusedQueryError(CollectorError):
    """The SQL port does not run this statement."""


class UnreadableFileError(CollectorError):
    """A file that was to be imported cannot be read."""


class UnknownFormatError(UnreadableFileError):
    """A file is of no kind that is known here: not a trace file at all."""
