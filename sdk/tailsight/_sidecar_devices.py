"""The sidecar's samples of the machine's state, and their way to the collector."""

import os
import time
from typing import Any

from ._answer import Unreachable
from ._collectors import for_metrics
from ._guard import caught
from ._options import Settings

_TIMEOUT_S = 2.0
_PART_OF_THE_TIME = 0.1  # that sending samples may take: batches of spans wait meanwhile
_NO_METRICS_HERE = frozenset({"404", "405", "415", "UNIMPLEMENTED"})  # a backend for traces alone


class Devices:
    """The sampler of the machine's state, and its own way to the collector. It never holds up the rest."""

    def __init__(self, settings: Settings, pid: int, resource: bytes) -> None:
        self.interval_s = settings.device_interval_s
        self._next = 0.0
        self._send_from = 0.0
        self._sampler: Any = None
        collector = for_metrics(settings, timeout_s=_TIMEOUT_S)
        if collector is None:
            self.interval_s = 0.0
        if not self.interval_s or collector is None:
            return
        from ._device import DeviceSampler

        self._sampler = DeviceSampler(resource, pid=pid, environ=os.environ)
        self._collector = collector

    def sample(self, now: float, *, away: bool) -> None:
        """Take and send a sample, if one is due. A sample that cannot be sent is gone: the next one is as good."""
        if not self.interval_s or now < self._next:
            return
        self._next = max(self._next + self.interval_s, now)
        try:
            body = self._sampler.sample(time.time_ns())
            if body and not away and now >= self._send_from and self._post(body, now) in _NO_METRICS_HERE:
                self.interval_s = 0.0
        except Exception as error:
            caught("sampling the devices", error)

    def _post(self, body: bytes, now: float) -> str | None:
        """Return the answer's status. After an answer that took long, or did not come, the next one is not soon."""
        began = time.monotonic()
        try:
            return self._collector.post(body).status
        except Unreachable:
            return None
        finally:
            took_s = time.monotonic() - began
            self._send_from = now + took_s / _PART_OF_THE_TIME
