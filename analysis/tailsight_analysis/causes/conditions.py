"""What can be said of a request: its hardware, its batch size, the state of the device that it ran on. As plain data.

A condition stands somewhere: `hardware = L4` of the spans of one stage of one service says something, anywhere in a
trace of eight services it says nothing. Which requests meet which condition is kept as lists of the holders; numbers
are kept as such, and become ranges when they are asked (`rules.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMNS = ("service", "hardware", "host", "region", "environment", "version", "model")
IN_FLIGHT = "requests in flight"
ARRIVALS = "requests in the last"  # and a length of time
DEVICE = re.compile(r"^(hw|system|gpu|nvidia|DCGM|nv)[._]")
_NUMERIC_SHARE = 0.95  # of the holders of a key, from which on its values are numbers
LEAST_HOLDERS = 5  # of fewer requests nothing of weight can follow
_LEAST_DISTINCT = 3  # of two values, each is a condition by itself

# Keys that say what became of a request, not what it came from. They restate that it was slow.
_DURATION = re.compile(
    r"(^|[._-])(duration|latency|elapsed|took|wait(ed)?|time|ttft|tpot|time_to_first_chunk|time_to_first_token"
    r"|gap_p50_ms|gap_p99_ms|gap_max_ms|[a-z0-9_]*(_ms|_us|_ns|_millis|_seconds|_secs|_micros|_nanos))$",
    re.IGNORECASE,
)
_SYMPTOM = re.compile(
    r"(^|[._-])(retr(y|ies)|retry_count|retries_count|attempts?|attempt_number|resend_count|timed_?out|timeouts?|error|errors"
    r"|exception|slow|status_code|deadline_missed|finish_reasons?)([._-]|$)"
    # of an answer; a cache has a status too, and that is a cause
    r"|^(.*[._-])?(http|rpc|grpc|otel|response|request|span)([._-].*)?[._-]status$|^status$",
    re.IGNORECASE,
)
# Names of single processes and machines: each stands for what they have in common, if that is a condition too.
_INSTANCE = re.compile(
    r"(^|[._-])(pod|instance|container|process|thread|pid|uid|node|worker|replica)([._-]|$)", re.IGNORECASE
)


class Place(NamedTuple):
    """The spans that a condition was seen on: those of one stage of one service, or its spans without a stage.

    Both empty: the request as a whole.
    """

    service: str
    stage: str

    @property
    def label(self) -> str:
        """Human text: the stage, and the service where there is one."""
        return " of ".join(part for part in (self.stage, self.service) if part)


EVERYWHERE = Place("", "")


class Key(NamedTuple):
    """What is said of the spans of a place."""

    place: Place
    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """`key = value`, or a number of `key` in the half-open range [low, high), where either end may be None.

    `on` is the place of the spans on which it was seen. `same_as` are conditions that (almost) the same requests meet.
    """

    on: Place
    key: str
    value: str | None = None
    low: float | None = None
    high: float | None = None
    same_as: tuple[Condition, ...] = ()

    @property
    def text(self) -> str:
        """Human text without the place: `hardware = L4`, `tokens ≥ 512`, `8 ≤ batch < 16`."""
        if self.value is not None:
            return f"{self.key} = {self.value}"
        if self.high is None:
            return f"{self.key} ≥ {self.low:g}" if self.low is not None else self.key
        if self.low is None:
            return f"{self.key} < {self.high:g}"
        return f"{self.low:g} ≤ {self.key} < {self.high:g}"

    @property
    def label(self) -> str:
        """Human text: `hardware = L4 (compute of ranker)`."""
        return f"{self.text} ({self.on.label})" if self.on.label else self.text

    def to_json(self) -> dict[str, Any]:
        """Plain data: `value` or `low` and `high`, None where the range is open."""
        return {
            "key": self.key,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "on": {"service": self.on.service, "stage": self.on.stage},
            "label": self.label,
            "same_as": [other.to_json() for other in self.same_as],
        }


class Row(NamedTuple):
    """One value of one key in one place, and the requests that have it, by their numbers.

    Or, with `numbers`, what each of these requests has of its own.
    """

    service: str
    stage: str
    key: str
    value: str
    requests: Ints
    numbers: Floats | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known of `requests` requests.

    `pairs` are keys with values that are no numbers; the holders of pair i are `holder[first[i]:first[i + 1]]`. Of
    pairs with the same holders one is kept, the others are its `aliases`. `numbers` has a row a key, NaN where a
    request has none.
    """

    requests: int
    pairs: tuple[tuple[Key, str], ...]
    aliases: tuple[tuple[tuple[Key, str], ...], ...]
    first: Ints
    holder: Ints
    number_keys: tuple[Key, ...]
    numbers: Floats

    def holders(self, pair: int) -> Bools:
        """Which requests have a pair."""
        mask = np.zeros(self.requests, dtype=np.bool_)
        mask[self.holder[self.first[pair] : self.first[pair + 1]]] = True
        return mask

    def sums(self, weights: Floats) -> Floats:
        """Sum an entry a request over the holders of each pair."""
        if len(self.pairs) == 0:
            return np.empty(0)
        total: Floats = np.add.reduceat(weights[self.holder], self.first[:-1])
        return total

    def with_numbers(self, keys: Sequence[Key], numbers: Floats) -> Facts:
        """Add keys with numbers, a row each."""
        return Facts(
            self.requests, self.pairs, self.aliases, self.first, self.holder,
            (*self.number_keys, *keys), np.concatenate((self.numbers, numbers.reshape(-1, self.requests))),
        )  # fmt: skip


