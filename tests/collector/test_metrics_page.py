import re
import time
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_collector.watch.durations import ACKNOWLEDGEMENT_BOUNDS_S, Durations, timed
from tailsight_collector.watch.metrics import COUNTER, HISTOGRAM, TABLE

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("metrics")) as running:
        yield running


def page_of(collector):
    return httpx.get(f"{collector.otlp_url}/metrics", timeout=30)


def numbers_of(collector):
    """All samples of the page: {name: {sorted labels: value}}."""
    numbers = {}
    for family in text_string_to_metric_families(page_of(collector).text):
        for sample in family.samples:
            numbers.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return numbers


def of(**labels):
    return tuple(sorted(labels.items()))


def test_the_page_tells_what_was_sent(collector):
    before = numbers_of(collector)
    body = request([span(), span(trace_id=b"abc"), span()]).SerializeToString()
    points = metrics_request([metric("hw.power", [point(), point()]), metric("latency", [point()])]).SerializeToString()
    for _ in range(3):
        assert collector.post(body).status_code == 200
    assert collector.post(points, path="/v1/metrics").status_code == 200
    with grpc.insecure_channel(collector.grpc_target) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        assert export(body, timeout=30)
        with pytest.raises(grpc.RpcError):
            export(b"\xff\xff", timeout=30)
    assert collector.post(b"\xff\xff").status_code == 400
    assert collector.post(b"x", {"Content-Type": "text/plain"}).status_code == 415
    collector.wait_until_loaded()
    collector.wait_until_metrics_are_loaded()
    address = collector.store.replace("clickhouse", "http").removesuffix("/tailsight")
    assert httpx.post(address, content="SELECT count() FROM spans", timeout=30).text == "8\n"
    assert httpx.post(address, content="SELECT nonsense", timeout=30).status_code >= 400
    assert httpx.post(address, content="SELECT file('/etc/passwd')", timeout=30).status_code == 403
    numbers = numbers_of(collector)

    def grown(name, **labels):
        return numbers[name][of(**labels)] - before.get(name, {}).get(of(**labels), 0)

    traces, metrics = {"signal": "traces"}, {"signal": "metrics"}
    assert grown("tailsight_requests_total", **traces, protocol="http", status="200") == 3
    assert grown("tailsight_requests_total", **metrics, protocol="http", status="200") == 1
    assert grown("tailsight_requests_total", **traces, protocol="http", status="400") == 1
    assert grown("tailsight_requests_total", **traces, protocol="http", status="415") == 1
    assert grown("tailsight_received_bytes_total", **traces, protocol="http") == 3 * len(body) + 2
    assert grown("tailsight_requests_total", **traces, protocol="grpc", status="200") == 1
    assert grown("tailsight_requests_total", **traces, protocol="grpc", status="400") == 1
    assert grown("tailsight_received_bytes_total", **traces, protocol="grpc") == len(body) + 2
    assert grown("tailsight_accepted_total", **traces) == 8
    assert grown("tailsight_accepted_total", **metrics) == 2
    assert grown("tailsight_rejected_total", **traces, reason="trace_id_length") == 4
    assert grown("tailsight_rejected_total", **metrics, reason="not_a_device_metric") == 1
    assert grown("tailsight_acknowledgement_duration_seconds_count", **traces) == 4
    assert grown("tailsight_acknowledgement_duration_seconds_count", **metrics) == 1
    assert 0 < grown("tailsight_acknowledgement_duration_seconds_sum", **traces) < 30
    assert grown("tailsight_acknowledgement_duration_seconds_bucket", **traces, le="+Inf") == 4
    loaded = grown("tailsight_loaded_segments_total", **traces)
    assert 1 <= loaded <= 4
    assert grown("tailsight_insert_duration_seconds_count", **traces) >= loaded
    assert grown("tailsight_sql_queries_total", outcome="ok") == 1
    assert (
        grown("tailsight_sql_queries_total", outcome="failed") + grown("tailsight_sql_queries_total", outcome="refused")
        == 2
    )
    assert grown("tailsight_sql_query_duration_seconds_count") == 3
    assert numbers["tailsight_journal_bytes"][of(**traces)] == 0
    assert numbers["tailsight_journal_limit_bytes"][of(**traces)] == 8 * 1024**3
    assert numbers["tailsight_quarantined_records"][of(**traces)] == 0
    assert numbers["tailsight_http_connections"][()] >= 1
    assert numbers["process_resident_memory_bytes"][()] > 50e6
    assert numbers["process_open_fds"][()] > 10
    assert abs(numbers["process_start_time_seconds"][()] - time.time()) < 600
    [[labels]] = [list(numbers["tailsight_build_info"])]
    assert dict(labels)["version"] == collector.health()["version"]


