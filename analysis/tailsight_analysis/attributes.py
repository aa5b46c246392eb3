"""Which attribute values do slow requests have more often than typical ones? See docs/analysis/tail.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.sample import Cuts, Picked
from tailsight_analysis.significance import Ints, benjamini_hochberg, effective_counts, fisher_over_represented
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
    "tailsight.hardware",
    "tailsight.intended_start_unix_nano",
    "tailsight.model",
    "tailsight.run",
    "tailsight.sampling.reason",
    "tailsight.sampling.weight",
    "tailsight.stage",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "thread.id",
    "thread.name",
)


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


def over_represented(
    store: Store, parameters: dict[str, Any], cuts: Cuts, tail: Picked, typical: Picked
) -> tuple[tuple[OverRepresented, ...], int]:
    """Return the significant values, greatest difference of shares first, and how many values were tested.

    `parameters` are those of sql/requests.sql. `tail` and `typical` are the requests of each class in the sample.
    """
    rows = store.ask(query("attribute_pairs"), **parameters | cuts.parameters(), promoted=list(PROMOTED_KEYS))
    tested = int(rows[0]["tests"]) if rows else 0
    if parameters["weighted"]:
        return judge_weighted(rows, tail, typical, tested), tested
    return judge(rows, tail.requests, typical.requests, tested), tested


def judge(rows: list[dict[str, Any]], tail: int, typical: int, tested: int) -> tuple[OverRepresented, ...]:
    """Keep of the counted pairs what is over-represented. `tail` and `typical` are how many requests were looked at."""
    # spans may have come in since the requests were counted
    tail_with = np.minimum(np.array([row["tail_requests"] for row in rows], dtype=np.int64), tail)
    typical_with = np.minimum(np.array([row["typical_requests"] for row in rows], dtype=np.int64), typical)
    p_values = benjamini_hochberg(fisher_over_represented(tail_with, typical_with, tail, typical), tested)
    return _listed(rows, tail_with / tail, typical_with / typical, 1 / typical, p_values)


def judge_weighted(
    rows: list[dict[str, Any]], tail: Picked, typical: Picked, tested: int
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
    return _listed(rows, tail_share, typical_share, least, benjamini_hochberg(chances, tested))


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
