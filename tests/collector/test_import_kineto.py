"""PyTorch profiles (Kineto): what becomes a request, a stage, a launch, GPU work, and where each is put."""

import pytest
from testkit.importing import plain
from testkit.kineto import annotation, event, kernel, launch, parents, profile, read_profile, stages, us

from tailsight_collector.importing import kineto


@pytest.fixture
def read(tmp_path):
    """What is made of a profile with these events."""
    return lambda *events, options=None, **around: read_profile(tmp_path, profile(*events, **around), options)


# --- requests and what lies in them ---------------------------------------------------------------------------------


def test_a_step_its_parts_its_launches_and_its_kernels(read):
    found = read(
        annotation("ProfilerStep#3", 0, 100),
        annotation("forward", 10, 40),
        launch(20, 5),
        kernel("gemm", 30, 15, 5),
        launch(60, 6, name="cudaMemcpyAsync"),
        kernel("relu", 70, 10, 6),
    )
    assert parents(found) == {
        "ProfilerStep": "", "forward": "ProfilerStep", "cudaLaunchKernel": "forward", "gemm": "forward",
        "cudaMemcpyAsync": "ProfilerStep", "relu": "ProfilerStep",
    }  # fmt: skip
    assert stages(found) == {
        "ProfilerStep": None, "forward": "forward", "cudaLaunchKernel": "launch", "gemm": "gpu_kernel",
        "cudaMemcpyAsync": "launch", "relu": "gpu_kernel",
    }  # fmt: skip
    assert len({span.trace_id for span in found.spans}) == 1
    [link] = found.named("gemm").links
    assert link.span_id == found.named("cudaLaunchKernel").span_id
    assert link.trace_id == found.named("gemm").trace_id
    assert plain(found.named("ProfilerStep").attributes) == {"thread.id": 1, "torch.step": 3}
    assert set(found.resources[0]) == {"service.name", "process.pid"}


def test_gpu_work_says_what_it_is_where_and_how_much(read):
    found = read(
        annotation("request", 0, 100),
        launch(1, 5),
        event(
            "gpu_memcpy",
            "Memcpy HtoD (Pageable -> Device)",
            5,
            1,
            pid=0,
            tid=7,
            device=0,
            stream=7,
            correlation=5,
            bytes=256,
        ),
        launch(2, 6),
        event("gpu_memset", "Memset (Device)", 8, 1, pid=0, tid=9, device=0, stream=9, correlation=6, bytes=16),
        launch(3, 7),
        kernel("k", 10, 1, 7, device=3, grid=[2, 1, 1], occupancy=0.25),
    )
    assert plain(found.named("Memcpy HtoD (Pageable -> Device)").attributes) == {
        "tailsight.stage": "gpu_kernel", "gpu.op": "memcpy", "gpu.index": 0, "gpu.stream": 7, "gpu.bytes": 256,
        "gpu.copy.kind": "HtoD", "tailsight.hardware": "NVIDIA H100 80GB HBM3",
    }  # fmt: skip
    memset = plain(found.named("Memset (Device)").attributes)
    assert (memset["gpu.op"], memset["gpu.bytes"], memset["gpu.stream"]) == ("memset", 16, 9)
    of_kernel = plain(found.named("k").attributes)
    assert (of_kernel["gpu.op"], of_kernel["torch.grid"], of_kernel["torch.occupancy"]) == ("kernel", [2, 1, 1], 0.25)
    assert "tailsight.hardware" not in of_kernel  # device 3 is not in deviceProperties
    assert found.report.notes["GPU work of a device that deviceProperties does not name: without hardware"] == 1


def test_a_request_lasts_until_its_last_kernel_has_ended(read):
    found = read(annotation("ProfilerStep#1", 0, 10), launch(5, 1), kernel("late", 20, 30.5, 1))
    assert us(found.named("ProfilerStep")) == (0, 50.5)
    assert plain(found.named("ProfilerStep").attributes)["torch.cpu_ms"] == 0.01
    assert parents(found)["late"] == "ProfilerStep"
    assert found.report.notes["requests that end with their last GPU work, after their part on the processor"] == 1


def test_a_kernel_that_begins_before_its_launch_call_returns(read):
    found = read(annotation("a", 0, 10), launch(5, 1, dur=4), kernel("early", 4.5, 3, 1))
    assert us(found.named("early")) == (4.5, 7.5)
    assert us(found.named("cudaLaunchKernel")) == (5, 9)
    assert us(found.named("a")) == (0, 10)


