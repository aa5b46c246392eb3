"""Clients that are slow, large, many, odd, or gone: the collector stays within its memory and serves the others."""

import gzip
import json
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import zstandard
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess, eventually

from tailsight_collector.keep.records import encode_varint

MIB = 1024 * 1024
PATIENCE_S = 30
# What the collector may take beyond what it had. A dense body is the dearest: 4 MiB of empty spans are 350 MB decoded.
MEMORY_BYTES = 900 * MIB
LIMITS = ("--header-timeout", "1", "--body-timeout", "1", "--idle-timeout", "5", "--max-connections", "300")


@pytest.fixture(scope="module")
def collector(tmp_path_factory) -> Iterator[CollectorProcess]:
    with CollectorProcess(tmp_path_factory.mktemp("hostile"), *LIMITS) as running:
        assert running.post(one_span()).status_code == 200
        running.wait_until_loaded()
        yield running


@pytest.fixture(autouse=True)
def unharmed(collector):
    """After each test: alive, nothing held, nobody connected, and memory never was beyond its bounds."""
    process = psutil.Process(collector.pid)
    peak = Peak(collector.pid)
    yield
    assert collector.post(one_span()).status_code == 200
    assert peak.growth_bytes() < MEMORY_BYTES
    assert collector.health()["status"] == "ok"
    eventually(lambda: number(collector, "tailsight_http_connections") == 1, "all connections but ours are gone")
    assert number(collector, 'tailsight_in_flight_requests{protocol="http"}') == 0
    assert number(collector, 'tailsight_in_flight_bytes{protocol="http"}') == 0
    assert process.num_threads() < 100


class Peak:
    """How much memory a process takes at most, from now on."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._began_bytes = self._peak_bytes()

    def growth_bytes(self) -> int:
        return self._peak_bytes() - self._began_bytes

    def _peak_bytes(self) -> int:
        [line] = [line for line in self._status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024


def one_span(**fields) -> bytes:
    return request([span(**fields)]).SerializeToString()


def number(collector, name) -> float:
    """A number of the collector's own, by its name and labels as `/metrics` has them; 0 where it is not there yet."""
    page = httpx.get(f"{collector.otlp_url}/metrics", timeout=PATIENCE_S).text
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name} ")), 0.0)


def closed(collector, reason) -> float:
    return number(collector, f'tailsight_http_connections_closed_total{{reason="{reason}"}}')


def connect(collector) -> socket.socket:
    host, port = collector.otlp_url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def rest_of(client) -> bytes:
    """All that still comes, until the collector ends the connection."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def exchange(collector, data: bytes) -> bytes:
    """Send bytes and return all that comes back, until the collector ends the connection."""
    with connect(collector) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data)
        return rest_of(client)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head(length: int | None, *more: str, path: str = "/v1/traces", method: str = "POST", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", "Content-Type: application/x-protobuf", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def stored(collector, name) -> int:
    collector.wait_until_loaded()
    address = collector.store.replace("clickhouse", "http").removesuffix("/tailsight")
    query = "SELECT count() FROM spans WHERE name = {name:String}"
    return int(httpx.post(address, params={"param_name": name}, content=query, timeout=PATIENCE_S).text)


@contextmanager
def somebody_else(collector) -> Iterator[list[int]]:
    """Another client that sends all the time; its answers' statuses."""
    statuses: list[int] = []
    stop = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=PATIENCE_S) as client:
            while not stop.wait(0.01):
                statuses.append(
                    client.post(f"{collector.otlp_url}/v1/traces", content=one_span(), headers=PROTOBUF).status_code
                )

    thread = threading.Thread(target=send)
    thread.start()
    try:
        eventually(lambda: bool(statuses), "the first is answered")
        yield statuses
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert set(statuses) == {200}


# --- slow -------------------------------------------------------------------------------------------------------------


