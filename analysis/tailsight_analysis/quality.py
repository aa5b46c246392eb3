"""What does an answer rest on, and what is not in it? Any answer about a window can carry it.

See docs/analysis/confidence.md; the account of every sender is docs/analysis/delivery.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.queries import query
from tailsight_analysis.scope import Filters, Window
from tailsight_analysis.senders import DROPPED_AS_BATCHES, REJECTED, SENDER_FILTERS
from tailsight_storage import Store


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
    def lost_spans(self) -> int:
        """Spans that somebody told of and that are not in the store."""
        return self.dropped_spans + self.missing_spans + self.rejected_spans

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


def data_quality(
    store: Store,
    window: Window,
    filters: Filters,
    *,
    stored: int,
    estimated: int,
    spans: int | None = None,
    late_spans: int | None = None,
) -> DataQuality:
    """Ask what is not in the store, for an answer about `stored` requests that stand for `estimated` ones.

    Of the filters, those of SENDER_FILTERS count: what is not there has no stage. The senders' tables are small; who
    scans the spans anyway also counts the late ones (sql/late.sql).
    """
    limits = filters.parameters()
    row = store.ask(
        query("quality"),
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        counted_elsewhere=[*sorted(DROPPED_AS_BATCHES), REJECTED],
        **{name: limits[name] for name in SENDER_FILTERS},
    )[0]
    return DataQuality(
        stored=stored,
        estimated=estimated,
        dropped_spans=int(row["dropped"]),
        missing_spans=int(row["missing"]),
        rejected_spans=int(row["rejected"]),
        spans=spans,
        late_spans=late_spans,
    )
