"""Reports of gates that are sent to a running collector: stored before they are answered, once, and only from who may send."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from testkit.gate_reports import PATH, REPORTS, encoded, made
from testkit.ports import BOTH, READER, SENDER, as_caller, write_tokens
from testkit.processes import CollectorProcess

from tailsight_storage import open_store
from tailsight_storage.gate_reports import MAX_REPORT_BYTES

JSON = {"Content-Type": "application/json"}
REPORT = encoded(REPORTS[2])


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("reports") / "data") as collector:
        yield collector


def send(collector, report, headers=JSON):
    return collector.post(report, headers, path=PATH)


def ids_in(store):
    with open_store(store) as opened:
        return [str(found) for (found,) in opened.rows("SELECT id FROM gate_reports ORDER BY at")]


def test_a_report_is_there_when_it_is_answered_and_the_same_again_adds_nothing(running):
    first = send(running, REPORT)
    assert first.status_code == 200
    assert first.json()["new"] is True
    again = send(running, json.dumps(json.loads(REPORT), indent=2).encode())
    assert again.json() == {"id": first.json()["id"], "new": False}
    assert ids_in(running.store).count(first.json()["id"]) == 1


def test_many_at_once_are_there_once(running):
    reports = [
        encoded(made("pass", REPORTS[0].judgement.comparisons, (), minutes=number)) for number in range(100, 104)
    ]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda report: send(running, report), reports * 4))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["new"] for answer in answers) == len(reports)
    found = ids_in(running.store)
    assert all(found.count(answer.json()["id"]) == 1 for answer in answers)


@pytest.mark.parametrize(
    ("report", "headers", "status", "says"),
    [
        (b"{}", JSON, 400, "verdict is missing"),
        (b"", JSON, 400, "no JSON"),
        (b"[" * 200_000, JSON, 400, "no JSON"),
        (REPORT, {"Content-Type": "text/plain"}, 415, "application/json"),
        (REPORT, {**JSON, "Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        (REPORT + b" " * MAX_REPORT_BYTES, JSON, 413, "larger than 4,194,304 bytes"),
    ],
    ids=["no report", "nothing", "deep", "as a form", "packed", "large"],
)
def test_what_is_not_taken_is_said(running, report, headers, status, says):
    before = ids_in(running.store)
    answer = send(running, report, headers)
    assert answer.status_code == status
    assert says in answer.json()["message"]
    assert ids_in(running.store) == before


def test_it_is_sent_and_not_fetched(running):
    assert httpx.get(f"{running.otlp_url}{PATH}").status_code == 405


def test_who_leaves_in_the_middle_does_no_harm(running):
    host, _, port = running.otlp_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        )
        client.sendall(head.encode() + b"{" * 1000)
    assert send(running, REPORT).status_code == 200


def test_what_was_answered_outlives_a_crash(tmp_path):
    with CollectorProcess(tmp_path / "data") as collector:
        answer = send(collector, REPORT)
        collector.kill()
        collector.start()
        assert ids_in(collector.store) == [answer.json()["id"]]
        assert send(collector, REPORT).json()["new"] is False
        assert collector.stop() == 0


def test_sending_takes_a_token_that_may_send_and_reading_one_that_may_read(tmp_path):
    tokens = write_tokens(tmp_path / "tokens.txt")
    with CollectorProcess(tmp_path / "data", "--tokens", str(tokens)) as collector:
        for token, status in (("", 401), ("ts_wrong", 401), (READER, 403), (SENDER, 200), (BOTH, 200)):
            headers = {**JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
            assert send(collector, REPORT, headers).status_code == status, token
        assert len(ids_in(as_caller(READER, collector.store))) == 1


def test_a_store_that_does_not_take_it_is_said_and_the_collector_goes_on(tmp_path):
    """The store is another collector: what it is asked to insert are spans, and it refuses the rest."""
    with (
        CollectorProcess(tmp_path / "far", "--sql-ingest") as far,
        CollectorProcess(tmp_path / "near", "--store", far.store) as near,
    ):
        answer = send(near, REPORT)
        assert answer.status_code == 500
        assert "this collector's store does not take the report" in answer.json()["message"]
        assert "send the report to that one" in answer.json()["message"]
        assert near.health()["status"] == "ok"
        far.kill()
        away = send(near, REPORT)
        assert away.status_code == 503
        assert away.headers["Retry-After"] == "2"
        assert ids_in_after_start(far) == []


def ids_in_after_start(collector):
    collector.start()
    return ids_in(collector.store)