def test_headers_that_never_end_end_the_connection(collector):
    before = closed(collector, "slow_headers")
    with ExitStack() as stack, somebody_else(collector):
        clients = [stack.enter_context(connect(collector)) for _ in range(150)]
        for client in clients:
            client.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        for client in clients:
            assert status_of(rest_of(client)) == 408
    assert closed(collector, "slow_headers") - before == 150


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_a_byte_now_and_then_ends_the_connection(collector, chunked):
    before = closed(collector, "slow_body")
    with connect(collector) as client, somebody_else(collector):
        client.sendall(head(None, "Transfer-Encoding: chunked") if chunked else head(10 * MIB))
        answered = threading.Event()

        def trickle() -> None:
            while not answered.wait(0.1):
                try:
                    client.send(b"1\r\nx\r\n" if chunked else b"x")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = rest_of(client)
        answered.set()
        thread.join()
    assert answer == b"" or status_of(answer) == 408  # the answer is lost where a byte crosses it
    assert closed(collector, "slow_body") - before == 1


def test_a_body_that_is_sent_at_once_but_for_its_end_is_not_waited_for(collector):
    with connect(collector) as client:
        client.sendall(head(20 * MIB) + bytes(20 * MIB - 1))
        assert status_of(rest_of(client)) == 408


def test_a_slow_client_that_comes_on_is_served(collector):
    """Longer than --body-timeout, but always quick enough."""
    body = one_span(name="patience", attributes={"big": "x" * 120_000})
    with connect(collector) as client:
        client.sendall(head(len(body), "Connection: close"))
        for start in range(0, len(body), 10_000):
            client.sendall(body[start : start + 10_000])
            time.sleep(0.15)  # not to wait for anything: this is how fast the client is
        assert status_of(rest_of(client)) == 200
    assert stored(collector, "patience") == 1


def test_connections_without_a_request_are_closed_after_a_while(collector):
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(collector)) for _ in range(50)]
        clients[0].sendall(head(0))
        assert clients[0].recv(65536).startswith(b"HTTP/1.1 200")
        assert [rest_of(client) for client in clients] == [b""] * 50


def test_who_does_not_read_its_answers_is_not_answered_without_end(collector):
    """Each answer is some 12 kB, and nobody takes them."""
    with connect(collector) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        asking = head(None, path="/metrics", method="GET") * 1_000_000
        with pytest.raises((TimeoutError, BrokenPipeError, ConnectionResetError)):
            client.sendall(asking)


# --- many -------------------------------------------------------------------------------------------------------------


def test_above_the_limit_the_longest_idle_connection_makes_room(collector):
    with ExitStack() as stack:
        busy = stack.enter_context(connect(collector))
        busy.sendall(head(MIB) + bytes(MIB - 1))
        idle = [stack.enter_context(connect(collector)) for _ in range(400)]
        assert rest_of(idle[0]) == b""
        newest = idle[-1]
        newest.sendall(head(0, "Connection: close"))
        assert status_of(rest_of(newest)) == 200
        assert number(collector, "tailsight_http_connections") <= 300
        busy.sendall(b"\x00")
        assert busy.recv(65536).startswith(b"HTTP/1.1 400")  # it was no protobuf, and it was answered
    assert closed(collector, "too_many_connections") > 0


