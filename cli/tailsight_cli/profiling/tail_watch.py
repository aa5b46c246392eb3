"""`--on-tail`: is the tail of the last minute above what is usual? Asked of the store, now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tailsight_analysis import Window
from tailsight_analysis.profiled import stored_p99
from tailsight_storage import Store

RECENT_S = 60
USUAL_S = 3600
LEAST_RECENT = 20
LEAST_USUAL = 200


@dataclass(frozen=True, slots=True)
class TailNow:
    """The p99 of the recent minute, and that of the hour before it, in ms; None where there are too few requests."""

    recent_ms: float | None
    usual_ms: float | None

    def exceeds(self, factor: float) -> bool:
        """Whether the recent tail is above `factor` times the usual one."""
        return self.recent_ms is not None and self.usual_ms is not None and self.recent_ms > factor * self.usual_ms


def tail_now(store: Store, service: str, now_ns: int | None = None) -> TailNow:
    """Ask for both. Raises StorageError."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    recent = Window.last(RECENT_S, now_ns=now_ns)
    usual = Window(recent.since_ns - USUAL_S * 1_000_000_000, recent.since_ns)
    return TailNow(_p99(store, recent, service, LEAST_RECENT), _p99(store, usual, service, LEAST_USUAL))


def _p99(store: Store, window: Window, service: str, least: int) -> float | None:
    requests, p99_ms = stored_p99(store, window, service)
    return p99_ms if requests >= least else None
