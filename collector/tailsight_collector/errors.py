"""The collector's errors.

CollectorError
├── SettingsError       an option of the collector cannot be used
├── CollectorFailedError  it has ended itself: only a new start helps
├── BadRequestError     a client sent something that cannot be decoded: an answer of 4xx, never worth a retry
├── JournalError        the journal cannot be used at all
│   └── JournalFullError    it holds as much as it may: clients keep their data and try again
├── AccessError         a client may not do this, or not now
│   ├── UnauthenticatedError  it has not shown a valid token
│   ├── ForbiddenError        its token is for something else
│   └── RateLimitError        its token's limits are used up for now
├── BusyError           there is too much at hand already: clients keep their data and try again
├── RefusedQueryError   the SQL port does not run this statement
└── UnreadableFileError a file that was to be imported cannot be read
    └── UnknownFormatError   it is of no kind that is known here: not a trace file at all
"""

from __future__ import annotations

import math


class CollectorError(Exception):
    """Base of all errors of this package; its text is one line that names the thing, the value and the way out."""


class SettingsError(CollectorError):
    """An option of the collector cannot be used."""


class CollectorFailedError(CollectorError):
    """The collector has failed in a way that only a new start mends, and has ended itself for that."""


class BadRequestError(CollectorError):
    """A client sent something that cannot be decoded. `status` is the HTTP status of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class JournalError(CollectorError):
    """The journal cannot be used: its folder is locked or not writable."""


class JournalFullError(JournalError):
    """The journal holds as much as it may; clients keep their data and try again later."""


class AccessError(CollectorError):
    """A client may not do this, or not now. `status` is the HTTP status of the answer. The text never holds a token."""

    status = 403


class UnauthenticatedError(AccessError):
    """A client has not shown a valid token."""

    status = 401


class ForbiddenError(AccessError):
    """A client's token is valid, and for something else."""


class RateLimitError(AccessError):
    """A client has used up its token's limits; `retry_after_s` seconds later it may go on."""

    status = 429

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def retry_after_whole_s(self) -> int:
        """The same in whole seconds, as HTTP has it: at least one."""
        return max(1, math.ceil(self.retry_after_s))


class BusyError(CollectorError):
    """There is too much at hand already; clients keep their data and try again later."""


class RefusedQueryError(CollectorError):
    """The SQL port does not run this statement."""


class UnreadableFileError(CollectorError):
    """A file that was to be imported cannot be read."""


class UnknownFormatError(UnreadableFileError):
    """A file is of no kind that is known here: not a trace file at all."""