def test_ten_thousand_idle_connections_cost_little_and_keep_nobody_out(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_500:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with CollectorProcess(tmp_path) as collector, ExitStack() as stack:
            peak = Peak(collector.pid)
            clients = [stack.enter_context(connect(collector)) for _ in range(10_000)]
            for client in clients[:1500]:  # more than the requests that may be unanswered: these are not there yet
                client.sendall(head(100) + b"x")
            eventually(lambda: number(collector, "tailsight_http_connections") >= 10_000, "all are connected")
            assert collector.post(one_span(name="late")).status_code == 200
            assert stored(collector, "late") == 1
            assert peak.growth_bytes() < 200 * MIB
            stack.close()
            eventually(lambda: number(collector, "tailsight_http_connections") < 10, "all are gone")
            eventually(lambda: psutil.Process(collector.pid).num_fds() < 200, "their files are closed")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_bodies_that_do_not_fit_into_memory_together_are_put_off(collector):
    """256 MiB are held at most: of ten clients with 60 MiB each, some are told to come again, before or on their way."""
    size = 60 * MIB
    answers: list[bytes] = []
    block = bytes(MIB)
    all_there = threading.Barrier(10)

    def send() -> None:
        with connect(collector) as client:
            try:
                client.sendall(head(size, "Connection: close"))
                all_there.wait(PATIENCE_S)
                for _ in range(size // MIB):
                    client.sendall(block)
            except (BrokenPipeError, ConnectionResetError):
                pass
            answers.append(rest_of(client))

    with ExitStack() as stack:
        threads = [threading.Thread(target=send) for _ in range(10)]
        for thread in threads:
            thread.start()
        stack.callback(lambda: [thread.join() for thread in threads])
    put_off = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(answers) == 10
    assert put_off
    assert all(b"retry-after: " in answer.lower() for answer in put_off)


def test_bodies_that_are_never_whole_keep_nobody_out(tmp_path):
    """Four of them hold all the memory that there is for requests, and have minutes to come on."""
    size = 64 * MIB
    body = request([span()]).SerializeToString()
    with CollectorProcess(tmp_path, "--body-timeout", "300") as collector, ExitStack() as stack:
        slow = [stack.enter_context(connect(collector)) for _ in range(4)]
        for client in slow:
            client.sendall(head(size))
            client.sendall(bytes(size - 1))
        eventually(lambda: collector.post(body).status_code == 200, "others make room", patience_s=20)
        given_up = [client for client in slow if b"HTTP/1.1 503" in received_now(client)]
        assert len(given_up) == 1  # no more than it took


def received_now(client: socket.socket) -> bytes:
    client.settimeout(0.5)
    try:
        return client.recv(65536)
    except TimeoutError:
        return b""


# --- large ------------------------------------------------------------------------------------------------------------


def delimited(field: int, body: bytes) -> bytes:
    return encode_varint(field << 3 | 2) + encode_varint(len(body)) + body


def dense(unit: bytes, *fields: int) -> bytes:
    """Nearly 64 MiB of one small message, at the end of a path of fields."""
    body = unit * ((64 * MIB - 100) // len(unit))
    for field in reversed(fields):
        body = delimited(field, body)
    return body


JSON = {"Content-Type": "application/json"}
DENSE = {
    "resources": (lambda: dense(b"\x0a\x00"), PROTOBUF),
    "spans": (lambda: dense(b"\x12\x00", 1, 2), PROTOBUF),
    "attributes": (lambda: dense(b"\x4a\x00", 1, 2, 2), PROTOBUF),
    "values in a list": (lambda: dense(b"\x0a\x00", 1, 2, 2, 9, 2, 5), PROTOBUF),
    "medium spans full of attributes": (lambda: dense(delimited(2, b"\x4a\x00" * 20_000), 1, 2), PROTOBUF),
    "unknown groups": (lambda: dense(b"\x0b\x0c"), PROTOBUF),
    "JSON arrays": (lambda: b"[" + b"[]," * (21 * MIB) + b"[]]", JSON),
    "JSON objects": (lambda: b"[" + b'{"":0},' * (9 * MIB) + b"{}]", JSON),
    "JSON numbers": (lambda: b"[" + b"9," * (31 * MIB) + b"9]", JSON),
}


@pytest.mark.parametrize("what", DENSE)
def test_dense_bodies_are_refused_before_they_are_decoded(collector, what):
    make, headers = DENSE[what]
    packed = zstandard.ZstdCompressor(level=1).compress(make())
    assert len(packed) < MIB
    answer = collector.post(packed, headers | {"Content-Encoding": "zstd"})
    assert answer.status_code == 413
    assert b"MiB decoded" in answer.content


def test_many_dense_bodies_at_once_take_turns(collector):
    """The densest that are decoded without a look, and larger ones: together they take no more than one."""
    bodies = (delimited(1, delimited(2, b"\x12\x00" * (MIB - 10))), dense(b"\x12\x00", 1, 2))
    packed = [zstandard.ZstdCompressor(level=1).compress(body) for body in bodies] * 6
    statuses: list[int] = []

    def send(body: bytes) -> None:
        statuses.append(collector.post(body, PROTOBUF | {"Content-Encoding": "zstd"}).status_code)

    threads = [threading.Thread(target=send, args=(body,)) for body in packed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 12
    assert set(statuses) <= {200, 413, 503}
    collector.wait_until_loaded()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_many_bombs_at_once_stay_within_bounds(collector, coding):
    bomb = bytes(63 * MIB)
    packed = gzip.compress(bomb, 9) if coding == "gzip" else zstandard.ZstdCompressor().compress(bomb)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(collector)) for _ in range(16)]
        for client in clients:
            client.sendall(head(len(packed), f"Content-Encoding: {coding}", "Connection: close") + packed)
        statuses = {status_of(rest_of(client)) for client in clients}
    assert statuses <= {400, 413, 503}
    assert statuses != {503}


def zstd_window(exponent: int) -> bytes:
    """A zstd frame that wants a window of 2**exponent bytes, with one byte in it."""
    descriptor = (exponent - 10) << 3
    block = 1 | 0 << 1 | 1 << 3  # the last one, raw, of one byte
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes((descriptor,)) + struct.pack("<I", block)[:3] + b"\x00"


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("zstd", zstd_window(41)),
        ("zstd", zstd_window(31)),
        ("zstd", zstd_window(28)),
        ("zstd", b"\x50\x2a\x4d\x18\xff\xff\xff\xff"),  # a frame to be skipped that has no end
        ("zstd", b"\x28\xb5\x2f\xfd" + b"\xe0" + b"\xff" * 8 + b"\x01\x00\x00"),  # says that it holds 2**64 bytes
        ("gzip", gzip.compress(gzip.compress(bytes(100 * MIB), mtime=0), mtime=0)),
        ("gzip", b"\x1f\x8b\x08\x1c" + bytes(6) + b"\xff\xff" + b"x" * 70_000),  # a file name without end
        ("gzip", gzip.compress(b"", mtime=0)[:-4] + b"\x00\x00\x00\x40"),
    ],
)
def test_what_is_packed_oddly_is_refused(collector, coding, packed):
    assert collector.post(packed, PROTOBUF | {"Content-Encoding": coding}).status_code == 400


