"""PyTorch profiles of A100 and MI250 (../shared/data/kineto_hta) against what is known of them (expected/trace_facts.json)."""

import gzip
import json
from collections import Counter, defaultdict
from decimal import Decimal
from functools import lru_cache
from statistics import median_low

import pytest
from testkit.importing import DATA, Read, plain

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine"),
]
A100 = "critical_path_simple_add_benchmark_result_493459_1694039959_trace.json.gz"
MI250 = "amd_trace_mi250_minitoy_train_ROCm6_2_kineto.json.gz"
RANK_0 = "timeline_analysis_sampled_rank-0.json.gz"
TRITON = "triton_example_triton_example.json.gz"
BASE, TEST = "trace_compare_base_base.json.gz", "trace_compare_test_test.json.gz"
FILES = (A100, MI250, RANK_0, TRITON, BASE, TEST)
GPU = {"kernel": "kernel", "gpu_memcpy": "memcpy", "gpu_memset": "memset"}


@lru_cache
def facts(name: str) -> dict:
    return json.loads((DATA / "expected" / "trace_facts.json").read_text())[f"kineto_hta/{name}"]


@lru_cache
def read(name: str) -> Read:
    return Read(DATA / "kineto_hta" / name)


@lru_cache
def document(name: str) -> dict:
    """The file as it stands, numbers exactly."""
    with gzip.open(DATA / "kineto_hta" / name) as file:
        return json.load(file, parse_float=Decimal)


def noted(name: str, beginning: str) -> int:
    return sum(count for text, count in read(name).report.notes.items() if text.startswith(beginning))


def spans(name: str, **wanted: str) -> list:
    keys = {"op": "gpu.op", "stage": "tailsight.stage"}
    return [
        span
        for span in read(name).spans
        if all(plain(span.attributes).get(keys[key]) == value for key, value in wanted.items())
    ]


def gpu_spans(name: str) -> list:
    return [span for op in GPU.values() for span in spans(name, op=op)]


def launch_of(name: str) -> dict:
    by_id = {span.span_id: span for span in read(name).spans}
    return {span.span_id: by_id[span.links[0].span_id] for span in gpu_spans(name) if span.links}


def ns(microseconds: object) -> int:
    return int(Decimal(str(microseconds)) * 1000)


@pytest.mark.parametrize("name", FILES)
def test_it_is_kineto_and_nothing_of_it_is_refused(name):
    found = read(name)
    assert (found.format, found.refused) == ("kineto", {})
    assert found.report.kept == len(found.spans)


@pytest.mark.parametrize("name", FILES)
def test_every_event_is_read_and_accounted_for(name):
    known, phases = facts(name), facts(name)["phases"]
    assert read(name).report.read == known["events"]
    assert noted(name, "metadata events") == phases.get("M", 0)
    assert noted(name, "flow events") == phases.get("s", 0) + phases.get("f", 0)
    assert noted(name, "instant events") == phases.get("i", 0)
    categories = Counter(known["by_category"])
    for category, op in GPU.items():
        assert len(spans(name, op=op)) == categories.pop(category, 0), category
    launches, idle = spans(name, stage="launch"), noted(name, "calls into the runtime that started no GPU work")
    assert len(launches) + idle == categories.pop("cuda_runtime") + categories.pop("cuda_driver", 0)
    outside = sum(1 for span in read(name).spans if span.name == "torch.profile")
    named = len(read(name).spans) - len(gpu_spans(name)) - len(launches) - outside
    assert named == categories.pop("user_annotation")
    assert noted(name, "cpu_op") == categories.pop("cpu_op")
    assert noted(name, "gpu_user_annotation") == categories.pop("gpu_user_annotation", 0)
    assert noted(name, "the profiler's own span") == categories.pop("Trace", 0)
    assert noted(name, "cuda_sync") == categories.pop("cuda_sync", 0)
    assert not categories


@pytest.mark.parametrize("name", FILES)
def test_gpu_work_runs_on_the_device_that_the_file_names(name):
    devices = {number: device for number, device, *_ in facts(name)["devices"]}
    ran_on = Counter(
        (plain(s.attributes)["gpu.index"], plain(s.attributes).get("tailsight.hardware")) for s in gpu_spans(name)
    )
    wanted = Counter(
        (event["args"]["device"], devices.get(event["args"]["device"]))
        for event in document(name)["traceEvents"]
        if event.get("cat") in GPU
    )
    assert ran_on == wanted
    assert noted(name, "GPU work of a device that") == sum(count for (_, device), count in wanted.items() if not device)


@pytest.mark.parametrize("name", FILES)
def test_times_are_those_of_the_file_to_the_nanosecond(name):
    base = document(name).get("baseTimeNanoseconds", 0)
    assert base == facts(name).get("baseTimeNanoseconds", 0)
    wanted = Counter(
        (event["name"], base + ns(event["ts"]), base + ns(event["ts"]) + ns(event["dur"]))
        for event in document(name)["traceEvents"]
        if event.get("cat") in GPU
    )
    assert Counter((s.name, s.start_time_unix_nano, s.end_time_unix_nano) for s in gpu_spans(name)) == wanted
    complete = [event for event in document(name)["traceEvents"] if event["ph"] == "X"]
    first = base + min(ns(event["ts"]) for event in complete)
    assert all(
        first <= span.start_time_unix_nano <= span.end_time_unix_nano <= first + ns(facts(name)["window_us"])
        for span in read(name).spans
    )


