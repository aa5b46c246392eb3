"""Real processes under real py-spy: is each sample joined to the span that it ran for?

Every request runs code objects named after it, so a stack tells whose it is, and the join is held against that.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from testkit.profiling import PIPELINE, Profiled, profiled, tally

from tailsight_analysis import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles import (
    JoinedSample,
    Match,
    Site,
    State,
    StateReading,
    difference,
    fit_clock,
    interpreter_data,
    join,
    state_of,
)

REQUESTS = {"threads": 240, "asyncio": 240}


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    return profiled("threads", REQUESTS["threads"], 250, tmp_path_factory.mktemp("threads"))


@pytest.fixture(scope="module")
def coroutines(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    return profiled("asyncio", REQUESTS["asyncio"], 250, tmp_path_factory.mktemp("asyncio"))


def joined(
    profile: Profiled, sites: tuple[Site, ...], classes: dict[str, str] | None = None
) -> tuple[JoinedSample, ...]:
    fit = fit_clock(profile.recording, profile.spans, sites)
    assert fit.trusted, fit.why_not
    return join(profile.recording, fit, profile.spans, classes or {}, sites)


@pytest.mark.parametrize("with_source", [True, False], ids=["source", "no source"])
def test_on_threads_19_of_20_samples_have_the_right_request_and_stage(threads: Profiled, with_source: bool) -> None:
    counts = tally(threads, joined(threads, threads.sites if with_source else ()))
    assert counts["exact"] >= 300
    assert counts["exact right"] >= 0.95 * counts["exact"], counts
    assert counts["exact"] >= 0.9 * counts["all"], counts


@pytest.mark.parametrize("with_source", [True, False], ids=["source", "no source"])
def test_of_coroutines_9_of_10_are_right_and_4_of_5_are_told_apart(coroutines: Profiled, with_source: bool) -> None:
    counts = tally(coroutines, joined(coroutines, coroutines.sites if with_source else ()))
    assert counts["all"] >= 200
    assert counts["exact right"] >= 0.9 * counts["exact"], counts
    assert counts["stage right"] >= 0.9 * counts["stage"], counts
    assert counts["ambiguous"] + counts["stage"] + counts["none"] <= 0.2 * counts["all"], counts


def test_the_source_and_the_information_find_the_same_clock(threads: Profiled) -> None:
    by_source = fit_clock(threads.recording, threads.spans, threads.sites)
    by_information = fit_clock(threads.recording, threads.spans)
    assert (by_source.method, by_information.method) == ("sites", "information")
    assert abs(by_source.offset_ns - by_information.offset_ns) < 1_000_000
    assert by_source.agreement > 0.9 > by_source.by_chance + 0.2


def test_spans_of_another_time_are_not_trusted_nor_joined(threads: Profiled) -> None:
    """Each request is moved by its own time: nothing of the frames fits any more."""
    random = np.random.default_rng(1)
    moved = {trace_id: int(random.integers(-4_000_000_000, 4_000_000_000)) for trace_id in threads.names}
    spans = [
        replace(span, start_ns=span.start_ns + moved[span.trace_id], end_ns=span.end_ns + moved[span.trace_id])
        for span in threads.spans
    ]
    fit = fit_clock(threads.recording, spans, threads.sites)
    assert not fit.trusted
    with pytest.raises(QuestionError, match="clock was not found"):
        join(threads.recording, fit, spans, {}, threads.sites)


def test_what_py_spy_took_is_there_although_its_file_is_silent_of_most(threads: Profiled) -> None:
    """It may be more: a py-spy that the machine does not let run takes fewer than the rate says."""
    recording = threads.recording
    assert len(recording) >= 0.8 * threads.samples_taken
    assert recording.seen.mean() > 0.3


def test_the_function_that_only_tail_requests_run_comes_first(threads: Profiled) -> None:
    classes = {trace_id: "tail" if int(name[1:]) % 10 == 3 else "typical" for trace_id, name in threads.names.items()}
    samples = [sample for sample in joined(threads, threads.sites, classes) if sample.stage == "compute"]
    rate_hz = threads.recording.rate_hz
    found = difference(
        [sample for sample in samples if sample.request_class == "tail"],
        [sample for sample in samples if sample.request_class == "typical"],
        rate_hz,
        requests_a=[trace_id for trace_id, kind in classes.items() if kind == "tail"],
        requests_b=[trace_id for trace_id, kind in classes.items() if kind == "typical"],
    )
    first = found.functions[0]
    assert first.function == "slow_path"
    assert first.certain
    assert first.low_ms > 0
    assert first.b.samples <= 0.05 * first.a.samples


def test_a_thread_that_was_seen_too_seldom_says_how_much_is_missing(threads: Profiled) -> None:
    recording = threads.recording
    few = replace(
        recording,
        times_us=recording.times_us[:40],
        thread_index=recording.thread_index[:40],
        stack_index=recording.stack_index[:40],
        seen=recording.seen[:40],
    )
    with pytest.raises(NotEnoughDataError, match="observations") as error:
        fit_clock(few, threads.spans, threads.sites)
    assert error.value.missing is not None
    assert error.value.missing >= 60


def test_copies_of_a_batch_are_one_execution_for_several_requests(threads: Profiled) -> None:
    copies = [
        replace(
            span,
            trace_id="f" * 31 + span.trace_id[-1],
            span_id="f" + span.span_id[1:],
            parent_span_id="f" + span.parent_span_id[1:],
        )
        for span in threads.spans
        if span.stage in {"compute", "lookup"}
    ]
    whole = replace(threads, spans=(*threads.spans, *copies))
    samples = [each for each in joined(whole, whole.sites) if each.stage == "compute" and each.match is Match.EXACT]
    assert samples
    assert all(len(sample.also) == 1 for sample in samples)


def test_a_reading_of_the_thread_at_that_time_gives_the_state(threads: Profiled) -> None:
    fit = fit_clock(threads.recording, threads.spans, threads.sites)
    times = fit.unix_ns(threads.recording.times_us)
    readings = [
        StateReading(int(time_ns), threads.recording.threads[thread].os_thread_id or 0, State.GIL)
        for time_ns, thread in zip(times.tolist(), threads.recording.thread_index.tolist(), strict=True)
    ]
    samples = join(threads.recording, fit, threads.spans, {}, threads.sites, readings)
    assert {sample.state for sample in samples} == {State.GIL}


def test_the_pipeline_is_where_the_frames_say(threads: Profiled) -> None:
    files = {frame.file for stack in threads.recording.stacks for frame in stack}
    assert str(PIPELINE) in files
    assert {site.stage for site in threads.sites} == {"preprocess", "compute", "lookup", "postprocess"}


SPIN = """
import sys, threading
def spin():
    while True:
        pass
