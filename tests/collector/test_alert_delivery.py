"""Messages to a real HTTP server: each arrives once and in order, whatever the server does; secrets stay where they are."""

import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime

import pytest
from collector.alert_webhooks import Planned, WebhookServer

from tailsight_collector.alerts.courier import DELIVERED, FAILED, GIVEN_UP, MAX_WAITING, Backoff, Courier
from tailsight_collector.alerts.machine import FIRING, RESOLVED, Alert, Event
from tailsight_collector.alerts.messages import message, trial_message
from tailsight_collector.alerts.post import new_client, post, retry_after_s
from tailsight_collector.alerts.settings import AlertSettings, Schedule, Webhook
from tailsight_collector.errors import SettingsError

AT_NS = 1_700_000_000_123_000_000
QUICK = Backoff(first_s=0.01, most_s=0.05)
SCHEDULE = Schedule("ranker-slo", "slo", ("hook",), severity="critical")
ALERT = Alert(
    "ranker-slo", {"service": "ranker"}, AT_NS - 60 * 10**9, AT_NS, 0, AT_NS, 1, 15.2, 14.4, "burn rate", "burns “fast”",
    {"service": ["ranker"], "stage": ["a b", "c&d"]},
)  # fmt: skip


@pytest.fixture
def server():
    with WebhookServer() as running:
        yield running


def webhook(server, **options):
    return Webhook("hook", server.url, **options)


HOOK = Webhook("hook", "http://127.0.0.1:9")


def payload(number=0):
    return {**trial_message(["ranker-slo"], AT_NS + number), "at": datetime.now(UTC).isoformat()}


class Deliveries:
    """A courier at work, and what it has said it is done with."""

    def __init__(self, hook, **options):
        self.done = []
        self.courier = Courier(
            hook, lambda _, message_id: self.done.append(message_id), **{"backoff": QUICK, **options}
        )
        self.courier.start()

    def __enter__(self):
        return self.courier

    def __exit__(self, *_):
        self.courier.close(30)


def test_a_message_has_the_documented_form():
    plain = json.loads(json.dumps(message(Event(FIRING, ALERT, AT_NS), SCHEDULE, "http://dash:8501/")))
    assert plain.pop("source").keys() == {"tailsight", "host"}
    assert plain == {
        "version": 1,
        "id": f"{ALERT.id}-firing-1",
        "status": "firing",
        "at": "2023-11-14T22:13:20.123Z",
        "text": "[FIRING] ranker-slo: burns “fast” http://dash:8501/?service=ranker&stage=a+b&stage=c%26d",
        "alert": {
            "id": ALERT.id, "rule": "ranker-slo", "kind": "slo", "severity": "critical", "labels": {"service": "ranker"},
            "filters": {"service": ["ranker"], "stage": ["a b", "c&d"]}, "value": 15.2, "limit": 14.4, "unit": "burn rate",
            "description": "burns “fast”", "since": "2023-11-14T22:12:20.123Z", "fired": "2023-11-14T22:13:20.123Z",
            "resolved": None, "repeated": 0, "link": "http://dash:8501/?service=ranker&stage=a+b&stage=c%26d",
        },
    }  # fmt: skip
    over = message(Event(RESOLVED, ALERT, AT_NS), SCHEDULE)
    assert (over["alert"]["resolved"], over["alert"]["link"]) == ("2023-11-14T22:13:20.123Z", None)
    assert over["text"] == "[RESOLVED] ranker-slo: burns “fast”"


def test_it_is_signed_and_carries_the_headers_that_were_asked_for(server):
    hook = webhook(server, secret="s3cret", headers={"Authorization": "Bearer abc"})
    with new_client(HOOK) as client:
        answer = post(client, hook, payload())
    assert (answer.is_taken, answer.status, answer.words) == (True, 200, "200 OK: ok")
    [got] = server.received
    assert got.headers["authorization"] == "Bearer abc"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["tailsight-message-id"] == got.payload["id"]
    at, digest = (part.partition("=")[2] for part in got.headers["tailsight-signature"].split(","))
    assert abs(int(at) - datetime.now(UTC).timestamp()) < 60
    assert digest == hmac.new(b"s3cret", f"{at}.".encode() + got.body, hashlib.sha256).hexdigest()
    assert got.payload["text"].startswith("[TEST] ")


