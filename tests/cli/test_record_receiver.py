"""What `tailsight record` hears: OpenTelemetry's own exporters, and clients of every other kind."""

import gzip
import json
from pathlib import Path

import httpx
import pytest
from testkit import otlp
from testkit.recordings import names_in, python, spans_in

from tailsight_cli.recording.messages import messages_in, pieces_of
from tailsight_cli.recording.receiver import Receiver, receiver
from tailsight_cli.recording.run_file import read_header
from tailsight_collector.settings import DEFAULT_MAX_REQUEST_BYTES

EXPORTING = """
import opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter as otlp
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(otlp.OTLPSpanExporter({arguments})))
tracer = provider.get_tracer("program")
for number in range(10):
    with tracer.start_as_current_span("serve"), tracer.start_as_current_span("query"):
        pass
provider.shutdown()
"""
PROTOBUF = {"Content-Type": "application/x-protobuf"}
REQUEST = otlp.request([otlp.span(name="a"), otlp.span(name="b")]).SerializeToString()
JSON_REQUEST = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "0" * 31 + "1",
                            "spanId": "0" * 15 + "1",
                            "name": "c",
                            "startTimeUnixNano": "1795378734160105688",
                            "endTimeUnixNano": "1795378734160105689",
                        }
                    ]
                }
            ]
        }
    ]
}


@pytest.fixture
def tailsight(record):
    """Record a Python program; gives exit code, stdout, stderr."""
    return lambda program, *options: record("-o", "a.otlp.zst", *options, "--", *python(program))


@pytest.fixture(scope="module")
def listening(tmp_path_factory):
    """A receiver, and the file that it writes."""
    path = tmp_path_factory.mktemp("receiver") / "received.otlp"
    with receiver(path) as running:
        yield running, path


def test_opentelemetrys_own_sdk_is_recorded(tailsight, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    code, _, err = tailsight(EXPORTING.format(protocol="http", arguments=""))
    assert (code, "wrote a.otlp.zst: 1 run, 10 requests, 20 spans" in err) == (0, True)
    path = Path("a.otlp.zst")
    assert names_in(path) == {"serve": 10, "query": 10}
    assert {span.resource["tailsight.run"] for span in spans_in(path)} == {"a"}
    (service,) = read_header(path).services
    assert service.sdk.startswith("opentelemetry python 1.")


def test_a_client_of_grpc_is_named_as_the_reason_for_an_empty_recording(tailsight):
    code, _, err = tailsight(EXPORTING.format(protocol="grpc", arguments="insecure=True, timeout=2"))
    assert code == 3
    assert "sent something else than OTLP over HTTP (gRPC, most likely)" in err.splitlines()[-1]
    assert list(Path().iterdir()) == []


def post(listening: tuple[Receiver, Path], path: str, **options: object) -> tuple[int, list[bytes]]:
    """Send a request; gives the status, and the requests that were written down for it."""
    running, written = listening
    before = len(list(messages_in(pieces_of(written)))) if written.exists() else 0
    answer = httpx.post(running.url + path, **options)
    return answer.status_code, list(messages_in(pieces_of(written)))[before:] if written.exists() else []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(REQUEST, PROTOBUF, id="protobuf"),
        pytest.param(gzip.compress(REQUEST), {**PROTOBUF, "Content-Encoding": "gzip"}, id="gzip"),
    ],
)
def test_a_request_is_written_down_as_it_came(listening, body, headers):
    assert post(listening, "/v1/traces", content=body, headers=headers) == (200, [REQUEST])


def test_a_request_in_json_is_written_down_in_protobuf(listening):
    status, (message,) = post(listening, "/v1/traces", json=JSON_REQUEST)
    assert status == 200
    (resource_spans,) = type(otlp.request([])).FromString(message).resource_spans
    assert resource_spans.scope_spans[0].spans[0].name == "c"


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs"])
def test_metrics_and_logs_are_taken_and_left_out(listening, path):
    assert post(listening, path, content=b"", headers=PROTOBUF) == (200, [])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"\xff" * 10, PROTOBUF, 400, id="no protobuf"),
        pytest.param(
            json.dumps({"resourceSpans": 3}).encode(), {"Content-Type": "application/json"}, 400, id="no OTLP"
        ),
        pytest.param(b"x", {"Content-Type": "text/plain"}, 415, id="other type"),
        pytest.param(
            gzip.compress(bytes(DEFAULT_MAX_REQUEST_BYTES + 1)),
            {**PROTOBUF, "Content-Encoding": "gzip"},
            413,
            id="bomb",
        ),
        pytest.param(REQUEST, {**PROTOBUF, "Host": "attacker.example"}, 403, id="name of another"),
    ],
)
def test_what_is_refused_is_counted_and_not_written(listening, body, headers, status):
    running, _ = listening
    before = running.refused_requests[status]
    assert post(listening, "/v1/traces", content=body, headers=headers) == (status, [])
    assert running.refused_requests[status] == before + 1


def test_only_this_machine_reaches_the_receiver(listening):
    running, _ = listening
    assert running.url.startswith("http://127.0.0.1:")


def test_a_full_disk_is_the_clients_to_try_again(tmp_path):
    folder = tmp_path / "no folder"
    folder.write_text("a file")
    with receiver(folder / "received.otlp") as running:
        answer = httpx.post(f"{running.url}/v1/traces", content=REQUEST, headers=PROTOBUF)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_a_failed_client_of_grpc_keeps_its_exit_code(tailsight):
    program = EXPORTING.format(protocol="grpc", arguments="insecure=True, timeout=1") + "\nraise SystemExit(7)\n"
    code, _, err = tailsight(program)
    assert code == 7
    assert "ended with 7 (a): nothing is written" in err.splitlines()[-1]