def test_a_kernel_lies_where_most_of_it_ran_and_says_where_it_was_launched(read):
    found = read(
        annotation("ProfilerStep#1", 0, 100),
        annotation("forward", 0, 10),
        annotation("backward", 10, 60),
        launch(5, 1),
        kernel("most of it in backward", 8, 20, 1),
        launch(6, 2),
        kernel("more than half of it in none", 60, 30, 2),
    )
    assert parents(found)["most of it in backward"] == "backward"
    assert parents(found)["more than half of it in none"] == "ProfilerStep"
    assert plain(found.named("most of it in backward").attributes)["torch.launched_in"] == "forward"


def test_a_call_that_returned_after_its_work_had_ended_waited_for_all_that_ran_meanwhile(read):
    """As a copy to pageable memory does: what holds the request up in it is the GPU, and not the launching."""
    found = read(
        annotation("request", 0, 100),
        launch(5, 1),
        launch(10, 2, dur=50, name="cudaMemcpyAsync"),
        launch(70, 3, name="of another"),
        kernel("gemm", 8, 40, 1),
        kernel("copy", 48, 11, 2),
        kernel("later", 75, 5, 3),
    )
    assert parents(found) == {
        "request": "", "cudaLaunchKernel": "request", "cudaMemcpyAsync": "request", "of another": "request",
        "gemm": "cudaMemcpyAsync", "copy": "cudaMemcpyAsync", "later": "request",
    }  # fmt: skip
    assert found.named("gemm").links[0].span_id == found.named("cudaLaunchKernel").span_id


def test_a_call_of_one_request_holds_no_work_of_another(read):
    found = read(
        annotation("one", 0, 100, tid=1), launch(10, 1, dur=50, tid=1, name="blocking"), kernel("its own", 50, 5, 1),
        annotation("two", 0, 100, tid=2), launch(10, 2, tid=2), kernel("the other's", 20, 20, 2),
    )  # fmt: skip
    assert parents(found)["its own"] == "blocking"
    assert parents(found)["the other's"] == "two"


def test_a_kernel_is_never_put_into_another_request(read):
    found = read(
        annotation("ProfilerStep#1", 0, 10), launch(5, 1),
        annotation("ProfilerStep#2", 10, 90), kernel("of the first", 40, 10, 1),
    )  # fmt: skip
    [first] = [span for span in found.spans if plain(span.attributes).get("torch.step") == 1]
    assert found.named("of the first").parent_span_id == first.span_id
    assert us(first) == (0, 50)


def test_annotations_outside_steps_are_requests_of_their_own(read):
    found = read(annotation("warm up", 0, 5), annotation("ProfilerStep#1", 10, 5), annotation("eval", 20, 5))
    assert [(span.name, span.parent_span_id) for span in found.spans] == [
        ("warm up", b""), ("ProfilerStep", b""), ("eval", b""),
    ]  # fmt: skip
    assert len({span.trace_id for span in found.spans}) == 3
    assert stages(found) == {"warm up": None, "ProfilerStep": None, "eval": None}


def test_an_annotation_around_the_steps_is_no_request(read):
    found = read(
        annotation("training", 0, 100), annotation("ProfilerStep#1", 10, 20), annotation("ProfilerStep#2", 40, 20),
        annotation("load", 35, 2), annotation("forward", 12, 5),
    )  # fmt: skip
    assert parents(found) == {
        "torch.profile": "", "training": "torch.profile", "load": "training", "ProfilerStep": "", "forward": "ProfilerStep",
    }  # fmt: skip
    assert us(found.named("torch.profile")) == (0, 100)


def test_a_step_in_a_step_is_a_request_and_what_lies_around_it_is_the_outer_ones(read):
    found = read(annotation("ProfilerStep#1", 1, 9), annotation("forward", 2, 6), annotation("ProfilerStep#2", 3, 1))
    assert [(span.name, us(span)) for span in found.spans if not span.parent_span_id] == [
        ("ProfilerStep", (1, 10)), ("ProfilerStep", (3, 4)),
    ]  # fmt: skip
    assert found.named("forward").trace_id == found.spans[0].trace_id


