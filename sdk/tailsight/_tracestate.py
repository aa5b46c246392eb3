"""W3C tracestate by level 2 of the specification.

OpenTelemetry reads level 1, where a key may hold one "@" at most, and gives up the whole list when a key is repeated.
"""

import re
from collections.abc import Iterable, Mapping

from opentelemetry.trace import TraceState

MAX_MEMBERS = 32
MAX_LENGTH = 8192

_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


class TraceStateLevel2(TraceState):
    """An OpenTelemetry TraceState whose keys follow level 2."""

    def __init__(self, members: Mapping[str, str]) -> None:
        super().__init__()
        self._dict = dict(members)  # the constructor would refuse them


def parse(headers: Iterable[str]) -> TraceState | None:
    """Read the `tracestate` headers of one request. None if there is nothing, or something that cannot be trusted.

    Of a repeated key the first member, the newest, is kept.
    """
    joined = ",".join(headers)
    if len(joined) > MAX_LENGTH:
        return None
    members: dict[str, str] = {}
    for part in joined.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _MEMBER.fullmatch(member)
        if not match:
            return None
        members.setdefault(*match.groups())
    return TraceStateLevel2(members) if 0 < len(members) <= MAX_MEMBERS else None
