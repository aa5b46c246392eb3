"""PyTorch profiles in a real store: the questions name the GPU's work, its hardware, and the step that was slow."""

import json

import pytest
from testkit.kineto import BASE_NS, annotation, event, kernel, launch, profile

from tailsight_cli import main
from tailsight_collector.importer import StoreTarget, import_files
from tailsight_storage import open_store

STEPS, SLOW = 240, 12  # every twelfth step waits for a copy
SPANS = 2 * STEPS * 6
STEP_US = 20_000


def steps(device_name: str, rank: int, kernel_us: int) -> dict:
    """Steps of forward and a copy back, on the rank's own device, as a service that answers request by request has them."""
    events = []
    for number in range(STEPS):
        begin, correlation = number * STEP_US, 2 * number + 1
        copy_us = 6000 + 13 * (number % 7) if number % SLOW == 0 else 100 + number % 17
        until = 1000 + kernel_us + copy_us
        events += [
            annotation(f"ProfilerStep#{number}", begin, until + 50),
            annotation("forward", begin + 10, 900),
            launch(begin + 700, correlation),
            launch(begin + 950, correlation + 1, until - 940, name="cudaMemcpyAsync"),  # it returns with the copy
            kernel("gemm", begin + 1000, kernel_us, correlation, device=rank),
            event(
                "gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", begin + 1000 + kernel_us, copy_us, pid=rank, tid=7,
                device=rank, stream=7, correlation=correlation + 1, bytes=4096,
            ),
        ]  # fmt: skip
    devices = [{"id": 0, "name": "NVIDIA T4"}, {"id": 1, "name": "NVIDIA T4"}]
    devices[rank]["name"] = device_name
    return profile(*events, deviceProperties=devices, distributedInfo={"rank": rank, "world_size": 2})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with two ranks' profiles, and a store that they were imported into."""
    folder = tmp_path_factory.mktemp("kineto")
    for rank, (name, kernel_us) in enumerate([("NVIDIA H100 80GB HBM3", 2000), ("NVIDIA A100-SXM4-80GB", 4000)]):
        (folder / f"rank{rank}.json").write_text(json.dumps(steps(name, rank, kernel_us)))
    with open_store(f"chdb://{folder / 'store'}", create=True) as store:
        imported = import_files([folder / "rank0.json", folder / "rank1.json"], StoreTarget(store), run="torch")
    assert (imported.accepted_spans, imported.already) == (SPANS, 0)
    return folder


@pytest.fixture
def ask(stored, capsys):
    """A command's answer from the store."""

    def call(*arguments: str) -> dict:
        code = main.run([*arguments, "--json", "--store", f"chdb://{stored / 'store'}"])
        answered = capsys.readouterr()
        assert code == 0, answered.err
        return json.loads(answered.out)

    return call


def test_the_same_profiles_again_add_nothing(stored, ask):
    again = ask("import", str(stored / "rank0.json"), str(stored / "rank1.json"), "--run", "torch")
    assert again["already_spans"] == again["accepted_spans"] == SPANS
    with open_store(f"chdb://{stored / 'store'}") as store:
        assert store.rows("SELECT count(), uniqExact(trace_id, span_id) FROM spans") == [(SPANS, SPANS)]
        assert store.rows("SELECT uniqExact(trace_id) FROM spans") == [(2 * STEPS,)]
        assert store.rows("SELECT toUnixTimestamp64Nano(min(start_time)) FROM spans") == [(BASE_NS,)]


def test_breakdown_shows_the_gpus_work_by_stage_and_by_hardware(ask):
    by_stage = {row["stage"]: row for row in ask("breakdown", "--run", "torch")["rows"]}
    assert set(by_stage) == {"", "forward", "launch", "gpu_kernel"}
    assert by_stage["launch"]["path_share"] < 0.05
    assert by_stage["gpu_kernel"]["count"] == 2 * 2 * STEPS
    assert by_stage["gpu_kernel"]["path_share"] > 0.6
    by_hardware = {
        row["hardware"]: row
        for row in ask("breakdown", "--run", "torch", "--by", "hardware", "--stage", "gpu_kernel")["rows"]
    }
    assert {name: row["count"] for name, row in by_hardware.items()} == {
        "NVIDIA H100 80GB HBM3": 2 * STEPS, "NVIDIA A100-SXM4-80GB": 2 * STEPS,
    }  # fmt: skip


def test_the_tail_is_the_copies(ask):
    answer = ask("tail", "--run", "torch", "--hardware", "NVIDIA H100 80GB HBM3", "--quantile", "0.95")
    first = answer["stages"][0]
    assert first["stage"] == "gpu_kernel"
    assert 5 < first["excess_ms"] < 7


def test_hardware_compares_the_types(ask):
    [found] = [each for each in ask("hardware", "--run", "torch")["comparisons"] if each["stage"] == "gpu_kernel"]
    assert {each["hardware"] for each in found["types"]} == {"NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"}
    assert found["reference"] == "NVIDIA A100-SXM4-80GB"
    assert all(each["count"] == 2 * STEPS for each in found["types"])
