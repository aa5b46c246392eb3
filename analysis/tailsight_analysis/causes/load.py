"""How busy was it when a request started? Conditions that no attribute has to say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.causes.conditions import ARRIVALS, EVERYWHERE, IN_FLIGHT, Key
from tailsight_analysis.queries import query
from tailsight_storage import Store

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_REQUESTS = 500_000  # of more, their starts are not read
SPANS_OF_TIME = (1, 4, 16)  # typical durations that arrivals are counted over
_LONGEST_NS = 2**60  # 36 years, more than any clock is wrong by: so that no moment before a start overflows


def fetch_load(
    store: Store, parameters: dict[str, Any], requests: int, start_ns: Ints, typical_ns: int
) -> tuple[list[Key], Floats]:
    """Return the load at some moments as numbers, a row each; none where there are too many requests to count.

    `parameters` are those of sql/requests.sql, `requests` how many there are, `typical_ns` how long one takes.
    """
    if requests > MOST_REQUESTS:
        return [], np.empty((0, len(start_ns)))
    rows = store.columns(query("arrivals"), **parameters)
    if not rows:
        return [], np.empty((0, len(start_ns)))
    starts, durations = np.asarray(rows["start_ns"], dtype=np.int64), np.asarray(rows["duration_ns"], dtype=np.int64)
    return load_at(start_ns, starts, durations, np.asarray(rows["weight"], dtype=np.float64), typical_ns)


def load_at(
    at_ns: Ints, start_ns: Ints, duration_ns: Ints, weight: Floats, typical_ns: int
) -> tuple[list[Key], Floats]:
    """Count, at each moment, the requests in flight, and those that arrived just before; `start_ns` ascends.

    A request that starts at the moment itself does not count. In flight are also those that are late for the reason
    asked for; arrivals know nothing of it.
    """
    begun = np.concatenate(([0.0], np.cumsum(weight)))
    ends = start_ns + np.maximum(duration_ns, 1)  # what takes no time has not ended before it began
    order = np.argsort(ends, kind="stable")
    ended = np.concatenate(([0.0], np.cumsum(weight[order])))
    ends = ends[order]
    before = begun[np.searchsorted(start_ns, at_ns, side="left")]
    in_flight = before - ended[np.searchsorted(ends, at_ns, side="right")]
    keys, counts = [Key(EVERYWHERE, IN_FLIGHT)], [in_flight]
    for spans in SPANS_OF_TIME:
        length = min(max(1, spans * typical_ns), _LONGEST_NS)
        since = begun[np.searchsorted(start_ns, at_ns - length, side="left")]
        keys.append(Key(EVERYWHERE, f"{ARRIVALS} {_length(length)}"))
        counts.append(before - since)
    return keys, np.array(counts)


def _length(length_ns: int) -> str:
    return f"{length_ns / 1e9:.3g} s" if length_ns >= 1e9 else f"{length_ns / 1e6:.3g} ms"
