"""The command as the header keeps it: without what looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "…"
# From the beginning of a word, and no more of it: in 100 kB of base64 a search from every character would not end.
_NAME = (
    r"(?<![\w.-])[\w.-]{0,60}?"
    r"(?:token|secret|passw(?:or)?d|passphrase|(?:api|access|private)[-_]?key|credential|authorization|cookie)"
    r"[\w.-]{0,60}"
)
_ALONE = re.compile(_NAME, re.IGNORECASE)
# NAME=x, {"name": "x"}, "Name: x" as in a header but not test_token.py::test, and --name x within the words of a shell
_WITH_VALUE = re.compile(
    rf"({_NAME}(?:=|:\s+|[\"']\s*[:=]\s*)|authorization:|(?<!\S)(?=-){_NAME}\s+).+", re.IGNORECASE | re.DOTALL
)
_IN_URL = re.compile(r"(://(?:[^/\s:@]*:(?=[^/\s]+@)|(?=[^/\s:@]{16,}@)))[^/\s]+(@)")
_KNOWN = re.compile(r"\b(gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|AKIA|ASIA|eyJ)[\w.-]{16,}")


def without_secrets(command: Sequence[str]) -> tuple[str, ...]:
    """Replace values that follow a name like --token or PASSWORD=, passwords in URLs, and what begins as keys do."""
    kept: list[str] = []
    hide_next = False
    for word in command:
        if hide_next and not word.startswith("-"):
            kept.append(HIDDEN)
            hide_next = False
            continue
        hide_next = word.startswith("-") and _ALONE.fullmatch(word) is not None
        kept.append(_without_values(word))
    return tuple(kept)


def _without_values(word: str) -> str:
    word = _WITH_VALUE.sub(rf"\1{HIDDEN}", word)
    return _KNOWN.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}\2", word))
