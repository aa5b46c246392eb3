"""Evaluation, state, store and webhooks together: exactly once across restarts, and nothing that goes wrong ends it."""

import json
import threading
from contextlib import contextmanager

import pytest
from collector.alert_webhooks import Planned, WebhookServer
from testkit.processes import eventually

from tailsight_analysis.alerting.open import open_alerts
from tailsight_collector.alerts.conditions import Condition, Look
from tailsight_collector.alerts.courier import Backoff
from tailsight_collector.alerts.service import Alerts
from tailsight_collector.alerts.settings import STATE_FILE, AlertSettings, Schedule, Webhook
from tailsight_storage import StoreUnavailableError

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
        assert server.statuses() == ["firing"], "people are told all the same"
    assert open_alerts(store) == ()
    away.is_away = False
    with running(script, server, away, tmp_path):
        script.find(SLOW)
    assert [alert.labels for alert in open_alerts(store)] == [{"stage": "compute"}]


def test_alerts_of_a_rule_that_is_gone_are_ended_in_the_store(server, store, tmp_path):
    script = Script(SLOW)
    with running(script, server, store, tmp_path):
        script.find(SLOW)
    assert len(open_alerts(store)) == 1
    with running(Script(), server, store, tmp_path, rules=("other",)) as alerts:
        eventually(lambda: not open_alerts(store), "it is ended")
        assert alerts.open_by_rule == {"other": 0}
    assert server.statuses() == ["firing"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"version": 2}', '{"version": 1, "alerts": [{}], "memories": {}, "outbox": {}, "rows": []}',
        '{"version": 1, "alerts": [], "memories": {"r": 1}, "outbox": {}, "rows": []}',
        '{"version": 1, "alerts": [], "memories": {}, "outbox": {"hook": [{}]}, "rows": []}', "\x00" * 100, "[" * 100_000,
    ],
    ids=range(9),
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