def facts_of(rows: Iterable[Row], requests: int) -> Facts:
    """Sort rows into numbers and pairs; what all requests have, or a few only, tells nothing and is left out."""
    by_key: dict[Key, list[Row]] = {}
    for row in rows:
        by_key.setdefault(Key(Place(row.service, row.stage), row.key), []).append(row)
    number_keys, numbers, pairs, groups = [], [], [], []
    for key, members in by_key.items():
        values = None if key.name in COLUMNS else _numbers(members, requests)
        if values is not None:
            number_keys.append(key)
            numbers.append(values)
            continue
        for row in members:
            if row.numbers is None and LEAST_HOLDERS <= len(row.requests) < requests:
                pairs.append((key, row.value))
                groups.append(row.requests)
    return _merged(pairs, groups, number_keys, numbers, requests)


@lru_cache(maxsize=10_000)
def is_symptom(name: str) -> bool:
    """Whether a key tells that a request was slow or went wrong, rather than why."""
    return bool(_DURATION.search(name) or _SYMPTOM.search(name))


def rank(key: Key, service: str, stage: str) -> tuple[int, int]:
    """How good a name a key is for what makes a stage of a service slow; of equal conditions the lowest is shown.

    A kind of hardware before a version, before what else the stage's own spans say, before a host, before a pod. The
    network's conditions are hosts and regions first.
    """
    order = ("host", "region", "hardware") if stage == "network" else ("hardware", "version", "model")
    if key.name in order:
        kind = order.index(key.name)
    elif _INSTANCE.search(key.name):
        kind = 8
    elif key.name in COLUMNS:
        kind = 6
    else:
        kind = 4
    distance = 0 if key.place == (service, stage) else 1 if key.place.service == service else 2
    # a value of another service's span is a worse name than this stage's own host
    return (kind + 3 * distance, distance)


def _numbers(members: list[Row], requests: int) -> Floats | None:
    """Return the greatest number that each request has of a key; None where values are no numbers, or too few."""
    values = np.full(requests, np.nan)
    parsed: list[tuple[float, Ints]] = []
    distinct: set[float] = set()
    holding, others = 0, 0
    for row in members:
        if row.numbers is not None:
            distinct.update(row.numbers[:_LEAST_DISTINCT].tolist())
            holding += len(row.requests)
            np.fmax.at(values, row.requests, row.numbers)
            continue
        number = _number(row.value)
        if number is None:
            others += len(row.requests)
        else:
            distinct.add(number)
            parsed.append((number, row.requests))
            holding += len(row.requests)
    if len(distinct) < _LEAST_DISTINCT or holding < _NUMERIC_SHARE * (holding + others):
        return None
    for number, held_by in parsed:
        values[held_by] = np.fmax(values[held_by], number)
    return values


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _merged(
    pairs: list[tuple[Key, str]], groups: list[Ints], number_keys: list[Key], numbers: list[Floats], requests: int
) -> Facts:
    """Keep one of the pairs that exactly the same requests have."""
    # a random number each: sums of different sets differ
    marks = np.random.default_rng(1).integers(0, 2**63, requests, dtype=np.uint64)
    alike: dict[tuple[int, int], list[int]] = {}
    for index, group in enumerate(groups):
        alike.setdefault((len(group), int(marks[group].sum(dtype=np.uint64))), []).append(index)
    kept = [members[0] for members in alike.values()]
    lengths = [len(groups[index]) for index in kept]
    return Facts(
        requests=requests,
        pairs=tuple(pairs[index] for index in kept),
        aliases=tuple(tuple(pairs[index] for index in members[1:]) for members in alike.values()),
        first=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        holder=np.concatenate([groups[index] for index in kept]) if kept else np.empty(0, dtype=np.int64),
        number_keys=tuple(number_keys),
        numbers=np.array(numbers).reshape(-1, requests),
    )
