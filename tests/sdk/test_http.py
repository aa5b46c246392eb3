"""The HTTP client against collectors that answer oddly: raw sockets, because a server would not."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailsight import _sidecar_devices
from tailsight._answer import Answer, Unreachable
from tailsight._http import Collector
from tailsight._options import resolve
from tailsight._sidecar_devices import Devices

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Says = Callable[[socket.socket], object]


class Odd:
    """Reads requests as a server does, and lets a function answer each."""

    def __init__(self, says: bytes | Says, *, tls: ssl.SSLContext | None = None) -> None:
        self.bodies: list[bytes] = []
        self.connections = 0
        self._says = says
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection.makefile("rb") as lines:
                while lines.readline():
                    length = 0
                    while line := lines.readline().strip():
                        name, _, value = line.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                    self.bodies.append(lines.read(length))
                    if callable(self._says):
                        self._says(connection)
                    else:
                        connection.sendall(self._says)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for connection in self._open:
            connection.close()


@contextlib.contextmanager
def odd(says: bytes | Says, *, timeout_s: float = 5.0, **options: Any) -> Iterator[tuple[Odd, Collector]]:
    server = Odd(says, **options)
    scheme = "https" if options.get("tls") else "http"
    url = f"{scheme}://localhost:{server.port}/v1/traces"
    client = Collector(url, headers={}, compression="none", timeout_s=timeout_s)
    try:
        yield server, client
    finally:
        client.close()
        server.close()


def drip(content: bytes, every_s: float = 0.05) -> Says:
    """Send a byte at a time, without end."""

    def say(connection: socket.socket) -> None:
        connection.sendall(content)
        while True:
            connection.sendall(b"x")
            time.sleep(every_s)

    return say


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    ],
)
def test_garbage_is_no_answer_and_the_next_request_has_a_new_connection(garbage: bytes) -> None:
    answers = [garbage, OK]
    with odd(lambda connection: connection.sendall(answers.pop(0))) as (server, client):
        with pytest.raises(Unreachable):
            client.post(b"1")
        assert client.post(b"2").accepted
        assert server.connections == 2


def test_whatever_is_raised_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with odd(OK) as (server, client):

        def fail(*args: object) -> None:
            raise RuntimeError("odd")

        with monkeypatch.context() as patched:
            patched.setattr("http.client.HTTPResponse.read", fail)
            with pytest.raises(Unreachable, match="odd"):
                client.post(b"1")
        assert client.post(b"2").accepted
        assert server.connections == 2


def test_interim_answers_are_passed_over_and_the_connection_is_kept() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    processing = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    with odd(hints + processing + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as (server, client):
        for _ in range(2):
            answer = client.post(b"1")
            assert (answer.status, answer.accepted, answer.body) == ("200", True, b"abc")
        assert server.connections == 1


def test_interim_answers_without_end_are_no_answer() -> None:
    def say(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    with odd(say, timeout_s=20) as (_, client), pytest.raises(Unreachable, match="one interim answer after the other"):
        client.post(b"1")


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n",
    ],
    ids=["status", "header", "body", "chunk"],
)
def test_an_answer_that_drips_is_over_at_the_timeout(begin: bytes) -> None:
    with odd(drip(begin), timeout_s=0.4) as (_, client):
        began = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            client.post(b"1")
        assert 0.3 < time.monotonic() - began < 3


def test_a_collector_that_does_not_read_is_given_up_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Collector(
            f"http://127.0.0.1:{listener.getsockname()[1]}/", headers={}, compression="none", timeout_s=0.4
        )
        began = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            client.post(bytes(64 * 1024 * 1024))
        assert time.monotonic() - began < 3


def test_a_collector_that_reads_slowly_is_given_up_at_the_timeout() -> None:
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read() -> None:
            with listener.accept()[0] as connection:
                while not ended.wait(0.05) and connection.recv(256 * 1024):
                    pass

        thread = threading.Thread(target=read)
        thread.start()
        client = Collector(
            f"http://127.0.0.1:{listener.getsockname()[1]}/", headers={}, compression="none", timeout_s=0.5
        )
        began = time.monotonic()
        try:
            with pytest.raises(Unreachable, match="timed out"):
                client.post(bytes(64 * 1024 * 1024))
            assert time.monotonic() - began < 3
        finally:
            ended.set()
            thread.join(10)


def test_each_request_has_the_whole_timeout_on_a_connection_that_is_kept() -> None:
    def say(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(OK)

    with odd(say, timeout_s=0.8) as (server, client):
        for _ in range(4):
            assert client.post(b"1").accepted
        assert server.connections == 1


def test_headers_without_end_are_no_answer() -> None:
    def say(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 102 Processing\r\na: " + b"x" * 60_000 + b"\r\n\r\n")

    with odd(say, timeout_s=20) as (_, client), pytest.raises(Unreachable, match="does not end"):
        client.post(b"1")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_has_the_same_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with odd(OK, tls=tls) as (_, stranger), pytest.raises(Unreachable, match=r"(?i)certificate"):
        stranger.post(b"1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with odd(OK, tls=tls) as (server, client):
        for _ in range(2):
            assert client.post(b"1" * 100_000).accepted
        assert server.connections == 1
        assert server.bodies == [b"1" * 100_000] * 2
    with odd(drip(b"HTTP/1.1 200 OK\r\n"), tls=tls, timeout_s=0.5) as (_, client):
        began = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            client.post(b"1")
        assert time.monotonic() - began < 3


def test_slow_answers_to_samples_take_a_small_part_of_the_sidecars_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    posts: list[float] = []

    class Slow:
        def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
            posts.append(clock[0])
            clock[0] += 2.0
            raise Unreachable("timed out")

    class Sampler:
        def sample(self, unix_ns: int) -> bytes:
            return b"sample"

    monkeypatch.setattr(_sidecar_devices.time, "monotonic", lambda: clock[0])
    devices = Devices(resolve({}, {"TAILSIGHT_DEVICE_INTERVAL_S": "1"}), 1, b"")
    devices._collector, devices._sampler = Slow(), Sampler()  # type: ignore[assignment]
    while clock[0] < 300:
        devices.sample(clock[0], away=False)
        clock[0] += 0.5
    assert 5 <= len(posts) <= 11
