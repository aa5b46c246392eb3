"""The command as the header keeps it: without what looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "…"
_NAME = r"-{0,2}[\w.-]*(?:token|secret|passw(?:or)?d|api[-_]?key|credential)[\w.-]*"
_ALONE = re.compile(_NAME, re.IGNORECASE)
_WITH_VALUE = re.compile(rf"({_NAME}=).+", re.IGNORECASE | re.DOTALL)
_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(@)")


def without_secrets(command: Sequence[str]) -> tuple[str, ...]:
    """Replace values that follow a name like --token or PASSWORD=, and passwords in URLs."""
    kept: list[str] = []
    hide_next = False
    for word in command:
        if hide_next and not word.startswith("-"):
            kept.append(HIDDEN)
            hide_next = False
            continue
        hide_next = word.startswith("-") and _ALONE.fullmatch(word) is not None
        kept.append(_IN_URL.sub(rf"\1{HIDDEN}\2", _WITH_VALUE.sub(rf"\1{HIDDEN}", word)))
    return tuple(kept)
