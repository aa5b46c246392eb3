"""Which trace is meant? Ids as people copy them: in capitals, with dashes, shortened, or of 64 bits."""

from __future__ import annotations

import re

from tailsight_analysis.errors import NoSpansError, QuestionError
from tailsight_analysis.queries import query
from tailsight_storage import Store

DIGITS = 32
LEAST_DIGITS = 4
SHORT_DIGITS = 16  # of ids of 64 bits, which OTLP pads with zeros on the left
_MOST_NAMED = 5
_HEX = re.compile(r"[0-9a-f]+")


def parse_trace_id(text: str) -> str:
    """Return the hexadecimal digits of an id or of its beginning, in lower case; dashes and 0x are left out.

    Raises QuestionError where it is none.
    """
    digits = text.strip().lower().removeprefix("0x").replace("-", "")
    if not _HEX.fullmatch(digits):
        raise QuestionError(f"{text!r} is no trace id: use its {DIGITS} hexadecimal digits, or the first few of them")
    if not LEAST_DIGITS <= len(digits) <= DIGITS:
        raise QuestionError(
            f"trace id {text!r} has {len(digits)} digits: give all {DIGITS}, or at least the first {LEAST_DIGITS}"
        )
    return digits


def find_trace(store: Store, text: str) -> str:
    """Find the one trace in the store whose id is `text` or begins with it; returns the whole id, 32 digits.

    Up to 16 digits are also tried as an id of 64 bits. A whole id is returned as it is, without a look. Raises
    QuestionError where the text is no id or several traces begin with it, NoSpansError where none does.
    """
    digits = parse_trace_id(text)
    if len(digits) == DIGITS:
        return digits
    padded = digits if len(digits) <= SHORT_DIGITS else ""
    found = store.ask(
        query("trace_matching"),
        low=digits.ljust(DIGITS, "0"),
        high=digits.ljust(DIGITS, "f"),
        padded=padded.rjust(DIGITS, "0"),
        most=_MOST_NAMED,
    )
    if not found:
        raise no_such_trace(store, digits)
    matching = int(found[0]["matching"])
    if matching > 1:
        named = ", ".join(str(row["id"]) for row in found) + (", …" if matching > len(found) else "")
        raise QuestionError(f"trace id {digits} could be any of {matching:,}: {named}; give more digits")
    return str(found[0]["id"])


def no_such_trace(store: Store, digits: str) -> NoSpansError:
    """Say that a trace is not there, and which are."""
    latest = [str(row["id"]) for row in store.ask(query("trace_latest"), most=3)]
    if not latest:
        return NoSpansError(f"no trace {digits}: {store.dsn} holds no spans at all")
    what = f"no trace {digits}" if len(digits) == DIGITS else f"no trace id begins with {digits}"
    return NoSpansError(f"{what} in {store.dsn}; the latest there are {', '.join(latest)}")