# --- deep -------------------------------------------------------------------------------------------------------------


def nested(depth: int, name: str, *, lists: bool) -> bytes:
    """A span with a value inside a list (or map) inside a list … `depth` times."""
    value = delimited(1, b"innermost")
    for _ in range(depth):
        value = (
            delimited(5, delimited(1, value))
            if lists
            else delimited(6, delimited(1, delimited(1, b"k") + delimited(2, value)))
        )
    own = request([span(name=name)]).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    return delimited(1, delimited(2, delimited(2, own + delimited(9, delimited(1, b"deep") + delimited(2, value)))))


@pytest.mark.parametrize("lists", [True, False])
def test_values_of_any_depth_are_stored_or_refused(collector, lists):
    """What protobuf's own reader takes, the database takes: no depth poisons a segment."""
    name = f"deep-{lists}"
    statuses = {depth: collector.post(nested(depth, name, lists=lists)).status_code for depth in range(1, 101)}
    taken = [depth for depth, status in statuses.items() if status == 200]
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) >= 30
    assert set(statuses.values()) == {200, 400}
    assert stored(collector, name) == len(taken)
    health = collector.health()["loading"]
    assert (health["quarantined_records"], health["last_error"]) == (0, "")


@pytest.mark.parametrize("body", [nested(10_000, "abyss", lists=True), b"\x0b" * 100_000 + b"\x0c" * 100_000])
def test_an_abyss_is_refused(collector, body):
    assert collector.post(body).status_code == 400


