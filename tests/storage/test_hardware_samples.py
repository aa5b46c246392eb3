"""OTLP metrics into `hardware_samples`, decoded by the database."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from testkit.metrics import metric, metrics_request, point

from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.checks import DAY_NS, YEAR_2000_NS
from tailsight_collector.receive.points import DEVICE_PREFIXES, check_points
from tailsight_storage import DataRefusedError

RECEIVED_NS = time.time_ns()


def insert(store, *requests, token=None, received_ns=None):
    received_ns = received_ns or time.time_ns()
    segment = b"".join(encode_record(each.SerializeToString(), received_ns) for each in requests)
    store.insert_otlp_metrics(segment, token or f"token-{time.time_ns()}")


def count(store):
    return store.rows("SELECT count() FROM hardware_samples")[0][0]


def test_every_column_is_filled(store):
    sampled_ns = time.time_ns() - 10**9
    attributes = {"hw.id": "GPU-1", "hw.type": "gpu", "hw.name": "NVIDIA L4", "gpu.index": 0, "reasons": ["a", "b"]}
    resource = {
        "service.name": "ranker", "service.version": "1.2", "host.name": "h1", "cloud.region": "eu",
        "deployment.environment.name": "prod", "tailsight.run": "r1", "tailsight.hardware": "AMD EPYC", "process.pid": 4711,
    }  # fmt: skip
    sent = metric("hw.power", [point(412.5, time_unix_nano=sampled_ns, attributes=attributes)], unit="W")
    insert(store, metrics_request([sent], resource))
    columns = (
        "toUnixTimestamp64Nano(time), metric, value, unit, kind, service, host, hardware, hw_id, hw_type, run, region, "
        "environment, version, pid, attributes, resource['service.name'], scope_name"
    )
    assert store.rows(f"SELECT {columns} FROM hardware_samples") == [
        (
            sampled_ns, "hw.power", 412.5, "W", "gauge", "ranker", "h1", "NVIDIA L4", "GPU-1", "gpu", "r1", "eu", "prod",
            "1.2", 4711,
            {"hw.id": "GPU-1", "hw.type": "gpu", "hw.name": "NVIDIA L4", "gpu.index": "0", "reasons": '["a","b"]'},
            "ranker", "tests",
        )
    ]  # fmt: skip


def test_ints_and_doubles_gauges_and_sums(store):
    insert(
        store,
        metrics_request(
            [
                metric("hw.a", [point(7), point(-0.5)]),
                metric("hw.b", [point(2**62)], kind="sum"),
                metric("hw.c", [point(1)], kind="sum", monotonic=True),
                metric("hw.d", [point(0)], kind="sum", temporality=1, monotonic=True),
            ]
        ),
    )
    assert store.rows("SELECT metric, value, kind FROM hardware_samples ORDER BY metric, value") == [
        ("hw.a", -0.5, "gauge"), ("hw.a", 7.0, "gauge"), ("hw.b", 2.0**62, "up_down_counter"),
        ("hw.c", 1.0, "counter"), ("hw.d", 0.0, "delta"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        # the device's own model where the sample is about a processor or GPU, else the sender's hardware
        ("hw.gpu.utilization", {"hw.id": "GPU-1", "hw.name": "NVIDIA L4"}, ("GPU-1", "gpu", "NVIDIA L4", "h1")),
        ("hw.gpu.utilization", {"hw.model": "L4", "hw.name": "gpu 0"}, ("", "gpu", "L4", "h1")),
        ("hw.temperature", {"hw.type": "cpu", "hw.name": "AMD EPYC 9575F"}, ("", "cpu", "AMD EPYC 9575F", "h1")),
        ("hw.network.io", {"hw.type": "network", "hw.name": "eth0"}, ("", "network", "NVIDIA H100", "h1")),
        ("process.cpu.utilization", {}, ("", "", "NVIDIA H100", "h1")),
        ("hw.power", {"tailsight.hardware": "TPU"}, ("", "", "TPU", "h1")),
        ("DCGM_FI_DEV_GPU_UTIL", {"UUID": "GPU-2", "modelName": "NVIDIA A10"}, ("GPU-2", "gpu", "NVIDIA A10", "h1")),
        ("nv_gpu_utilization", {"gpu_uuid": "GPU-3"}, ("GPU-3", "gpu", "NVIDIA H100", "h1")),
        ("system.cpu.utilization", {}, ("", "cpu", "NVIDIA H100", "h1")),
    ],
)
def test_whom_a_sample_is_about(store, name, attributes, expected):
    resource = {"host.name": "h1", "tailsight.hardware": "NVIDIA H100"}
    insert(store, metrics_request([metric(name, [point(1.0, attributes=attributes)])], resource))
    assert store.rows("SELECT hw_id, hw_type, hardware, host FROM hardware_samples") == [expected]


def test_dcgms_host_stands_in_for_a_missing_one(store):
    insert(
        store,
        metrics_request([metric("DCGM_FI_DEV_SM_CLOCK", [point(1.0, attributes={"Hostname": "node-7"})])], {"a": "b"}),
    )
    assert store.rows("SELECT host FROM hardware_samples") == [("node-7",)]


def test_the_same_token_again_changes_nothing_also_after_midnight(store):
    received_ns = time.time_ns() - 2 * DAY_NS
    sent = metrics_request([metric("hw.a", [point(1.0, time_unix_nano=received_ns)])])
    for _ in range(3):
        insert(store, sent, token="night", received_ns=received_ns)
    assert store.rows("SELECT count(), any(toDate(received_at) = today() - 2) FROM hardware_samples") == [(1, True)]
    insert(store, sent, token="other", received_ns=received_ns)
    assert count(store) == 2


def test_old_samples_and_any_mix_of_days_stay(store, admin):
    first_ns = 1_500_000_000 * 10**9
    points = [point(1.0, time_unix_nano=first_ns + day * DAY_NS) for day in range(500)]
    insert(store, metrics_request([metric("hw.a", points)]))
    admin.run("OPTIMIZE TABLE hardware_samples FINAL")  # would apply a TTL
    assert store.rows("SELECT count(), uniqExact(toDate(time)) FROM hardware_samples") == [(500, 500)]


NAMES = st.one_of(
    st.sampled_from([f"{prefix}x" for prefix in DEVICE_PREFIXES]),
    st.sampled_from(
        ["hw", "hwx.a", "xhw.a", "HW.a", "http.server.duration", "", "gpu", "systems.x", "a\nhw.x", "\nhw.x"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
TIMES = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([YEAR_2000_NS, RECEIVED_NS + DAY_NS]).flatmap(lambda edge: st.integers(edge - 1, edge + 1)),
    st.just(RECEIVED_NS - 1),
)
VALUES = st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1))
CASES = st.tuples(NAMES, st.sampled_from(["gauge", "sum"]), VALUES, TIMES, st.integers(0, 3))


@settings(max_examples=25, deadline=None)
@given(cases=st.lists(CASES, min_size=1, max_size=30))
def test_the_store_keeps_what_the_collector_says_it_keeps(engine, cases):
    store = engine
    batch = f"batch-{time.time_ns()}"
    metrics = [
        metric(name, [point(value, time_unix_nano=time_ns, flags=flags)], kind=kind)
        for name, kind, value, time_ns, flags in cases
    ]
    request = metrics_request(metrics, {"service.name": batch})
    checked = check_points(request, RECEIVED_NS)
    assert checked.total == len(cases)
    insert(store, request, received_ns=RECEIVED_NS)
    stored = store.rows("SELECT metric, value FROM hardware_samples WHERE service = {batch:String}", batch=batch)
    kept = [
        (name, float(value))
        for (name, _, value, *_), one in zip(cases, metrics, strict=True)
        if not check_points(metrics_request([one]), RECEIVED_NS).rejected
    ]
    assert sorted(stored) == sorted(kept)
    assert len(kept) == checked.total - checked.rejected.total()
    assert all(math.isfinite(value) for _, value in kept)


def test_histograms_and_summaries_are_passed_over(store):
    request = metrics_request([metric("hw.a", [point(1.0)])])
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    metrics.add(name="hw.h").histogram.data_points.add(count=3, bucket_counts=[1, 2], explicit_bounds=[0.5])
    metrics.add(name="hw.e").exponential_histogram.data_points.add(count=3)
    metrics.add(name="hw.s").summary.data_points.add(count=3)
    metrics.add(name="hw.nothing")
    insert(store, request)
    assert store.rows("SELECT metric FROM hardware_samples") == [("hw.a",)]


def test_bytes_that_are_no_otlp_are_refused_as_data(store):
    with pytest.raises(DataRefusedError):
        store.insert_otlp_metrics(b"\x07\xff\xff\xff\xff\xff\xff\xff", "garbage")
    assert count(store) == 0


def test_an_empty_envelope_stores_nothing(store):
    envelope = ExportMetricsServiceRequest()
    envelope.resource_metrics.add()
    insert(store, envelope)
    assert count(store) == 0
