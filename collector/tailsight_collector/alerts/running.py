"""Alerts within a collector: connections of their own, limits on what a question takes, and a quick end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailsight_collector.alerts.conditions import Look
from tailsight_collector.alerts.service import Alerts
from tailsight_collector.alerts.settings import STATE_FILE, AlertPlan, AlertSettings
from tailsight_collector.query.sql_readers import reader_limits
from tailsight_storage import ChdbDsn, StorageError, Store

MAX_QUESTION_S = 30
_END_PATIENCE_S = 5.0
_KILL_AGAIN_S = 0.3
_KILL = "KILL QUERY WHERE Settings['log_comment'] = {tag:String} ASYNC"


class RunningAlerts:
    """Make it once the store is open; `close` it before the store."""

    def __init__(self, plan: AlertPlan | None, store: Store, data: Path) -> None:
        """Without a plan, alerts that were left open are ended. Raises StorageError."""
        plan = plan or AlertPlan(AlertSettings((), ()), lambda _: _nothing)
        self._is_embedded = isinstance(store.dsn, ChdbDsn)
        self._tag = f"tailsight-alerts-{secrets.token_hex(8)}"
        self._store = store.another(**_limits(self._tag, is_embedded=self._is_embedded))
        self._owner = store.another()
        self.alerts = Alerts(plan.settings, plan.evaluator(self._store), self._store, data / STATE_FILE)
        self.alerts.start()

    def close(self) -> bool:
        """End the thread and its query; False where an evaluation in this process's own engine runs on."""
        deadline_s = time.monotonic() + _END_PATIENCE_S
        while not self.alerts.close(_KILL_AGAIN_S):
            if time.monotonic() > deadline_s:
                return not self._is_embedded
            try:
                self._owner.run(_KILL, tag=self._tag)
            except StorageError:
                continue  # its time limit ends it
        self._owner.close()
        self._store.close()
        return True


def _limits(tag: str, *, is_embedded: bool) -> dict[str, int | str]:
    """Return what a question may take: it must hold up neither loading nor those who ask."""
    own: dict[str, int | str] = {"max_execution_time": MAX_QUESTION_S, "max_threads": 1, "log_comment": tag}
    return {**reader_limits(), **own} if is_embedded else own


def _nothing(_rule: str, _now_ns: int, _memory: Mapping[str, Any]) -> Look:
    return Look()