def as_json(value: str) -> bytes:
    now_ns = time.time_ns()
    span_fields = f'"traceId":"{"1" * 32}","spanId":"{"2" * 16}","name":"odd","startTimeUnixNano":{now_ns},"endTimeUnixNano":{now_ns}'
    attributes = f'"attributes":[{{"key":"k","value":{value}}}]'
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{span_fields},{attributes}}}]}}]}}]}}'.encode()


def deep_json(depth: int) -> bytes:
    return as_json('{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (as_json('{"intValue":1}'), 200),
        (deep_json(40), 200),
        (deep_json(65), 400),
        (deep_json(400), 400),
        (deep_json(100_000), 400),
        (b"[" * 1_000_000, 400),
        (b'{"a":' * 1_000_000, 400),
        (as_json('{"intValue":1' + "0" * 400 + "}"), 400),
        (as_json('{"intValue":1' + "0" * 100_000 + "}"), 400),
        (as_json('{"intValue":"1' + "0" * 100_000 + '"}'), 400),
        (as_json('{"doubleValue":1e999}'), 200),
        (as_json('{"doubleValue":1' + "0" * 5000 + "}"), 400),
        (as_json('{"doubleValue":NaN}'), 200),
        (as_json('{"doubleValue":-Infinity}'), 200),
        (as_json('{"intValue":NaN}'), 400),
        (as_json('{"stringValue":"\\ud800"}'), 400),
        (as_json('{"stringValue":"\\u0000"}'), 200),
        (as_json('{"stringValue":1,"stringValue":"the last one counts"}'), 200),
        (as_json('{"stringValue":"' + "x" * 1_000_000 + '"}'), 200),
        (b"\xef\xbb\xbf" + as_json('{"intValue":1}'), 400),
        (as_json('{"intValue":1}').decode().encode("utf-16"), 400),
        (as_json('{"intValue":1}') + b"\x00", 400),
        (as_json('{"intValue":1}') * 2, 400),
        (b"null", 400),
        (b"", 400),
    ],
)  # fmt: skip
def test_odd_json_is_stored_or_refused(collector, body, status):
    answer = collector.post(body, JSON)
    assert answer.status_code == status
    if status == 400:
        assert len(json.loads(answer.content)["message"]) < 400
    collector.wait_until_loaded()
    assert collector.health()["loading"]["quarantined_records"] == 0


# --- odd --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        head(0, "X-Long: " + "x" * 70_000),
        head(0, "X-Long: " + "x" * 5_000_000),
        head(0, *(f"X-{number}: y" for number in range(1000))),
        head(0, *("X: y" for _ in range(100_000))),
        head(0, path="/" + "x" * 70_000),
        head(0, path="/" + "x" * 5_000_000),
        b"GET / HTTP/1.1\r\n" + b"x" * 5_000_000,
    ],
)
def test_headers_without_end_are_refused(collector, data):
    answer = exchange(collector, data)
    assert answer == b"" or status_of(answer) in (400, 431)  # the answer is lost where more bytes cross it


@pytest.mark.parametrize(
    "tail",
    [b"0\r\n" + b"X: y\r\n" * 500_000, b"0\r\nX: " + b"y" * 3_000_000, b"1;" + b"x" * 3_000_000, b"0" * 3_000_000],
)
def test_what_follows_headers_is_bounded_too(collector, tail):
    """Trailers, and what chunks may say beside their size."""
    answer = exchange(collector, head(None, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + tail)
    assert answer == b"" or status_of(answer) in (400, 431)


def test_pipelined_requests_are_answered_in_order(collector):
    body = one_span(name="pipelined")
    data = (head(len(body)) + body) * 3 + head(3) + b"\xff\xff\xff" + head(len(body), "Connection: close") + body
    answer = exchange(collector, data)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"200", b"200", b"200", b"400", b"200"]
    assert stored(collector, "pipelined") == 4


