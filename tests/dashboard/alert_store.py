"""A new store with an open alert, written as the collector that evaluates the rules writes it.

Run by a process of its own, because a process has one engine: python -m dashboard.alert_store chdb:///folder
"""

from __future__ import annotations

import sys
from pathlib import Path

import tailsight_collector
from tailsight_storage import open_store

KEEP = Path(tailsight_collector.__file__).with_name("sql") / "keep_alert.sql"
TEXT = "ranker burns its budget <b>14×</b> too fast"
SINCE_MS, FIRED_MS, TOLD_MS = 1_780_000_000_000, 1_780_000_060_000, 1_780_000_120_000
ALERTS = (  # name, status, text
    ("one", "firing", TEXT),
    ("two", "firing", "this one is over"),
    ("two", "resolved", "this one is over"),
)


def keep_alerts(dsn: str) -> None:
    """Write them, each a second after the one before."""
    with open_store(dsn, create=True) as store:
        for number, (name, status, text) in enumerate(ALERTS):
            store.run(
                KEEP.read_text(), at_ms=TOLD_MS + 1000 * number, alert=name, status=status, rule="ranker-slo", kind="slo",
                severity="critical", label_names=["service"], label_values=["ranker"], filters="{}", since_ms=SINCE_MS,
                fired_ms=FIRED_MS, value=14.4, limit_value=6.0, unit="burn rate", text=text,
            )  # fmt: skip


if __name__ == "__main__":
    keep_alerts(sys.argv[1])
