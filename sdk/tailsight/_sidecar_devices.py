"""The sidecar's samples of the machine's state, and their way to the collector."""

import os
import time
from typing import Any

from ._guard import caught
from ._http import Collector, Unreachable
from ._options import TRACES_PATH, Settings

METRICS_PATH = "/v1/metrics"

_TIMEOUT_S = 2.0
_NO_METRICS_HERE = frozenset({404, 405, 415})  # a backend for traces alone


class Devices:
    """The sampler of the machine's state, and its own way to the collector. It never holds up the rest."""

    def __init__(self, settings: Settings, pid: int, resource: bytes, traces_url: str) -> None:
        self.interval_s = settings.device_interval_s
        self._next = 0.0
        self._sampler: Any = None
        if settings.transport == "file" or not traces_url.endswith(TRACES_PATH):
            self.interval_s = 0.0  # there is nowhere to send metrics to
        if not self.interval_s:
            return
        from ._device import DeviceSampler

        self._sampler = DeviceSampler(resource, pid=pid, environ=os.environ)
        self._collector = Collector(
            traces_url.removesuffix(TRACES_PATH) + METRICS_PATH,
            headers=settings.headers,
            compression=settings.compression,
            timeout_s=min(settings.timeout_s, _TIMEOUT_S),
        )

    def sample(self, now: float, *, away: bool) -> None:
        """Take and send a sample, if one is due. A sample that cannot be sent is gone: the next one is as good."""
        if not self.interval_s or now < self._next:
            return
        self._next = max(self._next + self.interval_s, now)
        try:
            body = self._sampler.sample(time.time_ns())
            if body and not away and self._collector.post(body).status in _NO_METRICS_HERE:
                self.interval_s = 0.0
        except Unreachable:
            pass
        except Exception as error:
            caught("sampling the devices", error)