def test_what_other_threads_do_in_a_step_is_the_steps(read):
    found = read(
        annotation("ProfilerStep#1", 0, 100),
        annotation("backward", 10, 60),
        annotation("nccl:all_reduce", 20, 5, tid=2),
        launch(21, 1, tid=2),
        launch(30, 2, tid=3, name="from a thread without annotations"),
        kernel("k1", 25, 5, 1),
        kernel("k2", 35, 5, 2),
    )
    assert parents(found) == {
        "ProfilerStep": "", "backward": "ProfilerStep", "nccl:all_reduce": "backward", "cudaLaunchKernel": "nccl:all_reduce",
        "from a thread without annotations": "backward", "k1": "backward", "k2": "backward",
    }  # fmt: skip


def test_a_step_of_a_process_that_has_no_calls_holds_those_of_the_file(read):
    """The process id may be the container's in one event and the host's in another."""
    found = read(annotation("ProfilerStep#1", 0, 100, pid=9), launch(5, 1, pid=1), kernel("k", 10, 5, 1))
    assert parents(found) == {"ProfilerStep": "", "cudaLaunchKernel": "ProfilerStep", "k": "ProfilerStep"}


def test_requests_of_several_threads_are_kept_apart_and_what_is_nobodys_is_not_guessed(read):
    found = read(
        annotation("one", 0, 100, tid=1),
        annotation("two", 10, 100, tid=2),
        launch(20, 1, tid=1, name="launch 1"),
        launch(20, 2, tid=2, name="launch 2"),
        launch(20, 3, tid=3, name="launch 3"),
        launch(105, 4, tid=3, name="launch 4"),
        *(kernel(f"k{n}", 30 + 80 * (n == 4), 5, n) for n in (1, 2, 3, 4)),
    )
    assert {name: parent for name, parent in parents(found).items() if name.startswith("k")} == {
        "k1": "one", "k2": "two", "k3": "torch.profile", "k4": "two",
    }  # fmt: skip
    said = "launches while several requests ran, and nothing says whose they are: in torch.profile"
    assert found.report.notes[said] == 1


def test_annotations_that_interleave_on_one_thread_are_two_requests(read):
    """As asyncio tasks are: neither lies in the other, and what happens while both are open is nobody's for sure."""
    found = read(
        annotation("one", 0, 50), annotation("two", 20, 80),
        launch(10, 1), launch(30, 2), launch(60, 3),
        kernel("k1", 11, 2, 1), kernel("k2", 31, 2, 2), kernel("k3", 61, 2, 3),
    )  # fmt: skip
    assert {name: parent for name, parent in parents(found).items() if name.startswith("k")} == {
        "k1": "one", "k2": "torch.profile", "k3": "two",
    }  # fmt: skip


def test_whole_microseconds_may_make_a_part_seem_longer_than_the_whole(read):
    found = read(
        annotation("request", 0, 10),
        annotation("part", 5, 7),
        annotation("another", 100, 10),
        annotation("no part", 105, 8),
    )
    assert parents(found) == {"request": "", "part": "request", "another": "", "no part": ""}


def test_gpu_work_without_any_annotation_has_a_request_of_its_own(read):
    found = read(launch(5, 1), kernel("a", 10, 5, 1), kernel("launched before the profile began", 2, 4, 99))
    assert parents(found) == {
        "torch.profile": "", "cudaLaunchKernel": "torch.profile", "a": "torch.profile",
        "launched before the profile began": "torch.profile",
    }  # fmt: skip
    assert us(found.named("torch.profile")) == (2, 15)
    assert found.report.notes["GPU work whose launch is not in the file: in torch.profile"] == 1
    assert not found.named("launched before the profile began").links


def test_one_launch_may_start_many_kernels(read):
    found = read(
        annotation("a", 0, 10), launch(5, 1, name="cudaGraphLaunch"), *(kernel(f"k{n}", 10 + n, 1, 1) for n in range(5))
    )
    linked = {span.links[0].span_id for span in found.spans if span.links}
    assert linked == {found.named("cudaGraphLaunch").span_id}
    assert us(found.named("a")) == (0, 15)


def test_a_flat_annotation_with_a_stages_name_has_that_stage(read):
    assert stages(read(annotation("Preprocess", 0, 5), annotation("request 7", 9, 5))) == {
        "Preprocess": "preprocess", "request 7": None,
    }  # fmt: skip


def test_stages_are_few(read):
    parts = [annotation(f"part {n}", n, 1) for n in range(kineto.MOST_STAGES + 7)]
    found = read(annotation("ProfilerStep#1", 0, 1000), *parts, annotation("x" * 300, 900, 1))
    assert len({stage for stage in stages(found).values() if stage}) == kineto.MOST_STAGES
    assert found.report.notes["annotations without a stage: after 200 names, or longer than 200"] == 8
