import io
import json
import logging
import socket
import sys

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.watch.logs import BURST, WINDOW_S, JsonFormatter, RateLimit, TextFormatter, masked


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def logged():
    """A logger of its own, a clock to turn, and what was written as JSON."""
    stream, clock = io.StringIO(), Clock()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RateLimit(clock))
    logger = logging.Logger("tailsight.test")  # noqa: LOG001 - one that no other test can hear
    logger.addHandler(handler)
    return logger, clock, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_message_is_one_json_object_with_its_fields(logged):
    logger, _, lines = logged
    logger.warning(
        "segment %s\nof %d bytes", "s1", 7, extra={"segment": "s1", "bytes": 7, "duration_s": 0.25, "odd": {1}}
    )
    [line] = lines()
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "tailsight.test",
        "message": "segment s1\nof 7 bytes",
        "segment": "s1",
        "bytes": 7,
        "duration_s": 0.25,
        "odd": "{1}",
    }


def test_a_traceback_stays_on_the_line(logged):
    logger, _, lines = logged
    try:
        raise ValueError("no good")
    except ValueError:
        logger.exception("failed")
    [line] = lines()
    assert "ValueError: no good" in line["exception"]


SECRETS = [
    "cannot reach clickhouse://user:hunter22@db:8123/tailsight",
    "Authorization: Bearer tsk_hunter22hunter22",
    "authorization: basic aHVudGVyMjI6aHVudGVyMjI=",
    "tokens file ts_hunter22-hunter22_hunter22hunter22hunter22 is not there",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked_in_messages_fields_and_tracebacks(logged, text):
    logger, _, lines = logged
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("%s", text, extra={"address": text, "password": "hunter22", "nested": ValueError(text)})
    [line] = lines()
    shown = json.dumps(line)
    assert "hunter22" not in shown
    assert "aHVudGVy" not in shown
    assert line["password"] == "***"


def test_masking_leaves_the_rest_alone():
    text = "GET http://127.0.0.1:4318/healthz at 10:20:30 from a@b, bearer of news"
    assert masked(text) == text


def test_a_repeated_message_is_written_a_few_times_and_then_counted(logged):
    logger, clock, lines = logged
    for number in range(1000):
        logger.warning("garbage from %d", number)
    logger.warning("something else")
    assert len(lines()) == BURST + 1
    clock.now_s += WINDOW_S
    logger.warning("garbage from %d", 1000)
    logger.warning("garbage from %d", 1001)
    assert [line.get("suppressed") for line in lines()[-2:]] == [1000 - BURST, None]


def test_messages_without_end_of_kind_take_no_memory_without_end():
    limit = RateLimit(Clock())
    for number in range(5000):
        assert limit.filter(logging.makeLogRecord({"msg": f"kind {number}"}))
    assert len(limit._kinds) <= 1000


def test_text_says_what_was_left_out():
    record = logging.makeLogRecord({"msg": "m %s", "args": ("v",), "levelname": "INFO", "name": "n", "suppressed": 5})
    assert TextFormatter().format(record).endswith(" INFO n: m v (5 more like this were left out)")


def test_a_loaded_segment_is_told_with_its_bytes_and_its_time(tmp_path):
    body = request([span()]).SerializeToString()
    with CollectorProcess(tmp_path, "--log-format", "json", "--log-level", "debug") as collector:
        assert collector.post(body).status_code == 200
        collector.wait_until_loaded()
    lines = [json.loads(line) for line in collector.log if line.startswith("{")]
    [loaded] = [line for line in lines if "duration_s" in line]
    assert loaded["logger"] == "tailsight_collector.keep.loader"
    assert loaded["segment"] in loaded["message"]
    assert loaded["bytes"] > len(body)
    assert 0 < loaded["duration_s"] < 30


def test_a_client_that_sends_garbage_does_not_fill_the_disk(tmp_path):
    with CollectorProcess(tmp_path, "--log-format", "json") as collector:
        host, port = collector.otlp_url.removeprefix("http://").split(":")
        for _ in range(300):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
        assert collector.health()["status"] == "ok"
        eventually(lambda: len(collector.log) >= BURST, "complaints are logged")
    lines = [json.loads(line) for line in collector.log]
    complaints = [line for line in lines if line.get("reason") == "not_http"]
    assert complaints[0]["level"] == "warning"
    assert complaints[0]["client"][0] == host
    assert BURST <= len(complaints) <= 3 * BURST
    assert sys.getsizeof("".join(collector.log)) < 20_000
