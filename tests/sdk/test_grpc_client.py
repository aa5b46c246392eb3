"""OTLP over gRPC: the client against a real server on loopback, and the sidecar that is the only one to use it."""

import contextlib
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from sdk.fake_collector import attributes_of, fake_collector
from sdk.fake_grpc_collector import METRICS, TRACES, FakeGrpcCollector, GrpcReply, fake_grpc_collector

import tailsight
from tailsight import _collectors, _otlp, _runtime, _sidecar_start, _wire
from tailsight import attributes as keys
from tailsight._answer import Unreachable
from tailsight._batches import Batcher, Counts
from tailsight._grpc import GrpcCollector, retry_info_s
from tailsight._options import resolve

QUICK: dict[str, Any] = {"send_interval_s": 0.02, "retry_initial_s": 0.02, "retry_max_s": 0.05}


@pytest.fixture
def server() -> Iterator[FakeGrpcCollector]:
    with fake_grpc_collector() as collector:
        yield collector


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "sidecar")
    yield
    tailsight.shutdown(timeout=5)
    assert eventually(lambda: not list((tmp_path / "run").glob("*")))


@contextlib.contextmanager
def client(url: str, **options: Any) -> Iterator[GrpcCollector]:
    defaults: dict[str, Any] = {"headers": {}, "compression": "none", "timeout_s": 5}
    with contextlib.closing(GrpcCollector(url, **(defaults | options))) as made:
        yield made


