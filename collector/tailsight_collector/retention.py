"""How long are rows kept? Per table, in days from their arrival; what was not asked for stays as it is.

Applied at the start, and only to a table that has another time: expired rows are dropped a day's part at a time, by the
database's own merges. Only the rule is changed at once; that parts which are there follow it is left to a mutation in
the background, which reads no more than a part's times.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tailsight_collector.errors import SettingsError
from tailsight_storage import QueryFailedError
from tailsight_storage.queries import NamedQuery, load_query

log = logging.getLogger(__name__)

# The tables that have a time, by the column that it counts from.
COLUMNS = {
    "spans": "received_at",
    "rejected_spans": "received_at",
    "stage_latency_1m": "received_date",
    "hardware_samples": "received_at",
    "sender_batches": "received_at",
    "alerts": "at",
    "gate_reports": "kept_at",
    "profile_samples": "received_at",
    "profile_requests": "received_at",
    "profiles": "received_at",
}
FOREVER = 0
MAX_DAYS = 36_500
_EXAMPLE = "use TABLE=DAYS, as in --retain spans=14, or TABLE=forever"
_DAYS = re.compile(r"\bTTL .*toIntervalDay\((?:_CAST\()?(\d+)", re.DOTALL)


class Administration(Protocol):
    """What changing a table needs of a database connection."""

    def run(self, statement: str, **parameters: object) -> None:
        """Run one statement that gives no rows."""

    def rows(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days to keep the rows of some tables; 0 is forever."""

    days: Mapping[str, int]

    @classmethod
    def of(cls, words: Iterable[str]) -> Retention:
        """Read what a user gave as TABLE=DAYS; raises SettingsError."""
        days: dict[str, int] = {}
        for word in words:
            table, _, value = (part.strip() for part in word.partition("="))
            if table not in COLUMNS:
                raise SettingsError(f"--retain {word}: there is no table {table!r}; known are {', '.join(COLUMNS)}")
            if table in days:
                raise SettingsError(f"--retain {word}: {table} is there twice; give it once")
            days[table] = _days(word, value)
        return cls(days)

    def apply(self, store: Administration) -> list[str]:
        """Bring the tables to these times and return those that were changed; raises SettingsError if refused."""
        changed = []
        for table, days in self.days.items():
            if _days_of(store, table) == days:
                continue
            try:
                _change(store, table, days)
            except QueryFailedError as error:
                raise SettingsError(
                    f"--retain {table}={days or 'forever'} cannot be set: {error.detail}; grant the collector's user "
                    f"ALTER TTL on {table}, or leave the option out and set the table's TTL yourself"
                ) from error
            log.info(
                "rows of %s are kept %s",
                table,
                f"{days} days" if days else "forever",
                extra={"table": table, "days": days},
            )
            changed.append(table)
        return changed


def _days(word: str, value: str) -> int:
    if value == "forever":
        return FOREVER
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise SettingsError(f"--retain {word}: {value!r} is no number of days; {_EXAMPLE}")
    days = int(value)
    if days > MAX_DAYS:
        raise SettingsError(f"--retain {word}: {days} days are more than {MAX_DAYS}; {_EXAMPLE}")
    return days


def _days_of(store: Administration, table: str) -> int:
    """Read how long a table keeps its rows; -1 where its rule is none of ours."""
    [[engine]] = store.rows(_query("table_engine").text, table=table)
    if match := _DAYS.search(str(engine)):
        return int(match[1])
    return -1 if re.search(r"\bTTL ", str(engine)) else FOREVER


def _change(store: Administration, table: str, days: int) -> None:
    if days == FOREVER:
        store.run(_query("keep_forever").text, table=table)
        return
    store.run(_query("keep_days").text, table=table, column=COLUMNS[table], days=days)
    store.run(_query("keep_days_of_old_parts").text, table=table)


def _query(name: str) -> NamedQuery:
    return load_query("tailsight_collector", name)