def test_chat_systems_get_a_text_alone(server):
    with new_client(HOOK) as client:
        sent = {**payload(), "text": "stage <!channel> & \ud800"}
        assert post(client, webhook(server, form="slack"), sent).is_taken
    assert server.received[0].payload == {"text": "stage &lt;!channel&gt; &amp; ?"}


def test_it_is_tried_again_until_it_is_taken_and_order_is_kept(server):
    server.plan(Planned(503), Planned(500), Planned(429, {"Retry-After": "0"}), Planned(408))
    running = Deliveries(webhook(server))
    with running as courier:
        courier.take([payload(number) for number in range(3)])
        server.wait_for(lambda got: len(got) == 7)
    ids = [each.payload["id"] for each in server.received]
    assert ids == [payload(0)["id"]] * 5 + [payload(1)["id"], payload(2)["id"]]
    assert running.done == list(dict.fromkeys(ids))
    assert (courier.outcomes[FAILED], courier.outcomes[DELIVERED], courier.waiting) == (4, 3, 0)


def test_a_server_that_says_nothing_is_left_after_the_time_limit(server):
    server.plan(Planned(None))
    with Deliveries(webhook(server, timeout_s=0.2)) as courier:
        courier.take([payload()])
        server.wait_for(lambda got: len(got) == 2)
    assert courier.outcomes[DELIVERED] == 1


def test_nobody_there_is_no_reason_to_give_up():
    with WebhookServer() as gone:
        hook = webhook(gone)
    with new_client(HOOK) as client:
        answer = post(client, hook, payload())
    assert (answer.status, answer.is_taken, answer.is_final) == (0, False, False)
    assert "SECRETPATH" not in answer.words


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 301, 302])
def test_what_is_refused_for_good_is_given_up_and_does_not_hold_up_the_next(server, status, caplog):
    server.plan(Planned(status, {"Location": server.url}, b"no\x1b[31m such hook"))
    running = Deliveries(webhook(server, secret="s3cret", headers={"X-Key": "k3y"}))
    with caplog.at_level(logging.DEBUG), running as courier:
        courier.take([payload(1), payload(2)])
        server.wait_for(lambda got: len(got) == 2)
    assert courier.outcomes[GIVEN_UP] == 1
    assert running.done == [payload(1)["id"], payload(2)["id"]]
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said.startswith(f"a message to webhook hook is given up: {status}")
    for secret in ("SECRETPATH", "s3cret", "k3y", "\x1b"):
        assert secret not in caplog.text


def test_what_is_too_old_is_given_up(server):
    server.plan(*[Planned(503)] * 2)
    running = Deliveries(webhook(server), oldest_s=0)
    with running as courier:
        courier.take([{**payload(1), "at": "2023-11-14T22:13:20.123Z"}])
        server.wait_for(lambda got: len(got) == 1)
    assert courier.outcomes[GIVEN_UP] == 1


def test_of_too_many_the_oldest_are_given_up_and_never_the_one_on_its_way(server):
    server.plan(Planned(None))
    running = Deliveries(webhook(server, timeout_s=0.3))
    with running as courier:
        courier.take([payload(0)])
        server.wait_for(lambda got: len(got) == 1)
        courier.take([payload(number) for number in range(1, MAX_WAITING + 3)])
        assert courier.outcomes[GIVEN_UP] == 3
        assert courier.waiting == MAX_WAITING
        assert running.done == [payload(number)["id"] for number in (1, 2, 3)]
        got = server.wait_for(lambda got: len(got) >= 3)
    assert [each.payload["id"] for each in got[:3]] == [payload(0)["id"], payload(0)["id"], payload(4)["id"]]


