"""The device sampler, with /proc, RAPL and NVML as other machines have them. NVML is a fake: no GPU was at hand."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from testkit.metrics import GPU_IS_LOST, NOT_SUPPORTED, FakeNvml

import tailsight
from tailsight import _device, _device_metrics, _device_nvml, _otlp, _otlp_metrics
from tailsight._device import DeviceSampler
from tailsight._otlp_metrics import Kind, Reading, encode_attributes

NOW_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9
NO_PSUTIL: Any = SimpleNamespace(cpu_freq=lambda: None)
GPU_METRICS = {
    "hw.gpu.utilization", "hw.gpu.memory.usage", "hw.gpu.memory.limit", "hw.gpu.memory.utilization", "hw.power",
    "hw.energy", "hw.temperature", "hw.gpu.clock.graphics", "hw.gpu.clock.memory", "hw.gpu.throttled", "hw.errors",
}  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now_ns = 100 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


class Machine:
    """A folder that looks like /proc, with numbers of the test's choosing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "7").mkdir(parents=True)
        (folder / "cpuinfo").write_text("model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz\n")
        (folder / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\nBuffers: 1 kB\n")
        self.cpu(user=0, idle=0)
        self.process(utime=0, stime=0, pages=100)

    def cpu(self, *, user: int, idle: int, iowait: int = 0, steal: int = 0) -> None:
        text = f"cpu  {user} 0 0 {idle} {iowait} 0 0 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"
        (self.folder / "stat").write_text(text)

    def process(self, *, utime: int, stime: int, pages: int) -> None:
        before = " ".join("0" * 10)
        after = " ".join("0" * 6)
        text = f"7 (a) odd (name) S {before} {utime} {stime} {after} 0 4096 {pages} 0 0\n"
        (self.folder / "7" / "stat").write_text(text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "proc")


@pytest.fixture(autouse=True)
def nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a source took here must not decide about what it is asked."""
    monkeypatch.setattr(_device, "REST_CPU", 0)
    monkeypatch.setattr(_device, "REST_WALL", 0)


def sampler(machine: Machine, clock: Clock, **options: Any) -> DeviceSampler:
    given: dict[str, Any] = {
        "pid": 7, "nvml": SimpleNamespace(), "psutil": NO_PSUTIL, "environ": {}, "proc": machine.folder,
        "powercap": machine.folder / "none", "clock_ns": clock, "start_unix_ns": NOW_NS,
    }  # fmt: skip
    return DeviceSampler(_otlp.resource({"service.name": "ranker"}), **{**given, **options})


Sample = dict[tuple[str, str], tuple[float, str, dict[str, Any]]]


def read(made: DeviceSampler) -> Sample:
    """What one sample says: (metric, hw.id) → (value, unit, attributes)."""
    encoded = made.sample(NOW_NS)
    if encoded is None:
        return {}
    message = ExportMetricsServiceRequest.FromString(encoded)
    assert message.SerializeToString(deterministic=True) == encoded, "not as protobuf's own serializer has it"
    [resource_metrics] = message.resource_metrics
    assert [item.value.string_value for item in resource_metrics.resource.attributes] == ["ranker"]
    [scope_metrics] = resource_metrics.scope_metrics
    found: Sample = {}
    for metric in scope_metrics.metrics:
        for point in getattr(metric, metric.WhichOneof("data")).data_points:  # type: ignore[arg-type]
            assert point.time_unix_nano == NOW_NS
            attributes = {item.key: plain(item.value) for item in point.attributes}
            value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            found[metric.name, attributes.get("hw.id", "")] = (value, metric.unit, attributes)
    return found


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


# --- encoding ---------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
readings = st.builds(
    Reading,
    st.builds(_otlp_metrics.Metric, texts, texts, st.sampled_from(Kind), texts),
    st.floats() | st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(texts, texts | st.booleans() | st.lists(texts, max_size=3), max_size=3).map(encode_attributes),
    st.just(0) | st.integers(1, 2**64 - 1),
)


@given(st.dictionaries(texts, texts, max_size=3), texts, st.lists(readings, max_size=5), st.integers(1, 2**64 - 1))
def test_the_encoding_equals_opentelemetry_protos(
    resource: dict[str, str], scope: str, found: list[Reading], time_ns: int
) -> None:
    metrics: dict[_otlp_metrics.Metric, list[NumberDataPoint]] = {}
    for reading in found:
        point = NumberDataPoint.FromString(reading.attributes)
        point.time_unix_nano, point.start_time_unix_nano = time_ns, reading.start_unix_ns
        if isinstance(reading.value, int):
            point.as_int = reading.value
        else:
            point.as_double = reading.value
        metrics.setdefault(reading.metric, []).append(point)
    official = ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=Resource(
                    attributes=[KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in resource.items()]
                ),
                scope_metrics=[
                    ScopeMetrics(
                        scope=InstrumentationScope(name=scope),
                        metrics=[
                            Metric(name=metric.name, unit=metric.unit, gauge=Gauge(data_points=points))
                            if metric.kind is Kind.GAUGE
                            else Metric(
                                name=metric.name,
                                unit=metric.unit,
                                sum=Sum(
                                    data_points=points,
                                    aggregation_temporality=2,  # type: ignore[arg-type]
                                    is_monotonic=metric.kind is Kind.COUNTER,
                                ),
                            )
                            for metric, points in metrics.items()
                        ],
                    )
                ],
            )
        ]
    )
    ours = _otlp_metrics.export_request(_otlp.resource(dict(resource)), scope, found, time_ns)
    assert ours == official.SerializeToString(deterministic=True)


def test_a_number_that_64_bits_cannot_hold_is_sent_as_a_float(machine: Machine, clock: Clock) -> None:
    reading = Reading(_device_metrics.GPU_MEMORY_USAGE, 2**64 - 1)
    message = ExportMetricsServiceRequest.FromString(_otlp_metrics.export_request(b"", "", [reading], 1))
    [point] = message.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
    assert point.as_double == 2.0**64


# --- the machine ------------------------------------------------------------------------------------------------------


def test_shares_are_of_the_time_between_two_samples(machine: Machine, clock: Clock, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    made = sampler(machine, clock)
    clock.pass_s(2)
    machine.cpu(user=300, idle=500, iowait=100, steal=100)
    hertz = os.sysconf("SC_CLK_TCK")
    machine.process(utime=3 * hertz, stime=hertz, pages=200)
    found = read(made)
    cpu = {"hw.type": "cpu", "hw.id": "cpu", "hw.name": "Intel Xeon Platinum 8481C", "hw.vendor": "Intel"}
    assert found["system.cpu.utilization", "cpu"] == (0.4, "1", cpu)
    assert found["process.cpu.utilization", ""] == (4 / 2 / 4, "1", {})  # four seconds in two, on four processors
    assert found["process.memory.usage", ""][:2] == (200 * os.sysconf("SC_PAGE_SIZE"), "By")
    assert found["system.memory.usage", ""][:2] == (750 * 1024, "By")
    assert found["system.memory.utilization", ""][0] == 0.75


def test_a_service_that_has_ended_loses_only_its_own_values(machine: Machine, clock: Clock) -> None:
    made = sampler(machine, clock)
    (machine.folder / "7" / "stat").unlink()
    found = {name for name, _ in read(made)}
    assert "system.memory.usage" in found
    assert not any(name.startswith("process.") for name in found)


def test_without_anything_to_read_there_is_no_sample(machine: Machine, clock: Clock, monkeypatch: Any) -> None:
    monkeypatch.setattr(_device, "_imported", lambda name: None)
    made = sampler(machine, clock, psutil=None, nvml=None, proc=machine.folder / "nowhere")
    assert made.sample(NOW_NS) is None
    assert [line.split(":")[0] for line in made.missing] == [
        "no clock rate and temperature of the processors, nor any use of the machine"
    ]


def test_psutil_stands_in_where_there_is_no_proc(clock: Clock, tmp_path: Path) -> None:
    import psutil

    made = DeviceSampler(
        _otlp.resource({"service.name": "ranker"}),
        pid=os.getpid(), proc=tmp_path, powercap=tmp_path, psutil=psutil, nvml=SimpleNamespace(), clock_ns=clock,
    )  # fmt: skip
    clock.pass_s(1)
    sum(range(200_000))
    found = read(made)
    assert 0 < found["system.memory.utilization", ""][0] < 1
    assert found["process.memory.usage", ""][0] > 1_000_000
    assert found["process.cpu.utilization", ""][0] >= 0


def test_clock_rate_and_temperature_come_through_psutil(machine: Machine, clock: Clock) -> None:
    def sensor(label: str, current: float) -> SimpleNamespace:
        return SimpleNamespace(label=label, current=current)

    psutil = SimpleNamespace(
        cpu_freq=lambda: SimpleNamespace(current=2600.5),
        sensors_temperatures=lambda: {
            "coretemp": [sensor("Package id 0", 61.0), sensor("Core 0", 58.0), sensor("Package id 1", 63.0)],
            "nvme": [sensor("Composite", 40.0)],
        },
    )
    made = sampler(machine, clock, psutil=psutil)
    found = read(made)
    assert found["system.cpu.frequency", "cpu"][:2] == (2_600_500_000.0, "Hz")
    message = ExportMetricsServiceRequest.FromString(made.sample(NOW_NS) or b"")
    [temperature] = [m for m in message.resource_metrics[0].scope_metrics[0].metrics if m.name == "hw.temperature"]
    assert [point.as_double for point in temperature.gauge.data_points] == [61.0, 63.0]


def test_a_source_that_fails_is_counted_and_the_others_go_on(machine: Machine, clock: Clock) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    made = sampler(machine, clock, psutil=SimpleNamespace(cpu_freq=broken))
    before = made.failures
    assert ("system.memory.usage", "") in read(made)
    assert made.failures == before + 1


def test_a_slow_source_is_asked_less_often(machine: Machine, clock: Clock, monkeypatch: Any) -> None:
    monkeypatch.setattr(_device, "REST_WALL", 10)
    asked = []

    def slow() -> None:
        asked.append(clock.now_ns)
        time.sleep(0.02)  # what it costs is measured with the real clock

    made = sampler(machine, clock, psutil=SimpleNamespace(cpu_freq=slow))
    made.sample(NOW_NS)
    assert len(asked) == 1
    clock.pass_s(10)
    made.sample(NOW_NS)
    assert len(asked) == 2


# --- RAPL -------------------------------------------------------------------------------------------------------------


def rapl_zone(root: Path, zone: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    folder = root / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def test_power_and_energy_of_the_processors_and_the_counters_wrap(
    machine: Machine, clock: Clock, tmp_path: Path
) -> None:
    root = tmp_path / "powercap"
    energy = rapl_zone(root, "intel-rapl:0", "package-0", 900_000)
    rapl_zone(root, "intel-rapl:0:0", "core", 5)
    rapl_zone(root, "intel-rapl:1", "psys", 5)
    rapl_zone(root, "intel-rapl-mmio:0", "package-0", 5)
    (root / "intel-rapl").mkdir()
    made = sampler(machine, clock, powercap=root)
    clock.pass_s(0.5)
    energy.write_text("950000\n")
    found = read(made)
    assert [key for key in found if key[0] == "hw.power"] == [("hw.power", "package-0")]
    assert found["hw.power", "package-0"][:2] == (pytest.approx(0.1), "W")
    assert found["hw.power", "package-0"][2]["hw.type"] == "cpu"
    assert found["hw.energy", "package-0"][:2] == (pytest.approx(0.05), "J")
    clock.pass_s(1)
    energy.write_text("150000\n")
    found = read(made)
    assert found["hw.power", "package-0"][0] == pytest.approx(0.2)
    assert found["hw.energy", "package-0"][0] == pytest.approx(0.25)


def test_counters_for_root_only_are_said_once(machine: Machine, clock: Clock, tmp_path: Path, monkeypatch: Any) -> None:
    energy = rapl_zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 5)
    real = Path.read_text

    def read_text(path: Path, *arguments: Any, **options: Any) -> str:
        if path == energy:  # the tests may run as root
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    made = sampler(machine, clock, powercap=tmp_path / "powercap")
    assert made.missing == [f"no power of the processors: {energy} is for root only"]
    assert not any(name == "hw.power" for name, _ in read(made))


# --- NVML -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


def gpu_values(found: Sample, gpu: str) -> dict[str, float]:
    return {name: value for (name, hw_id), (value, _, _) in found.items() if hw_id == gpu}


def test_every_metric_of_a_gpu(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    made = sampler(machine, clock, nvml=nvml)
    clock.pass_s(60)
    nvml.energy_mj += 412_000
    nvml.throttle_bits = 0x1 | 0x2 | 0x4 | 0x40
    found = read(made)
    assert gpu_values(found, "GPU-1") == {
        "hw.gpu.utilization": 0.84, "hw.gpu.memory.usage": 20 * 2**30, "hw.gpu.memory.limit": 80 * 2**30,
        "hw.gpu.memory.utilization": 0.25, "hw.power": 412.345, "hw.energy": 412.0, "hw.temperature": 67.0,
        "hw.gpu.clock.graphics": 1755.0, "hw.gpu.clock.memory": 2619.0, "hw.gpu.throttled": 1, "hw.errors": 2,
    }  # fmt: skip
    identity = {
        "hw.type": "gpu", "hw.id": "GPU-0", "hw.name": "NVIDIA H100 80GB HBM3", "hw.vendor": "NVIDIA", "gpu.index": 0,
    }  # fmt: skip
    assert found["hw.power", "GPU-0"][2] == identity
    assert found["hw.gpu.throttled", "GPU-0"][2] == identity | {
        "hw.gpu.throttle_reasons": ["sw_power_cap", "hw_thermal_slowdown"]
    }
    assert found["hw.errors", "GPU-0"][2] == identity | {"error.type": "ecc_uncorrected"}


def test_idle_clocks_are_not_throttled(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    made = sampler(machine, clock, nvml=nvml)
    nvml.throttle_bits = 0x1 | 0x2 | 0x100
    value, _, attributes = read(made)["hw.gpu.throttled", "GPU-0"]
    assert value == 0
    assert "hw.gpu.throttle_reasons" not in attributes


NVML_FUNCTIONS = {
    "nvmlDeviceGetUtilizationRates": {"hw.gpu.utilization"},
    "nvmlDeviceGetMemoryInfo": {"hw.gpu.memory.usage", "hw.gpu.memory.limit", "hw.gpu.memory.utilization"},
    "nvmlDeviceGetPowerUsage": {"hw.power"},
    "nvmlDeviceGetTotalEnergyConsumption": {"hw.energy"},
    "nvmlDeviceGetTemperature": {"hw.temperature"},
    "nvmlDeviceGetClockInfo(0)": {"hw.gpu.clock.graphics"},
    "nvmlDeviceGetClockInfo(2)": {"hw.gpu.clock.memory"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"hw.gpu.throttled"},
    "nvmlDeviceGetTotalEccErrors": {"hw.errors"},
}


@pytest.mark.parametrize("function", NVML_FUNCTIONS)
def test_a_value_that_a_gpu_does_not_have_is_missed_alone_and_not_asked_again(
    machine: Machine, clock: Clock, nvml: FakeNvml, function: str
) -> None:
    nvml.failing[function] = NOT_SUPPORTED
    made = sampler(machine, clock, nvml=nvml)
    clock.pass_s(60)
    found = read(made)
    assert gpu_values(found, "GPU-0").keys() == GPU_METRICS - NVML_FUNCTIONS[function]
    assert nvml.calls.count(function) == 2  # once a GPU


def test_an_error_that_may_pass_is_asked_again(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetPowerUsage"] = 999  # NVML_ERROR_UNKNOWN
    made = sampler(machine, clock, nvml=nvml)
    nvml.failing.clear()
    assert ("hw.power", "GPU-0") in read(made)


def test_the_name_before_driver_535_is_known_too(machine: Machine, clock: Clock) -> None:
    class Older(FakeNvml):
        nvmlDeviceGetCurrentClocksEventReasons: Any = None  # noqa: N815 - pynvml's name

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
            return 0x8

    found = read(sampler(machine, clock, nvml=Older()))
    assert found["hw.gpu.throttled", "GPU-0"][2]["hw.gpu.throttle_reasons"] == ["hw_slowdown"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, {"GPU-0": 0, "GPU-1": 1}), ("1,0", {"GPU-1": 0, "GPU-0": 1}), ("1", {"GPU-1": 0}),
        (" GPU-1 , 0", {"GPU-1": 0, "GPU-0": 1}), ("0,-1,1", {"GPU-0": 0}), ("", {}), ("-1", {}), ("NoDevFiles", {}),
        ("7", {}), ("0,7,1", {"GPU-0": 0}),
    ],
)  # fmt: skip
def test_gpus_are_those_that_cuda_shows_in_its_order(
    machine: Machine, clock: Clock, nvml: FakeNvml, visible: str | None, expected: dict[str, int]
) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = read(sampler(machine, clock, nvml=nvml, environ=environ))
    assert {
        key[1]: attributes["gpu.index"] for key, (_, _, attributes) in found.items() if key[0] == "hw.power"
    } == expected


def test_a_gpu_that_disappears_is_missed_and_found_again(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    made = sampler(machine, clock, nvml=nvml)
    nvml.failing[0] = GPU_IS_LOST
    found = read(made)
    assert gpu_values(found, "GPU-0") == {}
    assert gpu_values(found, "GPU-1").keys() >= GPU_METRICS - {"hw.errors"}
    clock.pass_s(_device_nvml.LOOK_AGAIN_NS / 1e9 + 1)
    read(made)  # looked for, not there
    assert nvml.initialised == 1
    nvml.failing.clear()
    clock.pass_s(_device_nvml.LOOK_AGAIN_NS / 1e9 + 1)
    nvml.energy_mj = 7_000  # the driver began again
    again = read(made)
    assert gpu_values(again, "GPU-0")["hw.power"] == 412.345
    assert gpu_values(again, "GPU-0")["hw.energy"] >= 0
    assert made.failures == 0
    made.close()
    assert nvml.initialised == 0


def test_all_gpus_that_disappear_kill_nothing(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    made = sampler(machine, clock, nvml=nvml)
    nvml.failing.update({0: GPU_IS_LOST, 1: GPU_IS_LOST, "nvmlInit": 1})
    for _ in range(3):
        clock.pass_s(_device_nvml.LOOK_AGAIN_NS / 1e9 + 1)
        assert ("system.memory.usage", "") in read(made)
    nvml.failing.clear()
    clock.pass_s(_device_nvml.LOOK_AGAIN_NS / 1e9 + 1)
    assert ("hw.power", "GPU-1") in read(made)


def test_without_a_driver_there_are_no_gpus_and_no_error(machine: Machine, clock: Clock, nvml: FakeNvml) -> None:
    nvml.failing["nvmlInit"] = 12  # NVML_ERROR_LIBRARY_NOT_FOUND
    made = sampler(machine, clock, nvml=nvml)
    assert not any(hw_id.startswith("GPU") for _, hw_id in read(made))
    assert made.missing == []


def test_the_real_pynvml_has_every_function_that_the_fake_has() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(names) > 10
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert set(_device_nvml._THROTTLE_REASONS) == {
        getattr(pynvml, f"nvmlClocksThrottleReason{name}")
        for name in ("SwPowerCap", "HwSlowdown", "SyncBoost", "SwThermalSlowdown", "HwThermalSlowdown",
                     "HwPowerBrakeSlowdown", "BoardLimit", "Reliability")
    }  # fmt: skip
    codes = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
    assert codes == _device_nvml._NEVER


# --- promises ---------------------------------------------------------------------------------------------------------


def test_the_sidecar_can_use_it_without_opentelemetry() -> None:
    """The package itself imports OpenTelemetry; the sidecar goes around it."""
    script = (
        "import sys, types; package = types.ModuleType('tailsight'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['tailsight'] = package\n"
        "import tailsight._device, os, time\n"
        "assert not {'psutil', 'pynvml'} & set(sys.modules), 'optional modules are lazy'\n"
        "sampler = tailsight._device.DeviceSampler(b'', pid=os.getppid())\n"
        "while not sampler.sample(time.time_ns()): pass\n"  # it rests for a moment after its first reading
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    [package] = tailsight.__path__
    done = subprocess.run([sys.executable, "-c", script, package], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_documentation_says_every_metric_with_its_unit() -> None:
    text = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    documented = {(row[0], row[1]) for row in rows if len(row) >= 2}
    assert {(metric.name, metric.unit) for metric in _device_metrics.ALL} <= documented
    assert len(_device_metrics.ALL) == len({metric.name for metric in _device_metrics.ALL}) == 17