def eventually(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Poll for what another process does: there is no event of its that could be awaited."""
    until = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def configure(endpoint: str, **options: Any) -> None:
    tailsight.configure(service="ranker", protocol="grpc", endpoint=endpoint, **(QUICK | options))


def requests(count: int, name: str = "rank") -> None:
    for _ in range(count):
        with tailsight.request(name), tailsight.stage("compute") as s:
            s.set("tokens", 7)


@contextlib.contextmanager
def recorded(port: int) -> Iterator[tuple[str, bytearray]]:
    """Stand between client and server, and keep what the client says."""
    said = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, sink: socket.socket, keep: bytearray | None) -> None:
            with contextlib.suppress(OSError):
                while chunk := source.recv(65536):
                    if keep is not None:
                        keep += chunk
                    sink.sendall(chunk)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def accept() -> None:
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                back = threading.Thread(target=pump, args=(far, near, None))
                back.start()
                pump(near, far, said)
                back.join()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", said
        thread.join(20)


# --- the client -------------------------------------------------------------------------------------------------------


def test_the_bytes_go_through_as_they_are_to_the_service_that_otlp_names(server: FakeGrpcCollector) -> None:
    server.replies = [GrpcReply(body=b"\x0a\x02\x08\x03")]
    body = bytes(range(256)) * 1000
    with client(server.url) as collector:
        answer = collector.post(body)
    assert (answer.status, answer.accepted, answer.body) == ("OK", True, b"\x0a\x02\x08\x03")
    (call,) = server.calls
    assert (call.method, call.body) == (TRACES, body)


def test_headers_become_metadata_and_what_grpc_does_not_allow_is_left_out_and_logged(
    server: FakeGrpcCollector, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {
        "authorization": "Bearer s3cret",
        "x-raw-bin": "any bytes",
        "x!odd": "name",
        "x-tab": "s3\tcret",
        "content-type": "application/x-protobuf",
        "user-agent": "mine",
    }
    with client(server.url, headers=headers) as collector:
        assert collector.post(b"x").accepted
    metadata = server.calls[0].metadata
    assert metadata["authorization"] == "Bearer s3cret"
    assert metadata["x-raw-bin"] == b"any bytes"
    assert str(metadata["user-agent"]).startswith("tailsight-python/")
    assert not {"x!odd", "x-tab"} & metadata.keys()
    assert [re.sub("header (.*) is not sent.*", r"\1", record.getMessage()) for record in caplog.records] == [
        "tailsight: x!odd",
        "tailsight: x-tab",
    ]
    assert "cret" not in caplog.text


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_gzip_is_used_when_asked_for(server: FakeGrpcCollector, compression: str) -> None:
    body = b"a span " * 1000
    with recorded(server.port) as (url, said):
        with client(url, compression=compression) as collector:
            assert collector.post(body).accepted
        assert server.calls[0].body == body
    gzipped = re.search(rb"\x01.{4}\x1f\x8b", bytes(said), re.DOTALL)  # gRPC's flag, its length, gzip's magic number
    assert bool(gzipped) == (compression == "gzip")
    assert (len(said) < len(body)) == (compression == "gzip")


def test_one_connection_is_kept_also_over_refusals(server: FakeGrpcCollector) -> None:
    server.replies = [GrpcReply(), GrpcReply("INTERNAL"), GrpcReply()]
    with client(server.url) as collector:
        for _ in range(3):
            collector.post(b"x")
    assert len({call.connection for call in server.calls}) == 1


def test_nobody_there_is_unreachable_at_once(server: FakeGrpcCollector) -> None:
    server.close()
    with client(server.url, timeout_s=60) as collector, pytest.raises(Unreachable, match=r"UNAVAILABLE: .*refused"):
        collector.post(b"x")


def test_a_server_that_restarts_is_reached_at_the_next_attempt(server: FakeGrpcCollector) -> None:
    with client(server.url) as collector, client(server.url) as another:  # as the sidecar has one for metrics
        assert another.post(b"0").accepted
        assert collector.post(b"1").accepted
        server.close()
        for _ in range(5):  # grpcio's own backoff would grow with each, to two minutes
            with pytest.raises(Unreachable):
                collector.post(b"2")
        with fake_grpc_collector(f"127.0.0.1:{server.port}") as again:
            assert collector.post(b"3").accepted
            assert [call.body for call in again.calls] == [b"3"]


@pytest.mark.parametrize(("configured_s", "asked_s"), [(0.1, None), (60, 0.1), (0.1, 60)])
def test_a_server_that_does_not_answer_is_waited_for_as_long_as_the_shorter_timeout_says(
    server: FakeGrpcCollector, configured_s: float, asked_s: float | None
) -> None:
    server.gate = threading.Event()
    with client(server.url, timeout_s=configured_s) as collector:
        with pytest.raises(Unreachable, match="DEADLINE_EXCEEDED"):
            collector.post(b"x", timeout_s=asked_s)
        server.gate.set()
        assert collector.post(b"y", timeout_s=5 if configured_s > 1 else None).accepted


def test_a_proxy_in_the_environment_is_not_used_as_with_http(
    server: FakeGrpcCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with client(server.url) as collector:
        assert collector.post(b"x").accepted


def test_a_server_that_speaks_http_only_is_unreachable() -> None:
    with fake_collector() as http, client(http.url) as collector, pytest.raises(Unreachable, match="UNAVAILABLE"):
        collector.post(b"x")


def test_an_ipv6_address_is_reached() -> None:
    try:
        server = FakeGrpcCollector("[::1]:0")
    except RuntimeError:
        pytest.skip("no IPv6 on this machine")
    with contextlib.closing(server), client(f"http://[::1]:{server.port}") as collector:
        assert collector.post(b"x").accepted


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_is_tls_with_the_certificates_that_python_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
            f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
        ).split(),
        check=True,
        capture_output=True,
    )
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    with fake_grpc_collector("localhost:0", credentials) as server:
        url = f"https://localhost:{server.port}"
        with client(url) as stranger, pytest.raises(Unreachable, match=r"(?i)certificate|handshake|ssl"):
            stranger.post(b"x")
        monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ssl.get_default_verify_paths().cafile == str(certificate)
        with client(url) as collector:
            assert collector.post(b"x").accepted


# --- RetryInfo --------------------------------------------------------------------------------------------------------


def status_with(*details: Any) -> bytes:
    packed = [AnyMessage() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    return Status(code=8, message="slow down", details=packed).SerializeToString()


@given(st.integers(-(2**40), 2**40), st.integers(-999_999_999, 999_999_999))
def test_a_retry_info_is_read_as_protobuf_wrote_it(seconds: int, nanos: int) -> None:
    status = status_with(
        Status(message="another detail"), RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))
    )
    expected = seconds + nanos / 1e9 if seconds >= 0 and nanos >= 0 else 0
    assert retry_info_s(status) == pytest.approx(expected)


def test_a_retry_info_without_a_delay_is_one_all_the_same() -> None:
    assert retry_info_s(status_with(RetryInfo())) == 0
    assert retry_info_s(status_with()) is None
    assert retry_info_s(status_with(Status())) is None
    assert retry_info_s(None) is None
    assert retry_info_s("text") is None


@given(st.binary(max_size=200))
def test_no_trailer_makes_reading_it_fail(noise: bytes) -> None:
    for status in (noise, b"\x1a" + _wire.varint(len(noise)) + noise, status_with(RetryInfo())[:-3] + noise):
        delay = retry_info_s(status)
        assert delay is None or delay >= 0


# --- the options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "http://127.0.0.1:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4317/"}, "https://c:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c"}, "https://c"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, "http://t"),
        ({"TAILSIGHT_ENDPOINT": "c:1"}, "http://c:1"),
        ({"TAILSIGHT_ENDPOINT": "c"}, "http://c:4317"),
        ({"TAILSIGHT_ENDPOINT": "[::1]:5"}, "http://[::1]:5"),
        ({"TAILSIGHT_ENDPOINT": "http://c:4317/v1/traces"}, "http://c:4317"),
    ],
)
def test_the_endpoint_of_grpc_has_a_host_and_a_port_and_no_path(environ: dict[str, str], endpoint: str) -> None:
    settings = resolve({}, {"TAILSIGHT_PROTOCOL": "grpc", **environ})
    assert (settings.protocol, settings.endpoint) == ("grpc", endpoint)


@pytest.mark.parametrize("value", ["unix:/run/x", "ftp://c", "http://u:p@c", 4317, "c:99999"])
def test_a_wrong_endpoint_of_grpc_is_one_line_and_the_default(value: object, caplog: pytest.LogCaptureFixture) -> None:
    assert resolve({"protocol": "grpc", "endpoint": value}, {}).endpoint == "http://127.0.0.1:4317"
    assert len(caplog.records) == 1


def test_the_protocol_comes_from_our_variable_over_opentelemetrys() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert resolve({}, environ).protocol == "grpc"
    environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    assert resolve({}, environ).protocol == "http/protobuf"
    environ["TAILSIGHT_PROTOCOL"] = "GRPC"
    assert resolve({}, environ).protocol == "grpc"
    assert resolve({"protocol": "http/protobuf"}, environ) == resolve({}, {})


def test_http_json_is_refused_in_one_line_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}) == resolve({}, {})
    (line,) = [record.getMessage() for record in caplog.records]
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is ignored: expected one of http/protobuf, grpc, got 'http/json'" in line


@pytest.mark.parametrize(
    ("endpoint", "instead"),
    [
        ("http://127.0.0.1:4317", "http://127.0.0.1:4318/v1/traces"),
        ("https://c:4317", "https://c:4318/v1/traces"),
        ("https://c", "https://c/v1/traces"),
        ("http://c:9999", "http://c:9999/v1/traces"),
        ("http://[::1]:4317", "http://[::1]:4318/v1/traces"),
    ],
)
def test_a_service_is_never_given_grpc_but_http_beside_it(
    endpoint: str, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = resolve({"protocol": "grpc", "endpoint": endpoint}, {})
    for _ in range(2):
        here = _collectors.usable(settings, in_sidecar=False)
    assert (here.protocol, here.endpoint) == ("http/protobuf", instead)
    (line,) = [record.getMessage() for record in caplog.records]
    assert (
        f"protocol=grpc is not possible: it takes transport=sidecar, since grpcio may hang a service that forks. Spans go to {instead} by http/protobuf instead"
        in line
    )
    assert _collectors.usable(settings, in_sidecar=True) is settings


# --- through the sidecar ----------------------------------------------------------------------------------------------


def test_spans_go_through_the_sidecar_over_grpc(server: FakeGrpcCollector, sidecar: None) -> None:
    configure(server.url, headers={"X-Tenant": "search"}, compression="gzip")
    requests(50)
    assert tailsight.flush(20)
    assert len(server.spans) == 100
    assert server.received[0].metadata["x-tenant"] == "search"
    assert len({call.connection for call in server.received}) == 1
    assert tailsight.stats().sent == 100
    assert tailsight.stats().transport == "sidecar"
    tailsight.shutdown(timeout=5)
    last = ExportTraceServiceRequest.FromString(server.received[-1].body)
    assert attributes_of(last.resource_spans[0].scope_spans[0].scope)[keys.SENDER_LAST] is True
    assert tailsight.stats().internal_errors == 0


def test_what_goes_over_grpc_is_what_goes_over_http_byte_by_byte(server: FakeGrpcCollector) -> None:
    batcher = Batcher(
        lambda: _otlp.resource({"service.name": "ranker"}),
        {},
        counts=lambda: Counts(0, {}, {}, {}),
        drop=lambda spans: pytest.fail("dropped"),
    )
    packed: list[bytes] = []
    tailsight.configure(transport="thread")
    recorder = _runtime._runtime.recorder
    assert recorder is not None
    recorder.push = lambda lot, spans: packed.append(lot)
    requests(3)
    for lot in packed:
        batcher.add(lot)
    batches = batcher.take(last=True)
    with fake_collector() as http:
        for protocol, endpoint in (("grpc", server.url), ("http/protobuf", http.url)):
            settings = resolve({"protocol": protocol, "endpoint": endpoint}, {})
            with contextlib.closing(_collectors.for_traces(settings)) as collector:
                assert all(collector.post(batch.body).accepted for batch in batches)
        assert len(server.spans) == 6
        assert [call.body for call in server.received] == [received.body for received in http.received]


def test_a_partial_success_over_grpc_gets_one_attempt_a_warning_and_a_count(
    server: FakeGrpcCollector, sidecar: None, caplog: pytest.LogCaptureFixture
) -> None:
    said = ExportTracePartialSuccess(rejected_spans=1, error_message="ids too short")
    server.replies = [GrpcReply(body=ExportTraceServiceResponse(partial_success=said).SerializeToString())]
    configure(server.url)
    for attempts in (1, 2):
        requests(1)
        assert tailsight.flush(20)
        assert len(server.received) == attempts
    tailsight.shutdown()
    assert tailsight.stats().dropped == {"rejected": 1}
    assert tailsight.stats().sent == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "rejected 1 of 2 spans: ids too short" in line


def test_what_a_server_that_is_away_misses_waits_in_the_spool_and_comes_in_order(
    server: FakeGrpcCollector, sidecar: None, tmp_path: Path
) -> None:
    configure(server.url)
    requests(5, "before")
    assert tailsight.flush(20)
    server.close()
    for turn in range(4):
        requests(5, f"during {turn}")
        assert not tailsight.flush(0.1)
    assert eventually(lambda: tailsight.stats().spooled_bytes > 0)
    assert list((tmp_path / "spool").glob("*/*.otlp"))
    with fake_grpc_collector(f"127.0.0.1:{server.port}") as again:
        assert tailsight.flush(20)
        names = [span.name for span in again.spans if span.name != "compute"]
        assert names == [f"during {turn}" for turn in range(4) for _ in range(5)]
        assert tailsight.stats().dropped == {}
        assert tailsight.stats().spooled_bytes == 0
        tailsight.shutdown(timeout=5)
    assert list((tmp_path / "spool").glob("*/*.otlp")) == []


def test_a_server_that_hangs_does_not_keep_the_service_from_ending(
    server: FakeGrpcCollector, sidecar: None, tmp_path: Path
) -> None:
    server.gate = threading.Event()
    configure(server.url, timeout_s=0.2)
    requests(1)
    server.wait_for(1)
    began = time.monotonic()
    tailsight.shutdown(timeout=0.5)
    assert time.monotonic() - began < 5
    assert eventually(lambda: not list((tmp_path / "run").glob("*")))
    assert list((tmp_path / "spool").glob("*/*.otlp")), "what nobody took is on disk"


def test_device_metrics_go_over_grpc_as_well(server: FakeGrpcCollector, sidecar: None) -> None:
    configure(server.url, device_interval_s=0.05)
    requests(1)
    server.wait_for(2, METRICS)
    message = ExportMetricsServiceRequest.FromString(server.of(METRICS)[-1].body)
    names = {metric.name for metric in message.resource_metrics[0].scope_metrics[0].metrics}
    assert "system.memory.usage" in names


def test_a_server_without_a_metrics_service_is_asked_once(server: FakeGrpcCollector, sidecar: None) -> None:
    server.metrics_reply = GrpcReply("UNIMPLEMENTED")
    configure(server.url, device_interval_s=0.02)
    for _ in range(10):
        requests(1)
        assert tailsight.flush(20)
    server.wait_for(1, METRICS)
    assert eventually(lambda: len(server.received) >= 10)
    requests(1)
    assert tailsight.flush(20)
    assert len(server.of(METRICS)) == 1


def test_without_grpcio_the_sidecar_sends_http_and_says_so(
    sidecar: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare = tmp_path / "python_without_grpcio.py"
    bare.write_text(
        f"import runpy, sys\nsys.modules['grpc'] = None\nrunpy.run_path({str(_sidecar_start.MAIN)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(_sidecar_start, "MAIN", bare)
    with fake_collector() as http:
        configure(http.url, device_interval_s=0.02)
        requests(3)
        assert tailsight.flush(20)
        assert len(http.spans) == 6
        assert eventually(lambda: any(received.path == "/v1/metrics" for received in http.received))
        tailsight.shutdown(timeout=5)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "protocol=grpc is not possible: grpcio cannot be imported" in line
    assert "pip install 'tailsight[grpc]'" in line
    assert f"Spans go to {http.url}/v1/traces by http/protobuf instead" in line


FORKS = """
    import os, sys, threading
    import tailsight

    def work(name):
        for _ in range(300):
            with tailsight.request(name):
                pass

    thread = threading.Thread(target=work, args=("parents",))
    thread.start()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            work("childs")
            sent = tailsight.flush(20)
            os._exit(0 if sent and "grpc" not in sys.modules else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert tailsight.flush(20)
    assert "grpc" not in sys.modules
    print(tailsight.stats().sent, tailsight.stats().transport)
"""


@pytest.mark.parametrize("transport", ["sidecar", "thread"])
def test_a_service_that_forks_while_it_sends_never_hangs_since_it_never_imports_grpcio(
    server: FakeGrpcCollector, transport: str
) -> None:
    with fake_collector() as http:
        collector: Any = server if transport == "sidecar" else http  # beside the thread there is HTTP only
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FORKS)],
            env={
                **os.environ,
                "TAILSIGHT_TRANSPORT": transport,
                "TAILSIGHT_PROTOCOL": "grpc",
                "TAILSIGHT_ENDPOINT": collector.url,
                "TAILSIGHT_SEND_INTERVAL_S": "0.001",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == ["300", transport]
        assert len(collector.spans) == 6 * 300
        assert ("grpcio may hang" in done.stderr) == (transport == "thread")
