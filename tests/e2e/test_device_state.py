"""From a device to an answer: what the sampler reads is in the store, once, and joins with slow requests."""

import random
import re
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from testkit.metrics import FakeNvml, metric, metrics_request, point
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess, eventually

from tailsight import _otlp
from tailsight._device import DeviceSampler
from tailsight_storage import open_store

METRICS = "/v1/metrics"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "devices.md"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("devices"), "--segment-age", "0.02") as running:
        yield running


def test_what_a_sampler_reads_is_in_the_store_with_its_values(collector, tmp_path):
    nvml = FakeNvml()
    nvml.throttle_bits = 0x20
    resource = {
        "service.name": "sampled", "host.name": socket.gethostname(), "process.pid": 4711, "tailsight.run": "r1",
        "tailsight.hardware": "NVIDIA H100 80GB HBM3",
    }  # fmt: skip
    sampler = DeviceSampler(
        _otlp.resource(resource),
        pid=1,
        nvml=nvml,
        psutil=None,
        environ={"CUDA_VISIBLE_DEVICES": "1"},
        powercap=tmp_path,
    )
    sent: list[bytes] = []

    def sampled() -> bool:
        """Sources rest for a moment after their first reading."""
        sent[:] = [sampler.sample(time.time_ns()) or b""]
        return b"hw.gpu.throttled" in sent[0] and b"system.cpu.utilization" in sent[0]

    eventually(sampled, "everything was read")
    answer = collector.post(sent[0], path=METRICS)
    assert (answer.status_code, answer.content) == (200, b"")
    collector.wait_until_metrics_are_loaded()
    with open_store(collector.store) as store:
        gpu = store.rows(
            "SELECT metric, value, unit, hw_type, hardware, attributes['gpu.index'] FROM hardware_samples "
            "WHERE service = 'sampled' AND hw_id = 'GPU-1' ORDER BY metric"
        )
        l4 = ("gpu", "NVIDIA L4", "0")
        assert [row for row in gpu if row[0] not in ("hw.energy", "hw.errors")] == [
            ("hw.gpu.clock.graphics", 1755.0, "MHz", *l4),
            ("hw.gpu.clock.memory", 2619.0, "MHz", *l4),
            ("hw.gpu.memory.limit", 80.0 * 2**30, "By", *l4),
            ("hw.gpu.memory.usage", 20.0 * 2**30, "By", *l4),
            ("hw.gpu.memory.utilization", 0.25, "1", *l4),
            ("hw.gpu.throttled", 1.0, "1", *l4),
            ("hw.gpu.utilization", 0.84, "1", *l4),
            ("hw.power", 412.345, "W", *l4),
            ("hw.temperature", 67.0, "Cel", *l4),
        ]
        [(reasons, kind, run, pid)] = store.rows(
            "SELECT attributes['hw.gpu.throttle_reasons'], kind, run, pid FROM hardware_samples "
            "WHERE service = 'sampled' AND metric = 'hw.gpu.throttled'"
        )
        assert (reasons, kind, run, pid) == ('["sw_thermal_slowdown"]', "gauge", "r1", 4711)
        [(busy,)] = store.rows(
            "SELECT value FROM hardware_samples WHERE service = 'sampled' AND metric = 'system.cpu.utilization'"
        )
        assert 0 <= busy <= 1


