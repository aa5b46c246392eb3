"""In which state was the device that a request ran on: hot, throttled, at a low clock? Joined by host and time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.causes.conditions import Key, Place, Row
from tailsight_analysis.queries import query
from tailsight_analysis.scope import NS_PER_S, Window
from tailsight_storage import Store

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Samples = dict[str, dict[str, tuple[Ints, Floats]]]  # by metric and host: moments in order, and values

_MOMENTS = 1000
_STALE_INTERVALS = 3  # a sample is old when so many have been missed
_STALE_NS = 10 * NS_PER_S  # but not sooner than this


def fetch_samples(store: Store, window: Window) -> Samples:
    """Return the state of all hosts' devices around a window."""
    moment_ns = max(NS_PER_S, (window.until_ns - window.since_ns) // _MOMENTS)
    rows = store.columns(query("device_state"), since_ns=window.since_ns, until_ns=window.until_ns, moment_ns=moment_ns)
    samples: Samples = {}
    if not rows:
        return samples
    metrics, hosts = rows["metric"], rows["host"]
    fresh = np.flatnonzero(np.append(True, (metrics[1:] != metrics[:-1]) | (hosts[1:] != hosts[:-1])))
    for first, end in zip(fresh, np.append(fresh[1:], len(metrics)), strict=True):
        moments = np.asarray(rows["time_ns"][first:end], dtype=np.int64)
        values = np.asarray(rows["value"][first:end], dtype=np.float64)
        samples.setdefault(str(metrics[first]), {})[str(hosts[first])] = moments, values
    return samples


def device_numbers(rows: Iterable[Row], middle_ns: Ints, samples: Samples) -> tuple[list[Key], Floats]:
    """Say for each service and metric in which state the host of its spans was in the middle of each request.

    `rows` are those of the key `host`. A state is the last sample before; none where that is stale.
    """
    hosts: dict[Place, Any] = {}
    for row in rows:
        if row.key == "host":
            on = hosts.setdefault(Place(row.service, row.stage), np.full(len(middle_ns), "", dtype=object))
            on[row.requests] = row.value
    keys: list[Key] = []
    numbers: list[Floats] = []
    seen: set[tuple[str, bytes]] = set()
    for place, on in hosts.items():
        names, codes = np.unique(on.astype(str), return_inverse=True)
        if (place.service, codes.tobytes()) in seen:  # stages of one service mostly run on one host
            continue
        shown = Place(place.service, "") if place.service not in {service for service, _ in seen} else place
        seen.add((place.service, codes.tobytes()))
        for metric, by_host in samples.items():
            values = np.full(len(middle_ns), np.nan)
            for code, name in enumerate(names.tolist()):
                if name in by_host:
                    there = codes == code
                    values[there] = _last_before(middle_ns[there], *by_host[name])
            if len(np.unique(values[~np.isnan(values)])) > 1:
                keys.append(Key(shown, metric))
                numbers.append(values)
    return keys, np.array(numbers).reshape(-1, len(middle_ns))


def _last_before(at_ns: Ints, moments_ns: Ints, values: Floats) -> Floats:
    """Return the last value at or before each moment, NaN where there is none or it is stale."""
    last = np.searchsorted(moments_ns, at_ns, side="right") - 1
    between = int(np.median(np.diff(moments_ns))) if len(moments_ns) > 1 else 0
    stale_ns = max(_STALE_NS, _STALE_INTERVALS * between)
    found = (last >= 0) & (at_ns - moments_ns[np.maximum(last, 0)] <= stale_ns)
    state: Floats = np.where(found, values[np.maximum(last, 0)], np.nan)
    return state
