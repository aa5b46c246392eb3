"""Hardware, clock, ids: what comes from the machine."""

import ctypes
import os
import platform
import random
from pathlib import Path
from typing import Any

import pytest

from tailsight import _hardware, _resource
from tailsight import attributes as keys
from tailsight._clock import ANCHOR_TOLERANCE_NS, Clock
from tailsight._hardware import Hardware, cpu_name, detect, shortened
from tailsight._ids import Ids
from tailsight._options import Settings
from tailsight._resource import resource_attributes
from tailsight.testing import FakeClock


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("AMD EPYC 9575F 64-Core Processor", "AMD EPYC 9575F"),
        ("AMD EPYC", "AMD EPYC"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Intel Xeon Platinum 8481C"),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "Intel Core i7-8650U"),
        ("AMD Ryzen 9 5950X 16-Core Processor", "AMD Ryzen 9 5950X"),
        ("Dual-Core AMD Opteron(tm) Processor 2218", "AMD Opteron 2218"),
    ],
)
def test_a_processors_name_is_shortened_to_what_people_say(model: str, expected: str) -> None:
    assert shortened(model) == expected


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9575F 64-Core Processor\n")
    assert cpu_name(cpuinfo) == "AMD EPYC 9575F"


def test_without_a_model_the_architecture_must_do(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50.0\n")  # what an ARM machine says
    assert cpu_name(cpuinfo) == platform.machine()
    assert cpu_name(tmp_path / "missing") == platform.machine()


class FakeNvml:
    """NVML as a machine with two GPUs would have it."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.open = 0

    def nvmlInit_v2(self) -> int:
        self.open += 1
        return 0

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        device._obj.value = index.value + 1
        return 0 if index.value < 2 else 2

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:
        device._obj.value = 2
        return 0 if uuid == b"GPU-2" else 6

    def nvmlDeviceGetName(self, device: Any, name: Any, size: Any) -> int:
        name.value = {1: b"NVIDIA H100 80GB HBM3", 2: b"NVIDIA L4"}[device.value]
        return 3 if self.broken else 0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "NVIDIA H100 80GB HBM3"),
        ("1,0", "NVIDIA L4"),
        ("GPU-2", "NVIDIA L4"),
        ("", None),
        ("-1", None),
        ("7", None),
        ("GPU-unknown", None),
    ],
)
def test_the_first_visible_gpu_is_the_hardware(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: str | None
) -> None:
    nvml = FakeNvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    found = detect({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    if expected is None:
        assert found.kind == "cpu"
    else:
        assert found == Hardware("gpu", expected, "NVIDIA")
    assert nvml.open == 0


@pytest.mark.parametrize("error", [OSError("no such library"), AttributeError("no such function")])
def test_without_a_driver_the_processor_is_the_hardware(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def missing(name: str) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert detect({}).kind == "cpu"


def test_a_driver_that_fails_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeNvml(broken=True))
    assert detect({}).kind == "cpu"


def test_the_resource_says_what_was_found_unless_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resource, "_hardware", lambda: Hardware("gpu", "NVIDIA L4", "NVIDIA"))
    found = resource_attributes(Settings())
    assert (found[keys.HARDWARE], found[keys.HW_TYPE], found[keys.HW_NAME], found[keys.HW_VENDOR]) == (
        "NVIDIA L4",
        "gpu",
        "NVIDIA L4",
        "NVIDIA",
    )
    assert found[keys.SERVICE_NAME] == "unknown_service:python"
    assert found[keys.PROCESS_PID] == os.getpid()
    told = resource_attributes(Settings(hardware="TPU", resource_attributes={keys.SERVICE_NAME: "a", "x": 1}))
    assert (told[keys.HARDWARE], told[keys.SERVICE_NAME], told["x"]) == ("TPU", "a", 1)
    assert keys.HW_NAME not in told
    assert (
        resource_attributes(Settings(service="b", resource_attributes={keys.SERVICE_NAME: "a"}))[keys.SERVICE_NAME]
        == "b"
    )


def test_this_machine_has_a_name() -> None:
    assert _hardware.detect().name


def test_a_clocks_anchor_is_renewed_only_when_it_is_off() -> None:
    clock = FakeClock(unix_ns=1_000)
    assert clock.fresh_anchor_ns() == 1_000
    clock.step_wall_clock(ANCHOR_TOLERANCE_NS - 1)
    clock.advance(10**15)
    assert clock.fresh_anchor_ns() == 1_000
    clock.step_wall_clock(1)
    assert clock.fresh_anchor_ns() == 1_000 + ANCHOR_TOLERANCE_NS


def test_the_anchor_is_taken_from_the_least_disturbed_reading() -> None:
    readings = iter([0, 1000, 1000, 1010, 1010, 5000, 5000, 6000, 6000, 7000, 7000, 8000])
    walls = iter([10_000, 11_005, 13_000, 14_000, 15_000])
    assert Clock(lambda: next(readings), lambda: next(walls)).anchor_ns == 10_000


def test_ids_do_not_follow_the_applications_seed() -> None:
    drawn = []
    for _ in range(2):
        random.seed(1)
        ids = Ids()
        drawn += [ids.span_id(), ids.trace_id()]
    assert len(set(drawn)) == 4
    assert max(drawn[0], drawn[2]).bit_length() <= 64
