"""Times of files as Unix nanoseconds, exactly: integers stay integers, and what is no time is an error, never zero."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

MOST_NS = (1 << 63) - 1
# The zone also as databases write it: "+00" (PostgreSQL), " UTC" (BigQuery).
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,12}))?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_MAX_DIGITS = 40


class TimeError(ValueError):
    """A value that is no time; its text is a reason, without the value."""


def scaled_ns(value: object, unit_ns: int, what: str) -> int:
    """Read a number of units (1_000 for microseconds) as nanoseconds; fractions are kept down to one nanosecond.

    Raises TimeError where it is missing, no number, negative or too large for 64 bits.
    """
    if value is None:
        raise TimeError(f"it has no {what}")
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TimeError(f"its {what} is no number")
    if isinstance(value, int):
        result = value * unit_ns
    else:
        text = value.strip() if isinstance(value, str) else str(value)
        if len(text) > _MAX_DIGITS:
            raise TimeError(f"its {what} is no number")
        try:
            number = Decimal(text)
            if not number.is_finite() or number.adjusted() > _MAX_DIGITS:
                raise TimeError(f"its {what} is no finite number")
            result = int(number * unit_ns)
        except InvalidOperation:
            raise TimeError(f"its {what} is no number") from None
    if result < 0:
        raise TimeError(f"its {what} is negative")
    if result > MOST_NS:
        raise TimeError(f"its {what} is beyond 64 bits of nanoseconds")
    return result


def iso_ns(value: object, what: str) -> int:
    """Read a time as ISO 8601 with a zone; one without a zone is ambiguous and an error, as is one after 2262."""
    if value is None or value == "":
        raise TimeError(f"it has no {what}")
    found = _ISO.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise TimeError(f"its {what} is no time as in 2026-11-23T08:30:00.123Z")
    date, clock, fraction, zone = found.groups()
    if zone is None:
        raise TimeError(f"its {what} does not say in which time zone it is")
    try:
        whole = datetime.fromisoformat(f"{date}T{clock}{zone if zone[0] in '+-' else '+00:00'}")
    except ValueError:
        raise TimeError(f"its {what} is no time that there is") from None
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    result = (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "")[:9].ljust(9, "0"))
    if result < 0:
        raise TimeError(f"its {what} is before 1970")
    if result > MOST_NS:
        raise TimeError(f"its {what} is beyond 64 bits of nanoseconds")
    return result
