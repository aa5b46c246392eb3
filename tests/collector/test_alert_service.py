"""Evaluation, state, store and webhooks together: exactly once across restarts, and nothing that goes wrong ends it."""

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from collector.alert_webhooks import Planned, WebhookServer
from testkit.processes import eventually

from tailsight_analysis.alerting.open import open_alerts
from tailsight_collector.alerts.conditions import Condition, Look
from tailsight_collector.alerts.courier import Backoff
from tailsight_collector.alerts.service import Alerts
from tailsight_collector.alerts.settings import MAX_WEBHOOKS, STATE_FILE, AlertSettings, Schedule, Webhook
from tailsight_storage import StoreUnavailableError

NS_PER_S = 10**9
QUICK = Backoff(first_s=0.01, most_s=0.05)


class Script:
    """Finds what it is told to; each look can be waited for."""

    def __init__(self, *conditions):
        self.conditions = conditions
        self.error = None
        self.looks = 0
        self.memories = []
        self._changed = threading.Condition()

    def __call__(self, rule, now_ns, memory):
        with self._changed:
            self.looks += 1
            self.memories.append(memory)
            self._changed.notify_all()
            if self.error:
                raise self.error
            return Look(self.conditions, {"looks": memory.get("looks", 0) + 1})

    def find(self, *conditions, error=None):
        """Change what is found, and wait until it was looked at and dealt with: the look after has begun."""
        with self._changed:
            self.conditions, self.error = conditions, error
            after = self.looks + 2
            assert self._changed.wait_for(lambda: self.looks >= after, 30)


def condition(firing=True, **labels):
    return Condition(labels, firing, 2.0, 1.0, "ms", "too slow", {"stage": ("compute",)})


SLOW = condition(stage="compute")


@pytest.fixture
def server():
    with WebhookServer() as running:
        yield running


@contextmanager
def running(script, server, store, folder, *, rules=("r",), hooks=("hook",)):
    """Alerts at work, as fast as they go."""
    webhooks = tuple(Webhook(name, server.url, timeout_s=5) for name in hooks)
    schedules = tuple(Schedule(rule, "jitter", hooks, every_s=0.1, resolve_after_s=0.0) for rule in rules)
    alerts = Alerts(
        AlertSettings(webhooks, schedules), script, store, folder / STATE_FILE, backoff=QUICK, first_look_s=0.0
    )
    alerts.start()
    try:
        yield alerts
    finally:
        assert alerts.close(30)


def all_delivered(alerts):
    eventually(lambda: all(courier.waiting == 0 for courier in alerts.couriers.values()), "all is delivered")


