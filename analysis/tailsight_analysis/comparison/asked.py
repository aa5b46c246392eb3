"""What was each request asked to do? The attributes that may be held equal when two sets of requests are compared.

Only what the caller settled may be: the operation, the model, the input's length. What comes out of the work (its
output's length, retries, a cache hit) and what state the service was in (the batch that it formed, a queue's depth,
threads, throttling) may be the slowdown itself, or repeat it, and is never adjusted for. Attributes are told apart by
the words in their keys: docs/analysis/compare.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.causes.attributes import PROMOTED_KEYS
from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Floats, Ints
from tailsight_analysis.requests.trace_number import trace_number
from tailsight_storage import Store

MOST_VALUES = 50  # of a text that still describes a kind of request
ENOUGH_FOR_KEYS = 2000  # requests
LEAST_NUMBERS = 0.95  # of a key's values, for it to be a number
# Words of keys that say how much there was to do.
_INPUT = frozenset(
    re.findall(
        r"\w+",
        """
        input inputs prompt request payload body image images frame frames audio sequence seq context document
        documents docs query queries item items row rows pixel pixels width height resolution length len token
        tokens size bytes chars words steps beams candidates records count points pages samples features
        num n
        """,
    )
)
# Words of keys whose values come out of the work, say in which state the service was, or only name who did it.
_OUTCOME = frozenset(
    re.findall(
        r"\w+",
        """
        output outputs completion completions response result results generated total duration latency time
        timing ms ns us sec secs seconds elapsed wait waiting waited retry retries attempt attempts queue queued
        depth backlog inflight pending cache cached hit hits miss misses throttle throttled throttling temp
        temperature clock freq frequency power energy watts util utilization utilisation load memory mem free
        used heap gc error errors exception status code failed failure success ok deadline timeout timeouts gap
        gaps stream ttft tpot finish finished fallback degraded cancelled abandoned dropped late score quality
        accuracy confidence lock contention stall stalls pause cpu gpu device slow fast anomaly fault injected
        weight reason start end timestamp date host hostname pod node instance container zone region version
        build commit deploy deployment release revision thread worker process pid port ip address addr url uri
        peer server client agent network protocol scheme sdk library scope telemetry session trace span id uuid
        guid key hash seed run hardware stage service batch batches batched batching microbatch minibatch batchsize hw
        threads workers active concurrent concurrency parallel parallelism flight outstanding slots occupancy busy idle
        saturation pressure pool pools buffer buffers connection connections queues queueing queuing arrival arrivals
        retried retrying hedge hedged throttles temperatures celsius clocks fan cold warm warmup swap swapped evicted
        evictions preempted preemptions locks locked blocked blocking caching cores cpus gpus devices state states
        chunk chunks shard shards replica replicas partition partitions outcome
        """,
    )
)
_ALWAYS = frozenset({"http.route", "http.request.method", "http.method", "rpc.method", "rpc.service"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Asked:
    """Attributes of requests, an entry each: texts, "" where there is none, and numbers, NaN where there is none."""

    texts: Mapping[str, npt.NDArray[Any]]
    numbers: Mapping[str, Floats]


def words_of(key: str) -> frozenset[str]:
    """Words that a key is made of: `gen_ai.usage.inputTokens` has gen, ai, usage, input, tokens."""
    return frozenset(word.lower() for word in _WORD.findall(key))


def says_how_much(key: str) -> bool:
    """Whether a numeric attribute says how much work there was to do."""
    words = words_of(key)
    return bool(words & _INPUT) and not words & _OUTCOME


def says_what(key: str) -> bool:
    """Whether an entry span's attribute says what kind of work was asked for."""
    return key in _ALWAYS or (key not in PROMOTED_KEYS and not words_of(key) & _OUTCOME)


def number_keys(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Choose keys whose values are numbers and inputs, of rows of compare_keys.sql."""
    spans: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for row in rows:
        key = str(row["key"])
        spans[key] = spans.get(key, 0) + int(row["spans"])
        numbers[key] = numbers.get(key, 0) + int(row["numbers"])
    return {key for key in spans if says_how_much(key) and numbers[key] >= LEAST_NUMBERS * spans[key]}


def text_keys(rows: Iterable[Mapping[str, Any]], numbers: set[str]) -> set[str]:
    """Choose keys of entry spans that have a few values, and are no outcomes, of rows of compare_keys.sql."""
    rows = [row for row in rows if row["entries"]]
    many = {str(row["key"]) for row in rows if row["entry_values"] > MOST_VALUES}
    return {str(row["key"]) for row in rows if says_what(str(row["key"]))} - many - numbers


def fetch_keys(store: Store, bound: Mapping[str, Any], requests: int) -> list[dict[str, Any]]:
    """Ask which attributes so many sampled requests have; a part of them tells. `bound` binds sql/sampled.sql."""
    return store.ask(query("compare_keys"), **bound, one_in=max(1, requests // ENOUGH_FOR_KEYS))


def fetch_asked(
    store: Store, bound: Mapping[str, Any], texts: set[str], numbers: set[str], trace_ids: Sequence[str]
) -> Asked:
    """Fetch the values of the keys, an entry a request, given the requests' traces in hexadecimal.

    Requests of one trace share what it says.
    """
    traces = np.frombuffer(bytes.fromhex("".join(trace_ids)), dtype="<u8").reshape(-1, 2)
    keys = trace_number(traces[:, 0], traces[:, 1])
    text_values: dict[str, npt.NDArray[Any]] = {}
    number_values: dict[str, Floats] = {}
    for (service, key), rows in _by_key(store, bound, texts, numbers).items():
        if key in numbers:
            values = number_values.setdefault(f"{service}: {key}", np.full(len(trace_ids), np.nan))
            _put(values, keys, rows, "number")
        else:
            _put(text_values.setdefault(key, np.full(len(trace_ids), "", dtype=object)), keys, rows, "text")
    return Asked(text_values, number_values)


def _put(
    into: npt.NDArray[Any], keys: npt.NDArray[np.uint64], rows: Mapping[str, npt.NDArray[Any]], column: str
) -> None:
    """Write a column of rows, one a trace, to the requests of these traces."""
    wanted = trace_number(rows["trace_first"].astype(np.uint64), rows["trace_last"].astype(np.uint64))
    order = np.argsort(wanted, kind="stable")
    place = np.minimum(np.searchsorted(wanted[order], keys), len(order) - 1)
    found = wanted[order][place] == keys
    into[found] = rows[column][order][place[found]]


def _by_key(
    store: Store, bound: Mapping[str, Any], texts: set[str], numbers: set[str]
) -> dict[tuple[str, str], dict[str, npt.NDArray[Any]]]:
    """Rows of compare_values.sql, apart by service and key."""
    if not texts and not numbers:
        return {}
    rows = store.columns(query("compare_values"), **bound, texts=sorted(texts), numbers=sorted(numbers))
    if not rows:
        return {}
    pairs: dict[tuple[str, str], list[int]] = {}
    for at, pair in enumerate(zip(rows["service"].tolist(), rows["key"].tolist(), strict=True)):
        pairs.setdefault(pair, []).append(at)
    result = {}
    for pair in sorted(pairs):
        chosen: Ints = np.array(pairs[pair], dtype=np.int64)
        result[pair] = {name: values[chosen] for name, values in rows.items()}
    return result
