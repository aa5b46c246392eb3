"""What the clients of an HTTP port may cost beside their requests' bytes: connections, headers, and time.

None of it asks who sends: that is what tokens are for.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from tailsight_collector.errors import SettingsError

# What is not a client's connection: segments, the engine's files, logs.
_OTHER_FILES = 1024
_FEWEST_CONNECTIONS = 64
# At the least speed the largest body would take an hour: none may take more than this many times body_s.
_SLOWEST = 10


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long a client of a port may take, and how much it may send beside bodies.

    `header_s`: from a request's first byte to the end of its headers. `body_s`: for a body, and anew whenever so much
    of it has come that it was quick enough. `idle_s`: without a request. `header_bytes`: all headers, or all trailers.
    """

    connections: int = 12_000
    header_bytes: int = 64 * 1024
    headers: int = 256
    header_s: float = 10.0
    body_s: float = 30.0
    body_bytes_per_s: int = 16 * 1024
    idle_s: float = 75.0
    pipelined: int = 128

    def __post_init__(self) -> None:
        if self.connections < _FEWEST_CONNECTIONS:
            raise SettingsError(f"max_connections {self.connections} is too few; use at least {_FEWEST_CONNECTIONS}")
        for name in ("header_s", "body_s", "idle_s"):
            if not 0 < getattr(self, name) <= 3600:
                raise SettingsError(f"{name} {getattr(self, name)} must lie above 0 and be at most 3600 seconds")

    @property
    def quick_enough_bytes(self) -> int:
        """How much of a body must come in `body_s`."""
        return int(self.body_s * self.body_bytes_per_s)

    @property
    def longest_body_s(self) -> float:
        """How long a body may take at most."""
        return self.body_s * _SLOWEST


def raise_open_files_limit() -> int:
    """Let this process open as many files as it may; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def connections_for(open_files: int, wanted: int) -> int:
    """How many connections fit beside the process's own files, and no more than wanted."""
    return max(_FEWEST_CONNECTIONS, min(wanted, open_files - _OTHER_FILES))
