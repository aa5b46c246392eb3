"""What the driver's and the engine's errors mean: ours, whose messages say what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from clickhouse_connect.driver.exceptions import ClickHouseError

from tailsight_storage.dsn import ChdbDsn, StoreDsn
from tailsight_storage.errors import DataRefusedError, QueryFailedError, StorageError, StoreUnavailableError

_CODE = re.compile(r"\bCode: (\d+)")
_OS_ERROR = re.compile(r"\[Errno -?\d+\] ([\w -]+)")
# What may pass by itself (ClickHouse's ErrorCodes.cpp): the bytes are not at fault, the same insert may succeed later.
# Every other refusal of an insert is taken as one of its bytes, so that it never holds up what comes behind it.
_PASSING_CODES = frozenset({
    159,  # TIMEOUT_EXCEEDED
    160,  # TOO_SLOW
    164,  # READONLY
    201,  # QUOTA_EXCEEDED, a collector's answer to a token whose limits are used up
    202,  # TOO_MANY_SIMULTANEOUS_QUERIES
    209,  # SOCKET_TIMEOUT
    210,  # NETWORK_ERROR
    236,  # ABORTED
    242,  # TABLE_IS_READ_ONLY
    243,  # NOT_ENOUGH_SPACE
    252,  # TOO_MANY_PARTS
    319,  # UNKNOWN_STATUS_OF_INSERT
    394,  # QUERY_WAS_CANCELLED
    497,  # ACCESS_DENIED
    516,  # AUTHENTICATION_FAILED
    999,  # KEEPER_EXCEPTION
})  # fmt: skip


@contextlib.contextmanager
def translated(dsn: StoreDsn, *, inserting: bool = False) -> Iterator[None]:
    """Raise a StorageError in place of what the driver or the engine raises."""
    try:
        yield
    except StorageError:
        raise
    except (ClickHouseError, OSError, RuntimeError) as error:
        raise translation(error, dsn, inserting=inserting) from error
    except Exception as error:
        if type(error).__module__.startswith("chdb"):  # an error class of its own, in a package that may be absent
            raise translation(error, dsn, inserting=inserting) from error
        raise


def translation(error: Exception, dsn: StoreDsn, *, inserting: bool = False) -> StorageError:
    """Make a StorageError of an error of the driver or the engine."""
    text = " ".join(str(error).split())
    if match := _CODE.search(text):
        code = int(match[1])
        kind = DataRefusedError if inserting and code not in _PASSING_CODES else QueryFailedError
        detail = _shortened(text[match.start() :])
        return kind(f"store {dsn}: {detail}", code, detail)
    if isinstance(dsn, ChdbDsn):
        return StoreUnavailableError(f"store {dsn} cannot be opened: {_shortened(text)}")
    return StoreUnavailableError(
        f"store {dsn} does not answer: {_cause(text)}; start one with `tailsight up`, or name another with --store"
    )


def _cause(text: str) -> str:
    """Find the operating system's own words in what the HTTP client made of them."""
    if match := _OS_ERROR.search(text):
        return match[1]
    return "timed out" if "timed out" in text.lower() else _shortened(text)


def _shortened(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else text[:limit] + " …"
