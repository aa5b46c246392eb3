"""The alerts of one collector: a thread that evaluates what is due, and a courier for each webhook.

Nothing here can hold up or end the collector: whatever a rule, the store or a webhook does is caught, counted and said.
A rule that takes long is evaluated less often: it takes a fifth of one processor at most, and all together take one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailsight_collector.alerts.conditions import Evaluate
from tailsight_collector.alerts.courier import MAX_WAITING, OLDEST_S, Backoff, Courier, age_s
from tailsight_collector.alerts.machine import MAX_ALERTS, RESOLVED, Event, resolve_all, step
from tailsight_collector.alerts.messages import message
from tailsight_collector.alerts.rows import Keeper, keep, row_of
from tailsight_collector.alerts.settings import AlertSettings, Schedule
from tailsight_collector.alerts.state import State, read_state, write_state
from tailsight_collector.watch.durations import INSERT_BOUNDS_S, Durations
from tailsight_storage import StorageError

log = logging.getLogger(__name__)

OK, FAILED = "ok", "failed"
REST_FACTOR = 4.0
"""A rule rests at least so many times as long as its evaluation took."""
FIRST_LOOK_S = 1.0
MAX_ROWS = 10_000
_COURIER_PATIENCE_S = 1.0
_NICE = 10


class Alerts:
    """Start it once the store is open, and close it before the store is closed."""

    def __init__(
        self,
        settings: AlertSettings,
        evaluate: Evaluate,
        store: Keeper,
        path: Path,
        *,
        backoff: Backoff | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        first_look_s: float = FIRST_LOOK_S,
    ) -> None:
        self._settings = settings
        self._evaluate = evaluate
        self._store = store
        self._path = path
        self._now_ns = now_ns
        self._first_look_s = first_look_s
        self._lock = threading.Lock()  # of the state and its file: couriers change it too
        self._state = State()
        self._is_saved = True
        self._ends = threading.Event()
        self._wakes = threading.Event()
        self._couriers_until_s: float | None = None
        self._due_s: dict[str, float] = {}
        self._failing: set[str] = set()
        self.evaluations: Counter[tuple[str, str]] = Counter()
        self.durations = Durations(INSERT_BOUNDS_S)
        self.evaluated_s: dict[str, float] = {}
        """When each rule was last evaluated without an error, by the monotonic clock."""
        self.couriers = {webhook.name: Courier(webhook, self._done, backoff=backoff) for webhook in settings.webhooks}
        self._thread = threading.Thread(target=self._run, name="tailsight-alerts", daemon=True)

    def start(self) -> None:
        """Read the state, end the alerts of rules that are gone, and begin."""
        self._state = read_state(self._path)
        self._end_those_of_rules_that_are_gone()
        self._keep_for_webhooks_that_are_gone()
        self._save()
        now_s = time.monotonic()
        self._due_s = {schedule.rule: now_s + self._first_look_s for schedule in self._settings.schedules}
        self.evaluated_s = dict.fromkeys(self._due_s, now_s)
        for name, courier in self.couriers.items():
            courier.take(self._state.outbox.get(name, []))
            courier.start()
        self._thread.start()

    def close(self, patience_s: float) -> bool:
        """End; False where an evaluation runs on."""
        self._ends.set()
        self._wakes.set()
        for courier in self.couriers.values():
            courier.end()
        if self._couriers_until_s is None:
            self._couriers_until_s = time.monotonic() + _COURIER_PATIENCE_S
        for courier in self.couriers.values():
            courier.close(max(0.0, self._couriers_until_s - time.monotonic()))
        if self._thread.is_alive():
            self._thread.join(patience_s)
        return not self._thread.is_alive()

    @property
    def open_by_rule(self) -> dict[str, int]:
        """How many alerts of each rule are open."""
        return {
            schedule.rule: sum(bool(each.fired_ns) for each in list(self._state.alerts.get(schedule.rule, {}).values()))
            for schedule in self._settings.schedules
        }

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        _give_way()
        while not self._ends.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("an unexpected error in the alerts")
                self._ends.wait(FIRST_LOOK_S)

    def _turn(self) -> None:
        """Evaluate what is due, and wait for the next."""
        for schedule in self._settings.schedules:
            if self._ends.is_set():
                return
            if self._due_s[schedule.rule] <= time.monotonic():
                took_s = self._look(schedule)
                self._due_s[schedule.rule] = time.monotonic() + max(schedule.every_s - took_s, REST_FACTOR * took_s)
        self._keep_rows()
        if not self._is_saved:
            self._save()
        next_s = min(self._due_s.values(), default=time.monotonic() + 60.0)
        self._wakes.wait(max(0.0, next_s - time.monotonic()))

    def _look(self, schedule: Schedule) -> float:
        """Evaluate one rule, and return how long that took."""
        rule, began_s, now_ns = schedule.rule, time.monotonic(), self._now_ns()
        try:
            look = self._evaluate(rule, now_ns, self._state.memories.get(rule, {}))
            after = step(self._state.alerts.get(rule, {}), look.conditions, schedule, now_ns)
        except Exception as error:
            self._say_failed(rule, error)
            return time.monotonic() - began_s
        took_s = time.monotonic() - began_s
        self.durations.observe(took_s)
        self.evaluations[rule, OK] += 1
        self.evaluated_s[rule] = time.monotonic()
        if rule in self._failing:
            self._failing.discard(rule)
            log.info("rule %s can be evaluated again", rule)
        if after.left_out:
            log.warning("rule %s has more than %d alerts: %d are left out", rule, MAX_ALERTS, after.left_out)
        with self._lock:
            changed = after.alerts != self._state.alerts.get(rule, {}) or look.memory != self._state.memories.get(rule)
            self._state.alerts[rule] = after.alerts
            self._state.memories[rule] = look.memory
            added = self._add(after.events, schedule)
        if changed or after.events:
            self._save()
        for name in added.keys() & self.couriers.keys():
            self.couriers[name].take(added[name])
        return took_s

    def _say_failed(self, rule: str, error: Exception) -> None:
        """Say once that a rule cannot be evaluated; its alerts stay as they are."""
        self.evaluations[rule, FAILED] += 1
        if rule in self._failing or self._ends.is_set():
            return
        self._failing.add(rule)
        is_known = isinstance(error, StorageError) or type(error).__module__.startswith("tailsight_")
        log.warning(
            "rule %s cannot be evaluated: %s", rule, error if is_known else repr(error),
            exc_info=None if is_known else error, extra={"rule": rule},
        )  # fmt: skip

    # --- events -----------------------------------------------------------------------------------------------------

    def _add(self, events: tuple[Event, ...] | list[Event], schedule: Schedule) -> dict[str, list[dict[str, Any]]]:
        """Put events into the state, as rows for the store and messages; return the messages by webhook."""
        added: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            log.info(
                "alert %s of rule %s is %s: %s", event.alert.id, schedule.rule, event.status, event.alert.text,
                extra={"alert": event.alert.id, "rule": schedule.rule, "status": event.status},
            )  # fmt: skip
            payload = message(event, schedule, self._settings.dashboard)
            # who was told that it began is told that it is over, whatever the rule says now
            for name in event.alert.webhooks if event.status == RESOLVED else schedule.webhooks:
                self._state.outbox.setdefault(name, []).append(payload)
                added.setdefault(name, []).append(payload)
            self._state.rows.append(row_of(event, schedule))
        del self._state.rows[:-MAX_ROWS]
        return added

    def _end_those_of_rules_that_are_gone(self) -> None:
        known = {schedule.rule for schedule in self._settings.schedules}
        for rule in self._state.alerts.keys() - known:
            for event in resolve_all(self._state.alerts.pop(rule).values(), self._now_ns(), "the rule is gone"):
                alert = event.alert
                self._add([event], Schedule(rule, alert.kind, alert.webhooks, severity=alert.severity))
        for rule in self._state.memories.keys() - known:
            del self._state.memories[rule]

    def _keep_for_webhooks_that_are_gone(self) -> None:
        """Whoever was told that something began hears of its end, should the webhook be there again within a day."""
        for name in self._state.outbox.keys() - self.couriers.keys():
            young = [each for each in self._state.outbox.pop(name) if age_s(each) <= OLDEST_S][-MAX_WAITING:]
            if young:
                self._state.outbox[name] = young
                log.warning("%d messages for webhook %s wait for a day: it is gone", len(young), name)

    def _done(self, webhook: str, message_id: str) -> None:
        with self._lock:
            waiting = self._state.outbox.get(webhook, [])
            self._state.outbox[webhook] = [payload for payload in waiting if payload["id"] != message_id]
        self._save()

    def _keep_rows(self) -> None:
        """Bring rows to the store; what it does not take now waits for the next turn."""
        while self._state.rows and not self._ends.is_set():
            row = self._state.rows[0]
            try:
                keep(self._store, row)
            except StorageError as error:
                if "rows" not in self._failing:
                    self._failing.add("rows")
                    log.warning("open alerts cannot be written to the store, and are tried again: %s", error)
                return
            self._failing.discard("rows")
            with self._lock:
                self._state.rows.remove(row)
            self._is_saved = False

    def _save(self) -> None:
        with self._lock:
            try:
                write_state(self._path, self._state)
            except OSError as error:
                if self._is_saved:
                    log.warning("the state of the alerts cannot be written, and is tried again: %s", error)
                self._is_saved = False
            else:
                self._is_saved = True


def _give_way() -> None:
    """Let those who load and answer go first, where the system can tell threads apart."""
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        except OSError:
            log.debug("the alerts' thread stays as important as others")