def test_an_alert_is_told_once_across_restarts_and_resolved_once(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        assert alerts.open_by_rule == {"r": 1}
        all_delivered(alerts)
    [found] = open_alerts(store)
    assert (found.rule, found.kind, found.labels, found.text) == ("r", "jitter", {"stage": "compute"}, "too slow")
    assert (found.value, found.limit, found.unit) == (2.0, 1.0, "ms")
    assert found.filters.stage == ("compute",)
    assert json.loads(json.dumps(found.to_json()))["fired_ns"] == found.fired_ns
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        assert server.statuses() == ["firing"]
        assert script.memories[-1]["looks"] >= 3, "what a rule remembers survives"
        script.find()
        all_delivered(alerts)
    with running(script, server, store, tmp_path) as alerts:
        script.find()
        assert server.statuses() == ["firing", "resolved"]
    assert len({each.payload["alert"]["id"] for each in server.received}) == 1
    assert open_alerts(store) == ()


def test_a_message_that_was_not_taken_waits_for_the_next_start(server, store, tmp_path):
    script = Script(SLOW)
    server.plan(*[Planned(503)] * 1000)
    with running(script, server, store, tmp_path) as alerts:
        server.wait_for(lambda got: len(got) >= 2)
        script.find(SLOW)
        assert [courier.waiting for courier in alerts.couriers.values()] == [1]
    with WebhookServer() as back, running(script, back, store, tmp_path) as alerts:
        script.find()
        all_delivered(alerts)
        assert back.statuses() == ["firing", "resolved"]
        ids = {each.payload["id"] for each in server.received}
        assert back.received[0].payload["id"] in ids
        assert len(ids) == 1


def test_a_rule_that_fails_leaves_its_alerts_open_and_others_alone(server, store, tmp_path, caplog):
    script = Script(SLOW)
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        script.find(error=ZeroDivisionError("a defect"))
        script.find(error=StoreUnavailableError("the store is away"))
        assert alerts.open_by_rule == {"r": 1}
        assert alerts.evaluations["r", "failed"] >= 4
        script.find()
        all_delivered(alerts)
        assert server.statuses() == ["firing", "resolved"]
    said = [record.getMessage() for record in caplog.records if "cannot be evaluated" in record.getMessage()]
    assert said == ["rule r cannot be evaluated: ZeroDivisionError('a defect')"], "once, however often"


def test_a_webhook_that_hangs_holds_up_neither_rules_nor_other_webhooks(server, store, tmp_path):
    script = Script(SLOW)
    with WebhookServer([Planned(None)] * 50) as hanging:
        settings = AlertSettings(
            (Webhook("stuck", hanging.url, timeout_s=60), Webhook("well", server.url)),
            (Schedule("r", "slo", ("stuck", "well"), every_s=0.1, resolve_after_s=0.0),),
        )
        alerts = Alerts(settings, script, store, tmp_path / STATE_FILE, first_look_s=0.0)
        alerts.start()
        server.wait_for(lambda got: len(got) == 1)
        script.find()
        server.wait_for(lambda got: len(got) == 2)
        assert alerts.close(30)
    assert server.statuses() == ["firing", "resolved"]
    state = json.loads((tmp_path / STATE_FILE).read_text())
    assert [each["status"] for each in state["outbox"]["stuck"]] == ["firing", "resolved"]


class StoreAway:
    def __init__(self, store):
        self.store = store
        self.is_away = True

    def run(self, statement, **parameters):
        if self.is_away:
            raise StoreUnavailableError("the store is away")
        self.store.run(statement, **parameters)


def test_rows_wait_for_a_store_that_is_away(server, store, tmp_path):
    script, away = Script(SLOW), StoreAway(store)
    with running(script, server, away, tmp_path):
        script.find(SLOW)
        eventually(lambda: server.statuses() == ["firing"], "people are told all the same")
    assert open_alerts(store) == ()
    away.is_away = False
    with running(script, server, away, tmp_path):
        script.find(SLOW)
    assert [alert.labels for alert in open_alerts(store)] == [{"stage": "compute"}]


def test_alerts_of_a_rule_that_is_gone_are_ended_in_the_store_and_where_they_were_told(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        all_delivered(alerts)
    assert len(open_alerts(store)) == 1
    with running(Script(), server, store, tmp_path, rules=("other",)) as alerts:
        eventually(lambda: not open_alerts(store), "it is ended")
        assert alerts.open_by_rule == {"other": 0}
        all_delivered(alerts)
    assert server.statuses() == ["firing", "resolved"]
    firing, resolved = (each.payload["alert"] for each in server.received)
    for key in ("id", "rule", "kind", "severity", "labels"):
        assert resolved[key] == firing[key]
    assert resolved["description"] == "the rule is gone"


def test_who_was_told_is_told_of_the_end_whatever_webhooks_the_rule_has_now(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path, hooks=("old",)) as alerts:
        script.find(SLOW)
        all_delivered(alerts)
    with WebhookServer() as new:
        webhooks = (Webhook("old", server.url), Webhook("new", new.url))
        schedules = (Schedule("r", "jitter", ("new",), every_s=0.1, resolve_after_s=0.0),)
        alerts = Alerts(AlertSettings(webhooks, schedules), script, store, tmp_path / STATE_FILE, first_look_s=0.0)
        alerts.start()
        script.find()
        all_delivered(alerts)
        assert alerts.close(30)
        assert new.received == [], "it was not told that it began"
    assert server.statuses() == ["firing", "resolved"]


def test_a_start_without_rules_in_between_does_not_lose_the_end(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        all_delivered(alerts)
    with running(Script(), server, store, tmp_path, rules=(), hooks=()):
        eventually(lambda: not open_alerts(store), "it is ended")
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        all_delivered(alerts)
    assert server.statuses() == ["firing", "resolved", "firing"]
    first, over, second = (each.payload["alert"]["id"] for each in server.received)
    assert first == over != second


def test_messages_for_a_webhook_that_stays_away_do_not_stay_for_ever(server, store, tmp_path):
    old = {"id": "a", "text": "words", "at": "2023-11-14T22:13:20.123Z"}
    young = {**old, "id": "b", "at": datetime.now(UTC).isoformat()}
    plain = {"version": 1, "alerts": [], "memories": {}, "outbox": {"gone": [old, young]}, "rows": []}
    (tmp_path / STATE_FILE).write_text(json.dumps(plain))
    with running(Script(), server, store, tmp_path):
        pass
    assert json.loads((tmp_path / STATE_FILE).read_text())["outbox"]["gone"] == [young]


def test_webhooks_that_hang_do_not_hold_up_the_end_one_after_another(store, tmp_path):
    names = [f"hook{number}" for number in range(MAX_WEBHOOKS)]
    with WebhookServer([Planned(None)] * 100) as hanging:
        settings = AlertSettings(
            tuple(Webhook(name, hanging.url, timeout_s=60) for name in names), (Schedule("r", "slo", tuple(names)),)
        )
        alerts = Alerts(settings, Script(SLOW), store, tmp_path / STATE_FILE, first_look_s=0.0)
        alerts.start()
        hanging.wait_for(lambda got: len(got) == MAX_WEBHOOKS)
        began_s = time.monotonic()
        assert alerts.close(30)
        assert time.monotonic() - began_s < 4
    state = json.loads((tmp_path / STATE_FILE).read_text())
    assert [len(state["outbox"][name]) for name in names] == [1] * MAX_WEBHOOKS


def test_a_clock_that_was_set_back_leaves_nothing_open_in_the_store(server, store, tmp_path):
    now = [1_795_000_000 * NS_PER_S]
    schedules = (Schedule("r", "jitter", (), every_s=0.1, resolve_after_s=0.0),)
    script = Script(SLOW)
    alerts = Alerts(
        AlertSettings((), schedules), script, store, tmp_path / STATE_FILE, now_ns=lambda: now[0], first_look_s=0.0
    )
    alerts.start()
    script.find(SLOW)
    eventually(lambda: len(open_alerts(store)) == 1, "it is open")
    now[0] -= 3600 * NS_PER_S
    script.find()
    eventually(lambda: not open_alerts(store), "it is over")
    assert alerts.close(30)


def test_a_state_of_before_webhooks_were_remembered_is_read(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        all_delivered(alerts)
    plain = json.loads((tmp_path / STATE_FILE).read_text())
    for key in ("webhooks", "kind", "severity"):
        del plain["alerts"][0][key]
    (tmp_path / STATE_FILE).write_text(json.dumps(plain))
    with running(script, server, store, tmp_path) as alerts:
        script.find(SLOW)
        assert alerts.open_by_rule == {"r": 1}
    assert server.statuses() == ["firing"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"version": 2}', '{"version": 1, "alerts": [{}], "memories": {}, "outbox": {}, "rows": []}',
        '{"version": 1, "alerts": [], "memories": {"r": 1}, "outbox": {}, "rows": []}',
        '{"version": 1, "alerts": [], "memories": {}, "outbox": {"hook": [{}]}, "rows": []}',
        '{"version": 1, "alerts": [], "memories": {}, "outbox": {"hook": [{"id": "a", "text": "b", "at": "c"}]}, "rows": []}',
        "\x00" * 100, "[" * 100_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_a_state_that_cannot_be_read_is_put_aside(text, server, store, tmp_path, caplog):
    (tmp_path / STATE_FILE).write_text(text)
    script = Script(SLOW)
    with running(script, server, store, tmp_path):
        server.wait_for(lambda got: len(got) == 1)
    assert (tmp_path / "alerts.unreadable").read_text() == text
    assert "is put aside" in caplog.text


def test_a_state_that_may_not_be_read_stops_nothing(server, store, tmp_path, caplog):
    (tmp_path / STATE_FILE).mkdir()
    script = Script(SLOW)
    with running(script, server, store, tmp_path):
        server.wait_for(lambda got: len(got) == 1)
    assert "cannot be read" in caplog.text


def test_a_state_that_cannot_be_written_stops_nothing(server, store, tmp_path, caplog):
    script = Script(SLOW)
    (tmp_path / "alerts.new").mkdir()  # where the new file would be written
    with running(script, server, store, tmp_path):
        server.wait_for(lambda got: len(got) == 1)
        script.find()
        server.wait_for(lambda got: len(got) == 2)
        assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1
        (tmp_path / "alerts.new").rmdir()
        script.find()
    assert json.loads((tmp_path / STATE_FILE).read_text())["alerts"] == []
