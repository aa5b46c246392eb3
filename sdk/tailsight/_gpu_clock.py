"""Where on the host's time line did an event of a device happen.

CUDA says only how much time lies between two events. So now and then an anchor is made: an event on a stream of its
own, which is idle, and the host's clock read before and after each question whether it has happened. The last "no"
and the first "yes" enclose the moment; half of the width is the error. The narrowest of a few attempts counts.

An anchor that happened before an event places it by the time since then. CUDA's clock drifts against the host's, and it
says the time in milliseconds as a 32-bit float, so anchors are used for a second only: with a drift of 20 µs a second
and steps of 0.06 µs. Else an anchor that is made after the event places it by the time until then.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ._gpu_backends import Backend

ANCHOR_LASTS_NS = 1_000_000_000
_ATTEMPTS = 5
_MAX_QUESTIONS = 200  # some 300 µs; an idle stream needs 10


class Anchor(NamedTuple):
    """An event whose time on the host's clock is known."""

    event: Any
    host_ns: int
    error_ns: int
    now: Callable[[], int]  # the clock it was made with


class DeviceClock:
    """The latest anchors of a backend's devices."""

    __slots__ = ("_anchors", "_backend")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._anchors: dict[Hashable, Anchor] = {}

    def place(self, event: Any, *, device: Hashable, entered_ns: int, now: Callable[[], int]) -> int | None:
        """Return when `event` happened: it has, and was recorded at `entered_ns` or later. None if nobody can tell."""
        anchor = self._anchors.get(device)
        if anchor is not None and anchor.now is now:
            since = entered_ns - (anchor.host_ns + anchor.error_ns)
            if 0 <= since < ANCHOR_LASTS_NS:
                return anchor.host_ns + _ns(self._backend.elapsed_ms(anchor.event, event))
        anchor = self._make(device, now)
        if anchor is None:
            return None
        self._anchors[device] = anchor
        return anchor.host_ns - _ns(self._backend.elapsed_ms(event, anchor.event))

    def error_ns(self, device: Hashable) -> int | None:
        """Return the error of the device's latest anchor."""
        anchor = self._anchors.get(device)
        return None if anchor is None else anchor.error_ns

    def _make(self, device: Hashable, now: Callable[[], int]) -> Anchor | None:
        backend, best = self._backend, None
        stream = backend.side_stream(device)
        for _ in range(_ATTEMPTS):
            event = backend.new_event()
            low = now()
            backend.record(event, stream)
            for _ in range(_MAX_QUESTIONS):
                asked = now()
                if backend.done(event):
                    high = now()
                    anchor = Anchor(event, (low + high) // 2, (high - low + 1) // 2, now)
                    if best is None or anchor.error_ns < best.error_ns:
                        best = anchor
                    break
                low = asked
        return best


def _ns(ms: float) -> int:
    return round(ms * 1e6)
