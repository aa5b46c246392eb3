"""Profiles that are sent to a running collector: stored before they are answered, once, and only from who may send."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from testkit.ports import READER, SENDER, as_caller, write_tokens
from testkit.processes import CollectorProcess
from testkit.profiles import PATH, place, profile, small

from tailsight_storage import open_store
from tailsight_storage.profiles import MAX_PROFILE_BYTES, encode_profile

JSON = {"Content-Type": "application/json"}
SMALL = encode_profile(small())


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("profiles") / "data") as collector:
        yield collector


def send(collector, sent, headers=JSON):
    return collector.post(sent, headers, path=PATH)


def counts(store):
    with open_store(store) as opened:
        return opened.rows(
            "SELECT (SELECT count() FROM profiles), (SELECT count() FROM profile_samples), "
            "(SELECT count() FROM profile_requests)"
        )[0]


def test_a_profile_is_there_when_it_is_answered_and_the_same_again_adds_nothing(running):
    first = send(running, SMALL)
    assert first.status_code == 200, first.text
    assert first.json()["new"] is True
    before = counts(running.store)
    again = send(running, json.dumps(small(), indent=2).encode())
    assert again.json() == {"id": first.json()["id"], "new": False}
    assert counts(running.store) == before


def test_many_at_once_are_there_once(running):
    sent = [encode_profile(profile([place(number)], [(0, 0, number)])) for number in range(10, 14)]
    before = counts(running.store)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: send(running, one), sent * 3))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["new"] for answer in answers) == len(sent)
    assert counts(running.store) == tuple(count + len(sent) for count in before)


@pytest.mark.parametrize(
    ("sent", "headers", "status", "says"),
    [
        (b"{}", JSON, 400, "frames is missing"),
        (b"", JSON, 400, "no JSON"),
        (b"[" * 200_000, JSON, 400, "no JSON"),
        (encode_profile(small()).replace(b'"stack":[0', b'"stack":[9'), JSON, 400, "samples.stack is 9"),
        (b'{"profile":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, JSON, 400, "no JSON"),
        (SMALL, {"Content-Type": "text/plain"}, 415, "application/json"),
        (SMALL, {**JSON, "Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        (SMALL + b" " * MAX_PROFILE_BYTES, JSON, 413, "larger than 33,554,432 bytes"),
    ],
    ids=["no profile", "nothing", "deep", "a stack that is not there", "nested", "as a form", "packed", "large"],
)
def test_what_is_not_taken_is_said(running, sent, headers, status, says):
    before = counts(running.store)
    answer = send(running, sent, headers)
    assert answer.status_code == status
    assert says in answer.json()["message"]
    assert counts(running.store) == before


def test_it_is_sent_and_not_fetched(running):
    assert httpx.get(f"{running.otlp_url}{PATH}").status_code == 405


def test_who_leaves_in_the_middle_does_no_harm(running):
    host, _, port = running.otlp_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
        )
        client.sendall(head.encode() + b"{" * 1000)
    assert send(running, SMALL).status_code == 200


def test_what_was_answered_outlives_a_crash(tmp_path):
    with CollectorProcess(tmp_path / "data") as collector:
        assert send(collector, SMALL).status_code == 200
        collector.kill()
        collector.start()
        assert counts(collector.store) == (1, 3, 2)
        assert send(collector, SMALL).json()["new"] is False
        assert collector.stop() == 0


def test_sending_takes_a_token_that_may_send_and_reading_one_that_may_read(tmp_path):
    tokens = write_tokens(tmp_path / "tokens.txt")
    with CollectorProcess(tmp_path / "data", "--tokens", str(tokens)) as collector:
        assert send(collector, SMALL).status_code == 401
        assert send(collector, SMALL, {**JSON, "Authorization": f"Bearer {READER}"}).status_code == 403
        assert send(collector, SMALL, {**JSON, "Authorization": f"Bearer {SENDER}"}).status_code == 200
        assert counts(as_caller(READER, collector.store)) == (1, 3, 2)