def test_the_documented_question_finds_the_slow_request_on_a_throttled_gpu(collector):
    """docs/devices.md's SQL, through the collector's read-only port."""
    now_ns = time.time_ns()
    spans = [
        span(trace_id=(number + 1).to_bytes(16), start_time_unix_nano=now_ns - age_ns, end_time_unix_nano=now_ns - age_ns + long_ns)
        for number, (age_ns, long_ns) in enumerate([(60 * 10**9, 3 * 10**8), (30 * 10**9, 3 * 10**8), (60 * 10**9, 10**6)])
    ]  # fmt: skip
    resource = {"service.name": "documented", "host.name": "h1"}
    throttled = point(
        1, time_unix_nano=now_ns - 60 * 10**9, attributes={"hw.gpu.throttle_reasons": ["hw_thermal_slowdown"]}
    )
    fine = point(0, time_unix_nano=now_ns - 30 * 10**9)
    sent = metrics_request([metric("hw.gpu.throttled", [throttled, fine])], resource)
    assert collector.post(request(spans, resource).SerializeToString()).status_code == 200
    assert collector.post(sent.SerializeToString(), path=METRICS).status_code == 200
    collector.wait_until_loaded()
    collector.wait_until_metrics_are_loaded()
    match = re.search(r"```sql\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert match
    with open_store(collector.store) as store:
        rows = [row for row in store.rows(match[1]) if row[0] in {f"{number + 1:032x}" for number in range(3)}]
    assert rows == [(f"{1:032x}", 300.0, ['["hw_thermal_slowdown"]'])]


def test_metrics_survive_a_kill_between_acknowledgement_and_load(tmp_path):
    """kill -9 right after the 200, twice; nothing is lost and nothing is there twice."""
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        for number in range(2):
            points = [point(float(number * 100 + each)) for each in range(100)]
            sent = metrics_request([metric("hw.power", points)], {"service.name": "survivor"})
            assert collector.post(sent.SerializeToString(), path=METRICS).status_code == 200
            collector.kill()
            assert len(list((tmp_path / "journal" / "metrics").glob("2*.open"))) == 1  # not loaded yet
            collector.start()
            collector.wait_until_metrics_are_loaded()
        with open_store(collector.store) as store:
            values = store.rows("SELECT value FROM hardware_samples WHERE service = 'survivor' ORDER BY value")
        assert [value for (value,) in values] == [float(number) for number in range(200)]


def test_metrics_survive_kills_at_any_moment_of_receiving_and_loading(tmp_path):
    moments = random.Random(1)
    acknowledged: list[float] = []
    in_doubt: list[float] = []
    with CollectorProcess(tmp_path, "--segment-age", "0.01") as collector:
        for round_number in range(3):
            sent_enough, killed = threading.Event(), threading.Event()

            def send(round_number=round_number, sent_enough=sent_enough, killed=killed):
                with httpx.Client(timeout=10) as client:
                    for number in range(2000):
                        values = [float((round_number * 2000 + number) * 20 + each) for each in range(20)]
                        sent = metrics_request([metric("hw.power", map(point, values))], {"service.name": "killed"})
                        try:
                            answer = client.post(
                                f"{collector.otlp_url}{METRICS}", content=sent.SerializeToString(), headers=PROTOBUF
                            )
                        except httpx.TransportError:
                            in_doubt.extend(values)  # no answer: the collector may or may not have it
                            break
                        assert answer.status_code == 200
                        acknowledged.extend(values)
                        if number == 20:
                            sent_enough.set()
                assert killed.wait(30)

            sender = threading.Thread(target=send)
            sender.start()
            assert sent_enough.wait(30)
            threading.Event().wait(moments.random() * 0.15)  # a random moment: in journal, insert or delete
            collector.kill()
            killed.set()
            sender.join()
            collector.start()
        collector.wait_until_metrics_are_loaded()
        with open_store(collector.store) as store:
            stored = [value for (value,) in store.rows("SELECT value FROM hardware_samples WHERE service = 'killed'")]
    assert len(set(stored)) == len(stored), "a sample is there twice"
    assert set(acknowledged) <= set(stored), "an acknowledged sample is lost"
    assert set(stored) <= set(acknowledged) | set(in_doubt)


def test_a_clean_end_loads_the_metrics_too(tmp_path):
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        sent = metrics_request([metric("hw.power", [point(1.0)])], {"service.name": "ended"})
        assert collector.post(sent.SerializeToString(), path=METRICS).status_code == 200
        assert collector.stop() == 0
        assert list((tmp_path / "journal" / "metrics").glob("2*")) == []
        collector.start()
        with open_store(collector.store) as store:
            assert store.rows("SELECT count() FROM hardware_samples WHERE service = 'ended'") == [(1,)]
