"""Which attribute values do slow requests have more often than typical ones? See docs/analysis/tail.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.sample import Cuts
from tailsight_analysis.significance import benjamini_hochberg, fisher_over_represented
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
    store: Store, parameters: dict[str, Any], cuts: Cuts, tail: int, typical: int
) -> tuple[tuple[OverRepresented, ...], int]:
    """Return the significant values, greatest difference of shares first, and how many values were tested.

    `parameters` are those of sql/requests.sql. `tail` and `typical` are how many requests of each class the sample has.
    """
    rows = store.ask(query("attribute_pairs"), **parameters | cuts.parameters(), promoted=list(PROMOTED_KEYS))
    tested = int(rows[0]["tests"]) if rows else 0
    return judge(rows, tail, typical, tested), tested


def judge(rows: list[dict[str, Any]], tail: int, typical: int, tested: int) -> tuple[OverRepresented, ...]:
    """Keep of the counted pairs what is over-represented. `tail` and `typical` are how many requests were looked at."""
    # spans may have come in since the requests were counted
    tail_with = np.minimum(np.array([row["tail_requests"] for row in rows], dtype=np.int64), tail)
    typical_with = np.minimum(np.array([row["typical_requests"] for row in rows], dtype=np.int64), typical)
    p_values = benjamini_hochberg(fisher_over_represented(tail_with, typical_with, tail, typical), tested)
    found = []
    for row, in_tail, in_typical, p_value in zip(
        rows, tail_with.tolist(), typical_with.tolist(), p_values.tolist(), strict=True
    ):
        tail_share, typical_share = in_tail / tail, in_typical / typical
        lift = tail_share / (typical_share or 1 / typical)
        if p_value <= SIGNIFICANCE and tail_share > typical_share and lift > 1:
            found.append(OverRepresented(str(row["key"]), str(row["value"]), tail_share, typical_share, lift, p_value))
    found.sort(key=lambda pair: (pair.typical_share - pair.tail_share, pair.p_value, pair.key, pair.value))
    return tuple(found)