def test_redirects_are_followed_on_the_same_host_alone(server):
    server.plan(Planned(307, {"Location": "/moved"}), Planned(200))
    with new_client(HOOK) as client:
        assert post(client, webhook(server), payload()).is_taken
    assert [each.path for each in server.received] == ["/hook/SECRETPATH", "/moved"]
    with WebhookServer() as elsewhere:
        server.plan(Planned(308, {"Location": elsewhere.url}))
        with new_client(HOOK) as client:
            answer = post(client, webhook(server, headers={"X-Key": "k3y"}), payload())
        assert elsewhere.received == []
    assert (answer.is_taken, answer.is_final) == (False, True)
    assert "redirects to another host, '127.0.0.1'" in answer.words


def test_redirects_without_end_are_left(server):
    server.plan(*[Planned(307, {"Location": "/again"})] * 9)
    with new_client(HOOK) as client:
        answer = post(client, webhook(server), payload())
    assert answer.is_final
    assert len(server.received) == 4


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [
        ("7", 7), ("0.5", 0.5), ("-3", 0), ("1e9", 3600), ("nan", None), ("soon", None), ("", None), (None, None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30), ("Sun, 22 Nov 2026 11:00:00 GMT", 0), ("Sun, 22 Nov 2099 11:00:00 GMT", 3600),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(text, wanted_s):
    assert retry_after_s(text, NOW) == wanted_s


def test_the_waits_double_up_to_a_limit_and_respect_retry_after():
    backoff = Backoff(1.0, 300.0)
    assert [backoff.wait_s(failures, None, 1.0) for failures in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]
    assert backoff.wait_s(3, None, 0.0) == pytest.approx(0.4)
    assert backoff.wait_s(1, 77.0, 1.0) == 77


def test_retry_after_is_waited_for(server):
    server.plan(Planned(429, {"Retry-After": "3600"}))
    with Deliveries(webhook(server)) as courier:
        courier.take([payload()])
        server.wait_for(lambda got: len(got) == 1)
        # with the quick backoff a second attempt would come within 50 ms
        with pytest.raises(AssertionError):
            server.wait_for(lambda got: len(got) > 1, 0.5)
    assert courier.waiting == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Webhook("hook", "ftp://host/x"), "webhook hook: its url is none"),
        (lambda: Webhook("hook", "https:///x"), "webhook hook: its url is none"),
        (lambda: Webhook("hook", "https://host:port/x"), "webhook hook: its url cannot be read"),
        (lambda: Webhook("hook", "https://user:pw@host/x"), "its url holds a user"),
        (lambda: Webhook("ho ok", "https://host"), "webhook 'ho ok': use a name"),
        (lambda: Webhook("hook", "https://host", headers={"A b": "c"}), "'A b' is no header"),
        (lambda: Webhook("hook", "https://host", headers={"Host": "c"}), "'Host' is no header"),
        (lambda: Webhook("hook", "https://host", headers={"A": "b\r\nC: d"}), "the value of header A"),
        (lambda: Webhook("hook", "https://host", form="teams"), "no format 'teams'"),
        (lambda: Webhook("hook", "https://host", timeout_s=0), "a timeout of 0 s"),
        (lambda: Schedule("r", "slo", (), every_s=0.01), "rule r: every 0.01 s"),
        (lambda: Schedule("r", "slo", (), repeat_s=5), "rule r: repeat 5 s"),
        (lambda: AlertSettings((), (Schedule("r", "slo", ("a",)),)), "rule r: there is no webhook 'a'; there is none"),
        (
            lambda: AlertSettings((Webhook("pager", "https://host"),), (Schedule("r", "slo", ("pagr",)),)),
            "did you mean 'pager'?",
        ),
        (lambda: AlertSettings((Webhook("a", "https://h"),) * 2, ()), "webhook a is there twice"),
    ],
)
def test_settings_that_cannot_be_used_are_named(make, words):
    with pytest.raises(SettingsError) as raised:
        make()
    assert words in str(raised.value)


def test_nothing_secret_is_in_a_webhooks_representation():
    shown = repr(Webhook("hook", "https://host/SECRETPATH", secret="s3cret", headers={"A": "k3y"}))
    assert not any(secret in shown for secret in ("SECRETPATH", "s3cret", "k3y"))
