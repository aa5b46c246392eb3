"""Which attribute values do requests have, and which do slow ones have more often? See docs/analysis/tail.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.causes.conditions import Row
from tailsight_analysis.queries import query
from tailsight_analysis.requests.ledger import Ledger
from tailsight_analysis.requests.sample import Cuts, Picked
from tailsight_analysis.requests.trace_number import trace_number
from tailsight_analysis.statistics.blocks import chance_in_time, time_blocks
from tailsight_analysis.statistics.significance import (
    Bools,
    Floats,
    Ints,
    benjamini_hochberg,
    effective_counts,
    fisher_over_represented,
)
from tailsight_storage import Store

SIGNIFICANCE = 0.05
# Keys that a column already stands for, or that name a thread, a process or the SDK: never listed from the maps.
PROMOTED_KEYS = (
    "cloud.region",
    "deployment.environment",
    "deployment.environment.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "host.name",
    "process.pid",
    "service.instance.id",
    "service.name",
    "service.version",
    "tailsight.definition",
    "tailsight.derived",
    "tailsight.hardware",
    "tailsight.intended_start_unix_nano",
    "tailsight.model",
    "tailsight.run",
    "tailsight.sampling.reason",
    "tailsight.sampling.weight",
    "tailsight.source",
    "tailsight.stage",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "thread.id",
    "thread.name",
)
InTime = Callable[[int], float]
MOST_OF_TAIL, MOST = 2000, 4000  # requests whose attributes are read: it takes as long as the rest of the question
_FEW = 1000  # requests, of which everything is read


@dataclass(frozen=True, slots=True)
class OverRepresented:
    """An attribute value that tail requests have more often than typical ones, more than chance allows.

    Shares are of requests; `lift` is their ratio, a lower bound where no typical request has the value; `p_value` is
    corrected for all values tested.
    """

    key: str
    value: str
    tail_share: float
    typical_share: float
    lift: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "key": self.key,
            "value": self.value,
            "tail_share": self.tail_share,
            "typical_share": self.typical_share,
            "lift": self.lift,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """What requests say of themselves: rows, whose requests are numbered among the `known` ones of a ledger."""

    known: Bools
    rows: list[Row]


def fetch_said(store: Store, parameters: dict[str, Any], cuts: Cuts, ledger: Ledger) -> Said:
    """Return what the traces of a ledger's requests say: of at most MOST_OF_TAIL of the tail and MOST others.

    `parameters` are those of sql/requests.sql, `cuts` those that the ledger was fetched with.
    """
    # what one trace only has can be several requests'
    keep_rare = len(ledger) <= _FEW or len(set(ledger.trace_ids)) < len(ledger)
    bound = parameters | cuts.parameters()
    keys = {
        "tail_key": _fewer(bound["tail_key"], int(ledger.in_tail.sum()), MOST_OF_TAIL),
        "typical_key": _fewer(bound["typical_key"], int(ledger.in_typical.sum()), MOST),
    }
    last_id = f"{max(keys.values()):016x}" + "f" * 16
    found = store.ask(
        query("trace_facts"),
        **bound | keys | {"last_id": last_id},
        promoted=list(PROMOTED_KEYS),
        keep_rare=int(keep_rare),
    )
    known = np.zeros(len(ledger), dtype=np.bool_)
    of_all = _RequestsOf(ledger.trace_ids)
    for row in found:
        if row["key"] == "":
            known[of_all(row["traces"])] = True
    requests_of = _RequestsOf([ledger.trace_ids[number] for number in np.flatnonzero(known).tolist()])
    places = {(row["service"], row["stage"]): requests_of(row["traces"]) for row in found if row["key"] == ""}
    rows = []
    for row in found:
        place = str(row["service"]), str(row["stage"])
        if row["numbers"]:  # one trace each, and a trace is one request's where values are left out
            numbers, requests = np.array(row["numbers"]), requests_of.each(row["traces"])
            rows.append(Row(*place, str(row["key"]), "", requests[requests >= 0], numbers[requests >= 0]))
            continue
        requests = places[place] if row["all_of_place"] else requests_of(row["traces"])
        if row["key"] and len(requests):
            rows.append(Row(*place, str(row["key"]), str(row["shown"]), requests))
    return Said(known, rows)


def _fewer(key: int, requests: int, most: int) -> int:
    """Lower the limit of a sample's keys, which are uniform, so that about so many requests at most remain."""
    return key if requests <= most else round(key * (most / requests))


def over_represented(
    rows: Iterable[Row],
    in_tail: Bools,
    in_typical: Bools,
    weight: Floats,
    start_ns: Ints,
    tail: Picked,
    typical: Picked,
) -> tuple[tuple[OverRepresented, ...], int]:
    """Return the significant values, greatest difference of shares first, and how many values were tested.

    A request has a value wherever in its trace it is. `in_tail`, `in_typical`, `weight` and `start_ns` have an entry a
    request; `tail` and `typical` are the requests of each class in the sample.
    """
    holders: dict[tuple[str, str], list[Ints]] = {}
    for row in rows:
        if row.numbers is None:
            holders.setdefault((row.key, row.value), []).append(row.requests)
    counted, held_by, tested = [], [], 0
    tail_weight, typical_weight = np.where(in_tail, weight, 0.0), np.where(in_typical, weight, 0.0)
    for (key, value), parts in holders.items():
        members = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
        of_tail, of_typical = int(in_tail[members].sum()), int(in_typical[members].sum())
        if of_tail + of_typical < 2:  # a value of one request is no pattern
            continue
        tested += 1
        if of_tail < 2:
            continue
        held_by.append(members)
        counted.append({
            "key": key,
            "value": value,
            "tail_requests": of_tail,
            "typical_requests": of_typical,
            "tail_weight": float(tail_weight[members].sum()),
            "tail_weight2": float((tail_weight[members] ** 2).sum()),
            "typical_weight": float(typical_weight[members].sum()),
            "typical_weight2": float((typical_weight[members] ** 2).sum()),
        })  # fmt: skip
    if not counted:
        return (), 0
    compared = np.flatnonzero(in_tail | in_typical)
    compared = compared[np.argsort(start_ns[compared], kind="stable")]
    block = time_blocks(start_ns[compared])

    def in_time(number: int) -> float:
        holds = np.zeros(len(weight), dtype=np.bool_)
        holds[held_by[number]] = True
        return chance_in_time(in_tail[compared], holds[compared], block)

    if bool((weight > 1).any()):
        return judge_weighted(counted, tail, typical, tested, in_time), tested
    return judge(counted, tail.requests, typical.requests, tested, in_time), tested


