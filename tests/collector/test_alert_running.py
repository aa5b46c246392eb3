"""Alerts beside a store that is loaded and asked meanwhile: a question without end holds up nobody, and ends with them."""

import threading
import time

from analysis import brute_force
from analysis.brute_force import Span
from testkit.processes import eventually

from tailsight_analysis.alerting.open import open_alerts
from tailsight_collector.alerts.conditions import Condition, Look
from tailsight_collector.alerts.running import RunningAlerts
from tailsight_collector.alerts.settings import AlertPlan, AlertSettings, Schedule

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


def plan(evaluate):
    settings = AlertSettings((), (Schedule("r", "slo", (), every_s=0.1),))
    return AlertPlan(settings, lambda store: lambda rule, now_ns, memory: evaluate(store))


def test_a_question_without_end_holds_up_nobody_and_is_ended(store, tmp_path):
    began = threading.Event()

    def evaluate(own):
        began.set()
        own.rows(ENDLESS)
        raise AssertionError("it ended by itself")

    running = RunningAlerts(plan(evaluate), store, tmp_path)
    assert began.wait(30)
    brute_force.insert(store, [Span(1, 1)])
    assert store.rows("SELECT count() FROM spans") == [(1,)]
    began_s = time.monotonic()
    assert running.close()
    assert time.monotonic() - began_s < 5
    assert running.alerts.evaluations == {("r", "failed"): 1}


def test_a_question_takes_one_thread_and_half_a_minute_at_most(store, tmp_path):
    asked = threading.Event()
    found = []

    def evaluate(own):
        names = ("max_threads", "max_execution_time")
        found.append([int(own.rows("SELECT getSetting({name:String})", name=name)[0][0]) for name in names])
        asked.set()
        return Look((Condition({}, True, None, None, "", "words"),))

    running = RunningAlerts(plan(evaluate), store, tmp_path)
    assert asked.wait(30)
    assert found[0] == [1, 30]
    assert running.close()


def test_without_a_plan_what_was_left_open_is_ended(store, tmp_path):
    done = threading.Event()

    def evaluate(own):
        if open_alerts(own):
            done.set()
        return Look((Condition({}, True, None, None, "", "words"),))

    first = RunningAlerts(plan(evaluate), store, tmp_path)
    assert done.wait(30)
    assert first.close()
    [left] = open_alerts(store)
    assert (left.value, left.limit, left.labels) == (None, None, {})
    second = RunningAlerts(None, store, tmp_path)
    rows = "SELECT status FROM alerts ORDER BY at"
    eventually(lambda: store.rows(rows) == [("firing",), ("resolved",)], "it is ended")
    assert second.close()
    assert open_alerts(store) == ()
