"""A real collector with rules, a real webhook server, and spans that breach an objective and recover."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import httpx
import pytest
from click.testing import CliRunner
from collector.alert_webhooks import Planned, WebhookServer
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_analysis.alerting.open import open_alerts
from tailsight_cli.main import program
from tailsight_storage import open_store

RULES = """
dashboard = "http://dash:8501"

[[webhook]]
name = "pager"
url = "{url}"

[[rule]]
name = "ranker-slo"
kind = "slo"
service = "ranker"
objective = 0.9
within = "25ms"
burn = [{{ long = "1h", short = "1h", rate = 3 }}]
least_requests = 20
settle = "0s"
every = "200ms"
resolve_after = "0s"
severity = "critical"

[[rule]]
name = "compute-jitter"
kind = "jitter"
stage = "compute"
limit = "1s"
every = "200ms"
"""


@pytest.fixture
def server():
    with WebhookServer() as running:
        yield running


def rules(tmp_path, server):
    file = tmp_path / "alerts.toml"
    file.write_text(RULES.format(url=server.url))
    return str(file)


def requests_that_take(ms, count=40):
    now_ns = time.time_ns()
    spans = [
        span(start_time_unix_nano=now_ns - number * 1000, end_time_unix_nano=now_ns + ms * 10**6)
        for number in range(count)
    ]
    return request(spans, {"service.name": "ranker"}).SerializeToString()


def tailsight(*arguments, expect=0, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "tailsight_cli.main", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done


def metric(collector, name):
    page = httpx.get(f"{collector.otlp_url}/metrics", timeout=30).text
    [value] = re.findall(rf"^{re.escape(name)} (\S+)$", page, flags=re.MULTILINE)
    return float(value)


def test_a_breach_is_told_once_also_across_kill_9_and_its_end_too(tmp_path, server):
    with CollectorProcess(tmp_path / "data", "--alerts", rules(tmp_path, server)) as collector:
        assert collector.post(requests_that_take(5)).status_code == 200
        assert collector.post(requests_that_take(60)).status_code == 200
        [fired] = server.wait_for(lambda got: len(got) >= 1)
        assert fired.payload["status"] == "firing"
        alert = fired.payload["alert"]
        assert (alert["rule"], alert["kind"], alert["severity"]) == ("ranker-slo", "slo", "critical")
        assert alert["labels"] == {"service": "ranker"}
        assert alert["link"] == "http://dash:8501/?service=ranker"
        assert alert["value"] > alert["limit"] == 3
        assert "90 % of requests within 25 ms" in alert["description"]
        eventually(lambda: opened(collector), "it is in the store")
        [listed] = json.loads(listing(collector, "--json"))["alerts"]
        assert (listed["id"], listed["text"]) == (alert["id"], alert["description"])
        text = listing(collector)
        assert "1 alert is open" in text
        assert "ranker-slo  critical  since" in text
        assert metric(collector, 'tailsight_alerts_open{rule="ranker-slo"}') == 1
        assert metric(collector, 'tailsight_alert_messages_total{outcome="delivered",webhook="pager"}') == 1
        collector.kill()
        collector.start()
        collector.post(requests_that_take(5, 400))
        _, resolved = server.wait_for(lambda got: len(got) >= 2)
        assert resolved.payload["status"] == "resolved"
        assert resolved.payload["alert"]["id"] == alert["id"]
        eventually(lambda: not opened(collector), "it is closed in the store")
        assert listing(collector) == "No alert is open.\n"
        before = metric(collector, 'tailsight_alert_evaluations_total{outcome="ok",rule="ranker-slo"}')
        eventually(
            lambda: metric(collector, 'tailsight_alert_evaluations_total{outcome="ok",rule="ranker-slo"}') > before + 2,
            "it is looked at again",
            90,  # a busy machine: a rule rests four times as long as a look took
        )
        assert collector.stop() == 0
    assert server.statuses() == ["firing", "resolved"]
    assert not any("SECRETPATH" in line for line in collector.log)


def test_a_crash_before_the_answer_sends_the_same_message_again(tmp_path, server):
    server.plan(Planned(None))
    with CollectorProcess(tmp_path / "data", "--alerts", rules(tmp_path, server)) as collector:
        collector.post(requests_that_take(60))
        server.wait_for(lambda got: len(got) >= 1)
        collector.kill()
        collector.start()
        first, again = server.wait_for(lambda got: len(got) >= 2)
    assert first.body == again.body
    assert first.headers["tailsight-message-id"] == again.headers["tailsight-message-id"] == first.payload["id"]


def listing(collector, *options):
    done = CliRunner().invoke(program(), ["alerts", "--store", collector.store, *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def opened(collector):
    with open_store(collector.store) as store:
        return open_alerts(store)


def test_a_webhook_that_is_away_changes_nothing_for_clients(tmp_path, server):
    with WebhookServer() as gone:
        file = rules(tmp_path, gone)
    with CollectorProcess(tmp_path / "data", "--alerts", file) as collector:
        collector.post(requests_that_take(60))
        name = 'tailsight_alert_messages_waiting{webhook="pager"}'
        eventually(lambda: metric(collector, name) == 1, "the message waits")
        eventually(lambda: any("has not taken a message" in line for line in collector.log), "that is said")
        assert collector.post(requests_that_take(5)).status_code == 200
        assert collector.health()["status"] == "ok"
        assert collector.stop() == 0
    # it comes back under another address: the file says so, and nobody else has to
    with CollectorProcess(tmp_path / "data", "--alerts", rules(tmp_path, server)) as collector:
        [got] = server.wait_for(lambda got: len(got) >= 1)
        assert got.payload["status"] == "firing"
    # and without rules nothing stays open
    with CollectorProcess(tmp_path / "data") as collector:
        eventually(lambda: not opened(collector), "it is ended")


def test_the_test_message_says_what_it_is_and_what_answered(tmp_path, server):
    file = rules(tmp_path, server)
    server.plan(Planned(200, {}, b"thanks"), Planned(404, {}, b"no such hook"))
    done = tailsight("alerts", "test", "--alerts", file, COLUMNS="100")
    assert "200 OK: thanks" in done.stdout
    [got] = server.received
    assert got.payload["status"] == "test"
    assert got.payload["alert"] is None
    assert got.payload["text"].startswith("[TEST] ")
    refused = tailsight("alerts", "test", "--rule", "ranker-slo", "--json", expect=4, TAILSIGHT_ALERTS=file)
    [answer] = json.loads(refused.stdout)["webhooks"]
    assert (answer["webhook"], answer["taken"], answer["status"]) == ("pager", False, 404)
    assert answer["answer"] == "404 Not Found: no such hook"
    assert refused.stderr.startswith("tailsight: pager did not take the test message")
    assert "SECRETPATH" not in done.stdout + done.stderr + refused.stdout + refused.stderr


def test_a_file_that_cannot_be_used_is_said_before_anything_starts(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text("[[rule]]\nname = 'a'\nkind = 'slo'\nfro = '1m'\n")
    done = tailsight("collector", "--data", str(tmp_path / "data"), "--alerts", str(file), expect=2)
    assert done.stderr == f"tailsight: alerts file {file}: rule a: there is no key 'fro'; did you mean 'for'?\n"
    assert not (tmp_path / "data").exists()
    done = tailsight("up", "--data", str(tmp_path / "data"), "--alerts", str(file), *any_ports(), expect=2)
    assert "the collector did not start: alerts file" in done.stderr


def any_ports():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dashboard = str(free.getsockname()[1])
    return ["--http-port", "0", "--grpc-port", "0", "--sql-port", "0", "--dashboard-port", dashboard]