for _ in range(3):
    threading.Thread(target=spin, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_that_want_the_gil_are_seen_waiting_for_it() -> None:
    """Three threads spin, so two of them wait at any time; the first waits for its input."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        folder = Path("/proc", str(process.pid))
        try:
            data = interpreter_data((folder / "maps").read_text())
            tasks = sorted(int(task.name) for task in (folder / "task").iterdir())
            seen = {task: Counter[State]() for task in tasks}
            spinning: Counter[State] = Counter()
            for _ in range(200_000):
                states = {task: state_of((folder / "task" / str(task) / "syscall").read_text(), data) for task in tasks}
                at_rest = seen[process.pid][State.WAITING]
                if states[process.pid] is not State.WAITING and at_rest < 50:
                    seen[process.pid].clear()  # it has not come to its input yet
                    continue
                seen[process.pid][states.pop(process.pid)] += 1
                if at_rest >= 50:
                    spinning.update(states.values())
                if spinning[State.GIL] >= 50 and spinning[State.RUNNING] >= 50:
                    break
        except PermissionError:
            pytest.skip("/proc/PID/task/TID/syscall may not be read here")
        finally:
            process.communicate(b"\n")
    assert len(tasks) == 4
    assert min(spinning[State.GIL], spinning[State.RUNNING]) >= 50
    assert spinning[State.WAITING] <= 0.1 * spinning.total()
    assert set(seen[process.pid]) == {State.WAITING}
