"""What does an answer rest on, and what is not in it? Any answer about a window can carry it.

See docs/analysis/confidence.md; the account of every sender is docs/analysis/delivery.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.queries import query
from tailsight_analysis.senders import DROPPED_AS_BATCHES, REJECTED, SENDER_FILTERS
from tailsight_storage import Store

_LATE_PART = 64  # see sql/late_spans.sql
_MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class DataQuality:
    """Requests that the store has (`stored`) and for how many they stand (`estimated`); spans that it has not, or late.

    `dropped_spans` their senders dropped, `missing_spans` were sent in numbered batches that have not arrived by now,
    `rejected_spans` arrived and could not be stored. `late_spans`, of `spans`, arrived more than a minute after their
    end; both are None where nobody counted.
    """

    stored: int
    estimated: int
    dropped_spans: int
    missing_spans: int
    rejected_spans: int
    spans: int | None = None
    late_spans: int | None = None

    @property
    def sampled_share(self) -> float:
        """Share of the requests that was kept: 1 where nothing was sampled."""
        return self.stored / self.estimated if self.estimated else 1.0

    @property
    def late_share(self) -> float:
        """Share of the spans that came late; 0 where most did: somebody imported these, and nothing of them is late."""
        share = self.late_spans / self.spans if self.late_spans and self.spans else 0.0
        return share if share <= _MOSTLY else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "stored": self.stored,
            "estimated": self.estimated,
            "sampled_share": self.sampled_share,
            "dropped_spans": self.dropped_spans,
            "missing_spans": self.missing_spans,
            "rejected_spans": self.rejected_spans,
            "late_spans": self.late_spans,
        }


def data_quality(store: Store, parameters: Mapping[str, Any], *, stored: int, estimated: int) -> DataQuality:
    """Ask what is not in the store, for an answer about `stored` requests that stand for `estimated` ones.

    `parameters` are those of sql/requests.sql. Of the filters, those of SENDER_FILTERS count for what is not there:
    that has no stage. The senders' tables are small; late spans are counted in a part of the traces, where ids are
    random.
    """
    bounds = {name: parameters[name] for name in ("since_ns", "until_ns")}
    row = store.ask(
        query("quality"),
        **bounds,
        counted_elsewhere=[*sorted(DROPPED_AS_BATCHES), REJECTED],
        **{name: parameters[name] for name in SENDER_FILTERS},
    )[0]
    question = query("late_spans")
    counted = store.ask(question, **{name: parameters[name] for name in question.parameters})[0]
    times = _LATE_PART if parameters["by_id"] else 1
    return DataQuality(
        stored=stored,
        estimated=estimated,
        dropped_spans=int(row["dropped"]),
        missing_spans=int(row["missing"]),
        rejected_spans=int(row["rejected"]),
        spans=int(counted["spans"]) * times,
        late_spans=int(counted["late"]) * times,
    )