def test_a_full_journal_shows_its_depth_and_age(tmp_path):
    """Nothing is loaded while the segment is open: its bytes and its age are there."""
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        body = request([span()]).SerializeToString()
        assert collector.post(body).status_code == 200
        first = numbers_of(collector)
        second = numbers_of(collector)
    signal = of(signal="traces")
    assert first["tailsight_journal_bytes"][signal] >= len(body)
    assert (
        0
        < first["tailsight_journal_oldest_age_seconds"][signal]
        < second["tailsight_journal_oldest_age_seconds"][signal]
    )


def test_the_page_has_prometheus_own_type_or_openmetrics_where_that_is_accepted(collector):
    answer = page_of(collector)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "charset=utf-8" in answer.headers["content-type"]
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{collector.otlp_url}/metrics", headers=accept, timeout=30)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=1.x.y", "text/plain;version=x", ";;q=\u00e9"])
def test_an_odd_accept_gets_the_page_too(collector, accept):
    answer = httpx.get(f"{collector.otlp_url}/metrics", headers={"Accept": accept.encode()})
    assert answer.status_code == 200
    assert "tailsight_build_info" in answer.text


def test_every_metric_of_the_page_is_in_the_table(collector):
    collector.post(b"", PROTOBUF)
    families = {family.name for family in text_string_to_metric_families(page_of(collector).text)}
    ours = {name for name in families if not name.startswith("process_")}
    assert ours == {described.name for described in TABLE}


@pytest.mark.parametrize("described", TABLE, ids=lambda described: described.name)
def test_names_follow_prometheus_rules(described):
    assert re.fullmatch(r"tailsight_[a-z0-9_]+", described.name)
    assert not described.name.endswith("_total")  # it is added
    assert described.help.endswith(".")
    assert not re.search(r"_(ms|ns|kb|mb|milliseconds|ratio)$", described.name)
    if described.kind == HISTOGRAM:
        assert described.name.endswith("_seconds")
    assert len(described.labels) <= 3


@pytest.mark.parametrize("described", TABLE, ids=lambda described: described.name)
def test_every_metric_is_documented(described):
    """`python -m tailsight_collector.watch.metrics` prints the table that belongs there."""
    assert described.documentation in DOCUMENTATION.read_text(encoding="utf-8")


def test_nothing_else_is_documented():
    documented = re.findall(r"^\| `(tailsight_\w+)", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert documented == [described.shown_name for described in TABLE]
    assert any(described.kind == COUNTER for described in TABLE)


def test_a_histogram_counts_in_cumulative_buckets():
    durations = Durations((0.001, 0.01, 1))
    for seconds in (0, 0.001, 0.0011, 0.5, 1, 7):
        durations.observe(seconds)
    assert list(durations.buckets()) == [("0.001", 2), ("0.01", 3), ("1.0", 5), ("+Inf", 6)]
    assert durations.sum_s == pytest.approx(8.5021)


def test_what_fails_is_not_timed():
    def fails(flag):
        if flag:
            raise ConnectionError

    durations = Durations(ACKNOWLEDGEMENT_BOUNDS_S)
    timing = timed(fails, durations)
    timing(False)
    with pytest.raises(ConnectionError):
        timing(True)
    assert list(durations.buckets())[-1] == ("+Inf", 1)