class _RequestsOf:
    """Finds the requests of traces: one each, but for traces with several requests."""

    def __init__(self, trace_ids: Sequence[str]) -> None:
        halves = np.frombuffer(bytes.fromhex("".join(trace_ids)), dtype="<u8").reshape(-1, 2)
        number = trace_number(halves[:, 0], halves[:, 1])
        self.order = np.argsort(number, kind="stable")
        self.number = number[self.order]

    def __call__(self, traces: list[int]) -> Ints:
        wanted = np.array(traces, dtype=np.uint64)
        first, end = (np.searchsorted(self.number, wanted, side=side) for side in ("left", "right"))
        counts = end - first
        # the places first, first + 1, … end − 1 of each
        offsets = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: Ints = np.sort(self.order[np.repeat(first, counts) + offsets])
        return rows

    def each(self, traces: list[int]) -> Ints:
        """Find the first request of each trace, −1 where there is none."""
        wanted = np.array(traces, dtype=np.uint64)
        first = np.minimum(np.searchsorted(self.number, wanted), max(0, len(self.number) - 1))
        found: Ints = np.where(self.number[first] == wanted, self.order[first], -1) if len(self.number) else first - 1
        return found


def _independently(_: int) -> float:
    return 0.0


def judge(
    rows: list[dict[str, Any]], tail: int, typical: int, tested: int, in_time: InTime = _independently
) -> tuple[OverRepresented, ...]:
    """Keep of the counted pairs what is over-represented. `tail` and `typical` are how many requests were looked at.

    `in_time` is the p-value of a row that holds whatever time does to requests; without it they are independent.
    """
    # spans may have come in since the requests were counted
    tail_with = np.minimum(np.array([row["tail_requests"] for row in rows], dtype=np.int64), tail)
    typical_with = np.minimum(np.array([row["typical_requests"] for row in rows], dtype=np.int64), typical)
    p_values = _corrected(fisher_over_represented(tail_with, typical_with, tail, typical), tested, in_time)
    return _listed(rows, tail_with / tail, typical_with / typical, 1 / typical, p_values)


def judge_weighted(
    rows: list[dict[str, Any]], tail: Picked, typical: Picked, tested: int, in_time: InTime = _independently
) -> tuple[OverRepresented, ...]:
    """Keep of the counted pairs what is over-represented, where requests stand for several.

    Shares are weighted; the test is of the effective counts, rounded so that it finds less and never more.
    """

    def column(name: str) -> Any:
        return np.array([row[name] for row in rows], dtype=np.float64)

    tail_with, tail_all = effective_counts(
        column("tail_weight"), column("tail_weight2"), tail.requests, tail.weight, unseen=0.0
    )
    typical_with, typical_all = effective_counts(
        column("typical_weight"), column("typical_weight2"), typical.requests, typical.weight, unseen=typical.heaviest
    )
    typical_in_all = np.maximum(_floor(typical_all), 1)
    chances = fisher_over_represented(
        _floor(tail_with),
        np.minimum(-_floor(-typical_with), typical_in_all),
        np.maximum(_floor(tail_all), 1),
        typical_in_all,
    )
    tail_share = np.minimum(column("tail_weight") / tail.weight, 1.0)
    typical_share = np.minimum(column("typical_weight") / typical.weight, 1.0)
    least = typical.heaviest / typical.weight
    return _listed(rows, tail_share, typical_share, least, _corrected(chances, tested, in_time))


def _corrected(chances: Floats, tested: int, in_time: InTime) -> Floats:
    """Correct p-values for as many tests, each the greater of the one given and of the one in time.

    What is not significant by the first alone cannot be by both, so for that the second is not computed.
    """
    both = np.ones(len(chances))
    for number in np.flatnonzero(benjamini_hochberg(chances, tested) <= SIGNIFICANCE).tolist():
        both[number] = max(float(chances[number]), in_time(number))
    return benjamini_hochberg(both, tested)


def _floor(values: Any) -> Ints:
    """Round down, but not because of the last bits of a sum of weights."""
    whole: Ints = np.floor(values + 1e-6).astype(np.int64)
    return whole


def _listed(
    rows: list[dict[str, Any]], tail_shares: Any, typical_shares: Any, least: float, p_values: Any
) -> tuple[OverRepresented, ...]:
    """List what is significant. `least` is the smallest share of typical requests that could have been seen."""
    found = []
    for row, tail_share, typical_share, p_value in zip(
        rows, tail_shares.tolist(), typical_shares.tolist(), p_values.tolist(), strict=True
    ):
        lift = tail_share / (typical_share or least)
        if p_value <= SIGNIFICANCE and tail_share > typical_share and lift > 1:
            found.append(OverRepresented(str(row["key"]), str(row["value"]), tail_share, typical_share, lift, p_value))
    found.sort(key=lambda pair: (pair.typical_share - pair.tail_share, pair.p_value, pair.key, pair.value))
    return tuple(found)
