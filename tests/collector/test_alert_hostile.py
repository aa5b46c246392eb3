"""Webhooks at their worst: over real sockets and real TLS, with what a chat system, a proxy or an attacker may answer."""

import logging
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import trustme
from collector.alert_webhooks import Planned, WebhookServer
from testkit.processes import eventually

from tailsight_collector.alerts.courier import DELIVERED, FAILED, Backoff, Courier
from tailsight_collector.alerts.messages import trial_message
from tailsight_collector.alerts.post import new_client, post
from tailsight_collector.alerts.settings import Webhook
from tailsight_collector.errors import SettingsError

LIMIT_S = 0.5
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def payload():
    return trial_message(["ranker-slo"], time.time_ns())


def attempt(hook):
    with new_client(hook) as client:
        return post(client, hook, payload())


@contextmanager
def raw_server(answer):
    """A server that hands each connection to `answer`, with an event that is set when the test is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection, over)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook/SECRETPATH"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def for_ever(beginning, piece):
    """Answer with a piece now and then, each long before a read would be given up."""

    def answer(connection, over):
        connection.recv(65536)
        connection.sendall(beginning)
        while not over.wait(LIMIT_S / 10):
            connection.sendall(piece)

    return answer


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), False),
        (for_ever(b"", CONTINUE), False),
        (for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"), True),
        (for_ever(b"HTTP/1.1 307 X\r\nLocation: /again\r\n", b"X: y\r\n"), False),
        (lambda connection, over: over.wait(30), False),
    ],
    ids=["headers", "continue", "body", "redirect", "never-reads"],
)
def test_who_answers_a_byte_now_and_then_is_left_after_the_time_limit(answer, taken):
    with raw_server(answer) as url:
        got = attempt(Webhook("hook", url, timeout_s=LIMIT_S))
    assert got.is_taken is taken
    assert LIMIT_S * 0.9 < got.took_s < LIMIT_S + 2
    assert taken or got.words == "no answer within 0.5 s"


def test_a_body_without_end_is_left_at_its_beginning():
    def answer(connection, over):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"x" * 65536)

    with raw_server(answer) as url:
        got = attempt(Webhook("hook", url, timeout_s=30))
    assert got.is_taken
    assert len(got.words) < 220


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection, over: connection.recv(10),
        for_ever(b"", os.urandom(512)),
        for_ever(b"", b"X" * 65536),
    ],
    ids=["leaves-early", "noise", "header-without-end"],
)
def test_nonsense_is_tried_again_later(answer):
    with raw_server(answer) as url:
        got = attempt(Webhook("hook", url, timeout_s=LIMIT_S))
    assert (got.status, got.is_taken, got.is_final) == (0, False, False)
    assert "SECRETPATH" not in got.words


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://xn--/", "javascript:alert(1)", "http://127.0.0.1:abc/", "http://" + "a" * 70_000, ""],
    ids=["bracket", "idna", "scheme", "port", "long", "none"],
)
def test_a_redirect_to_nowhere_raises_nothing(location):
    with WebhookServer([Planned(307, {"Location": location})] * 4) as server:
        assert not attempt(Webhook("hook", server.url)).is_taken


@pytest.mark.parametrize("when", ["Sun, 22 Nov 99999 11:00:00 GMT", "Sun, 22 Nov 2026 12:00:30 +99999999999999999999"])
def test_a_retry_after_beyond_all_time_is_nonsense(when):
    with WebhookServer([Planned(429, {"Retry-After": when})]) as server:
        assert attempt(Webhook("hook", server.url)).retry_after_s is None


def test_what_an_answer_repeats_of_secrets_is_not_said(caplog):
    """Express says `Cannot POST /services/T0/…`; others show the headers, or the token alone."""
    said = (
        b"Cannot POST /hook/SECRETPATH?token=t0ken-value, token t0ken-value, pa%73sword, "
        b"Authorization: Bearer k3y-of-ours, k3y-of-ours, s3cret-of-ours, no such hook"
    )
    with WebhookServer([Planned(404, {}, said)]) as server:
        hook = Webhook(
            "hook", f"{server.url}?token=t0ken-value&p=pa%73sword", secret="s3cret-of-ours",
            headers={"Authorization": "Bearer k3y-of-ours"},
        )  # fmt: skip
        done = threading.Event()
        courier = Courier(hook, lambda *_: done.set())
        with caplog.at_level(logging.DEBUG):
            courier.start()
            courier.take([payload()])
            assert done.wait(30)
            courier.close(30)
    assert "no such hook" in caplog.text
    for secret in ("SECRETPATH", "t0ken", "pa%73sword", "password", "k3y", "s3cret"):
        assert secret not in caplog.text


def test_an_answer_is_asked_for_as_it_is():
    with WebhookServer() as server:
        attempt(Webhook("hook", server.url))
    assert server.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTP_PROXY", "ftp://u:SECRETPW@x"), ("SSL_CERT_FILE", "/nonexistent")],
)
def test_an_environment_that_allows_no_connection_is_said_and_the_webhook_lives_on(name, value, monkeypatch, caplog):
    with WebhookServer() as server:
        hook = Webhook("hook", server.url)
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match="environment's proxies or certificates"):
            new_client(hook)
        courier = Courier(hook, lambda *_: None, backoff=Backoff(0.01, 0.02))
        courier.start()
        courier.take([{**payload(), "at": datetime.now(UTC).isoformat()}])
        eventually(lambda: courier.outcomes[FAILED] >= 2, "it is tried again")
        monkeypatch.delenv(name)
        server.wait_for(lambda got: len(got) == 1)
        courier.close(30)
    assert courier.outcomes[DELIVERED] == 1
    assert "SECRETPW" not in caplog.text
    assert "unexpected" not in caplog.text


class Certificates:
    def __init__(self, folder):
        self.ca, self.others_ca = folder / "ca.pem", folder / "others.pem"
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.others_ca)
        self.right, self.wrong = (self._context(ca.issue_cert(name)) for name in ("127.0.0.1", "elsewhere.example"))

    @staticmethod
    def _context(leaf):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_a_certificate_of_the_own_ca_is_verified_and_a_message_arrives_signed(made):
    with WebhookServer(tls=made.right) as server:
        hook = Webhook("hook", server.url, secret="s3cret-of-ours", ca_file=str(made.ca))
        assert hook.url.startswith("https://")
        assert attempt(hook).is_taken
        assert "tailsight-signature" in server.received[0].headers


@pytest.mark.parametrize("case", ["unknown-ca", "others-ca", "another-host"])
def test_who_cannot_prove_who_he_is_hears_nothing(made, case):
    with WebhookServer(tls=made.wrong if case == "another-host" else made.right) as server:
        ca = {"unknown-ca": "", "others-ca": str(made.others_ca), "another-host": str(made.ca)}[case]
        got = attempt(Webhook("hook", server.url, ca_file=ca))
        assert server.received == []
    assert (got.status, got.is_final) == (0, False)
    assert "CERTIFICATE_VERIFY_FAILED" in got.words
    assert "SECRETPATH" not in got.words


def test_a_redirect_from_https_to_http_is_not_followed(made):
    with WebhookServer() as plain, WebhookServer([Planned(307, {"Location": plain.url})], tls=made.right) as server:
        assert attempt(Webhook("hook", server.url, ca_file=str(made.ca))).is_final
        assert plain.received == []


def test_who_hangs_in_the_middle_of_the_tls_handshake_is_left(made):
    def answer(connection, over):
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB begins
        while not over.wait(LIMIT_S / 10):
            connection.sendall(b"x")

    with raw_server(answer) as url:
        got = attempt(Webhook("hook", url.replace("http", "https"), timeout_s=LIMIT_S, ca_file=str(made.ca)))
    assert not got.is_taken
    assert got.took_s < LIMIT_S + 2


@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["absent", "empty", "text"])
def test_a_ca_file_that_cannot_be_used_is_named_at_the_start(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"webhook hook: ca_file .*ca.pem cannot be used: "):
        Webhook("hook", "https://host", ca_file=str(file))


@pytest.mark.parametrize("url", ["http://\N{SNOWMAN}.example/x", "http://a/\x7f", "http://a/" + "x" * 70_000])
def test_an_address_that_nothing_can_be_sent_to_is_refused_at_the_start(url):
    with pytest.raises(SettingsError, match=r"^webhook hook: its url cannot be read; use https://host/path$"):
        Webhook("hook", url)