def test_a_pipeline_without_end_is_closed(collector):
    before = closed(collector, "pipelined")
    exchange(collector, head(None, path="/healthz", method="GET") * 200_000)
    assert closed(collector, "pipelined") > before


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS to a port without
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 1000,
        head(None, "Content-Length: -1"),
        head(None, "Content-Length: 99999999999999999999999"),
        head(None, "Content-Length: 1_0"),
        head(3, "Content-Length: 4") + b"abcd",
        head(3, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(None, "Transfer-Encoding: chunked") + b"-1\r\n",
        head(None, "Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\n",
        head(None, "Transfer-Encoding: chunked") + b"zz\r\n",
        head(None, "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
        head(None, "Transfer-Encoding: xchunked") + b"0\r\n\r\n",
        head(0, "Bad Name: x"),
        head(0, "X: a\x00b"),
        head(0, " folded: x"),
        head(0, path="/v1/\xff"),
        head(0, method="BREW"),
        head(0, version="9.9"),
    ],
)
def test_what_is_no_http_is_refused(collector, data):
    assert status_of(exchange(collector, data)) == 400


def test_a_chunked_body_of_many_chunks_is_one_body(collector):
    body = one_span(name="chunked")
    chunks = b"".join(b"1;ext=1\r\n%c\r\n" % byte for byte in body)
    data = head(None, "Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\nX-Trailer: y\r\n\r\n"
    assert status_of(exchange(collector, data)) == 200
    assert stored(collector, "chunked") == 1


def test_a_length_that_lies_is_found_out(collector):
    body = one_span(name="lies")
    with connect(collector) as client:
        client.sendall(head(len(body) + 1) + body)
        client.shutdown(socket.SHUT_WR)
        rest_of(client)
    assert status_of(exchange(collector, head(64 * MIB + 1, "Connection: close"))) == 413
    assert stored(collector, "lies") == 0


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_request_that_offers_another_protocol_is_read_as_the_one_that_it_is(collector, pieces):
    """Java's client sends these headers with every request; the parser would leave the body out, and answer 200."""
    name = f"upgrade-{pieces}"
    body = one_span(name=name)
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    last = ("Connection: Upgrade, close", "Upgrade: websocket")
    data = (head(len(body), *offer) + body) * 2 + head(len(body), *last) + body
    with connect(collector) as client:
        for start in range(0, len(data), -(-len(data) // pieces)):
            client.sendall(data[start : start + -(-len(data) // pieces)])
        assert re.findall(rb"HTTP/1\.1 (\d+) ", rest_of(client)) == [b"200"] * 3
    assert stored(collector, name) == 3
    assert status_of(exchange(collector, head(None, method="CONNECT", path="x:1"))) == 400


def test_http_1_0_head_and_options(collector):
    body = one_span(name="old")
    assert status_of(exchange(collector, head(len(body), version="1.0") + body)) == 200
    assert stored(collector, "old") == 1
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
        answer = exchange(collector, head(None, "Connection: close", method=method))
        assert status_of(answer) == 405, method
        assert (method == "HEAD") == answer.endswith(b"\r\n\r\n")
    with connect(collector) as client:
        client.sendall(head(len(body), "Expect: 100-continue", "Connection: close"))
        assert client.recv(65536).startswith(b"HTTP/1.1 100")
        client.sendall(body)
        assert status_of(rest_of(client)) == 200


# --- gone -------------------------------------------------------------------------------------------------------------


def test_clients_that_leave_at_any_stage_leave_nothing_behind(collector):
    body = one_span(attributes={"big": "x" * 300_000})
    data = head(len(body)) + body
    process = psutil.Process(collector.pid)
    before = process.num_fds()
    stages = [0, 1, 20, len(head(len(body))) - 1, len(head(len(body))), len(data) // 2, len(data) - 1, len(data)]
    with somebody_else(collector):
        for how in ("close", "reset", "half"):
            for stage in stages * 10:
                with connect(collector) as client:
                    client.sendall(data[:stage])
                    if how == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif how == "half":
                        client.shutdown(socket.SHUT_WR)
    eventually(lambda: number(collector, "tailsight_http_connections") == 1, "all are gone")
    eventually(lambda: process.num_fds() <= before + 10, "their files are closed")  # some are the journal's