@pytest.mark.parametrize("name", FILES)
def test_kernels_take_as_long_as_is_known(name):
    known, kernels = facts(name), spans(name, op="kernel")
    lengths = [(span.end_time_unix_nano - span.start_time_unix_nano, span.name) for span in kernels]
    assert len(kernels) == known["kernel_count"]
    assert sum(length for length, _ in lengths) == ns(known["kernel_dur_sum_us"])
    total = defaultdict(int)
    for length, kernel in lengths:
        total[kernel] += length
    longest, top_us = known["top_kernel"]
    assert ns(top_us) in (total[max(total, key=total.get)], max(lengths)[0])
    assert {max(total, key=total.get), max(lengths)[1]} & {n for n in total if n.startswith(longest)}
    streams = {str(plain(span.attributes)["gpu.stream"]) for span in kernels}
    assert sorted(streams) == known["streams"]


@pytest.mark.parametrize("name", FILES)
def test_the_gpu_is_busy_as_long_as_is_known(name):
    busy, until = 0, 0
    for span in sorted(gpu_spans(name), key=lambda span: span.start_time_unix_nano):
        busy += max(0, span.end_time_unix_nano - max(until, span.start_time_unix_nano))
        until = max(until, span.end_time_unix_nano)
    assert busy == ns(facts(name)["gpu_busy_union_us"])


@pytest.mark.parametrize("name", FILES)
def test_kernels_are_linked_to_their_launch(name):
    known, launches = facts(name), launch_of(name)
    delays = [
        span.start_time_unix_nano - launches[span.span_id].end_time_unix_nano
        for span in spans(name, op="kernel")
        if span.span_id in launches
    ]
    wanted = known["launch_delay_us(kernel.ts-runtime.end)"]
    assert len(delays) == known["kernels_with_launch"]
    assert (min(delays), max(delays)) == (ns(wanted["min"]), ns(wanted["max"]))
    assert sum(delay < 0 for delay in delays) == wanted["negative"]
    assert ns(wanted["median"]) in {sorted(delays)[len(delays) // 2], median_low(delays)}


@pytest.mark.parametrize("name", FILES)
def test_links_and_parents_are_there_in_the_same_trace(name):
    by_id = {(span.trace_id, span.span_id) for span in read(name).spans}
    assert len(by_id) == len(read(name).spans)
    for span in read(name).spans:
        assert not span.parent_span_id or (span.trace_id, span.parent_span_id) in by_id
        assert all((link.trace_id, link.span_id) in by_id for link in span.links)


@pytest.mark.parametrize("name", FILES)
def test_the_rank_is_in_the_resource(name):
    known = facts(name).get("distributedInfo", {})
    wanted = {key: value for key, value in known.items() if value is not None}
    for resource in read(name).resources:
        said = {key.removeprefix("torch.distributed."): value for key, value in resource.items()}
        assert {key: said[key] for key in ("rank", "world_size", "backend") if key in said} == wanted


REQUESTS = {
    MI250: [("ProfilerStep", 1), ("ProfilerStep", 2)],
    A100: [("[param|cuda]", None)],
    RANK_0: [("ProfilerStep", 551), ("ProfilerStep", 552)],
    TRITON: [("ProfilerStep", 1)],
    BASE: [("ProfilerStep", 1009), ("ProfilerStep", 1010), ("torch.profile", None)],
    TEST: [("ProfilerStep", 1009), ("ProfilerStep", 1010), ("torch.profile", None)],
}


@pytest.mark.parametrize("name", FILES)
def test_steps_and_outermost_annotations_are_the_requests(name):
    roots = [span for span in read(name).spans if not span.parent_span_id]
    assert sorted((span.name, plain(span.attributes).get("torch.step")) for span in roots) == REQUESTS[name]


def test_a_step_holds_what_other_threads_did_for_it():
    """The autograd thread's launches and annotations (nccl:all_reduce) have no step of their own."""
    steps = {span.trace_id: span for span in read(RANK_0).spans if span.name == "ProfilerStep"}
    assert {span.trace_id for span in read(RANK_0).spans} == set(steps)
    threads = Counter(plain(span.attributes)["thread.id"] for span in spans(RANK_0, stage="launch"))
    assert threads == {4037: 675, 23695: 529}
    reduces = spans(RANK_0, stage="nccl:all_reduce")
    assert {plain(span.attributes)["thread.id"] for span in reduces} == {23695}


def test_kernels_that_begin_before_their_launch_returns_belong_to_the_step_of_the_launch():
    early = [
        (span, launch_of(A100)[span.span_id])
        for span in spans(A100, op="kernel")
        if span.start_time_unix_nano < launch_of(A100)[span.span_id].end_time_unix_nano
    ]
    assert len(early) == 11
    assert all(span.trace_id == launch.trace_id for span, launch in early)


def test_a_request_ends_with_its_last_gpu_work():
    [first] = [span for span in read(BASE).spans if plain(span.attributes).get("torch.step") == 1009]
    own = [span for span in gpu_spans(BASE) if span.trace_id == first.trace_id]
    assert first.end_time_unix_nano == max(span.end_time_unix_nano for span in own)
    assert plain(first.attributes)["torch.cpu_ms"] == 100.298
    assert plain(first.attributes)["tailsight.definition"].startswith("request: until the last GPU work")
