"""Is a fit that is trusted right, and does it notice that the clock was set, or that spans are missing?

The figures of docs/analysis/profiles.md, of 200 services: `python tests/analysis/test_profile_trust.py`.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from testkit.profile_workloads import SPAWN_NS, workload

from tailsight_analysis import NotEnoughDataError
from tailsight_analysis.profiles import (
    ClockFit,
    Frame,
    Match,
    Recording,
    Site,
    StageSpan,
    State,
    Thread,
    fit_clock,
    join,
)

WITHIN_MS = 1.0
SHORT = (5.0, 10.0)


def judged(seed: int, seconds: tuple[float, ...], keep: float = 1.0) -> str:
    """Fit a made-up service, of whose requests a part has spans: "right", "wrong", "refused" or "too few"."""
    made = workload(seed, seconds)
    random = np.random.default_rng(seed)
    kept = {trace_id for trace_id in dict.fromkeys(span.trace_id for span in made.spans) if random.random() < keep}
    spans = [span for span in made.spans if span.trace_id in kept]
    try:
        fit = fit_clock(made.recording, spans, made.sites, complete=keep == 1.0)
    except NotEnoughDataError:
        return "too few"
    if not fit.trusted:
        return "refused"
    error_ms = fit.after_spawn_ms - made.after_ms
    return "right" if -WITHIN_MS - made.late_ms <= error_ms <= WITHIN_MS else "wrong"


@pytest.mark.parametrize("keep", [1.0, 0.1], ids=["all requests", "one in ten"])
def test_a_trusted_offset_is_right(keep: float) -> None:
    found = Counter(judged(seed, SHORT, keep) for seed in range(12))
    assert found["wrong"] == 0
    assert found["right"] >= 4


def set_after(spans: tuple[StageSpan, ...], at_ns: int, by_ns: int) -> list[StageSpan]:
    """Return the spans as they are where the machine's clock is set at that moment."""
    return [
        replace(span, start_ns=span.start_ns + by_ns, end_ns=span.end_ns + by_ns) if span.start_ns >= at_ns else span
        for span in spans
    ]


def clock_is_set(seed: int, share: float) -> tuple[float, float] | None:
    """Return which parts of the observations are taken as of a wrong time, and are lost though of the right one."""
    made = workload(seed, (10.0, 30.0))
    times_us = made.recording.times_us
    until_us = int(times_us[-1] * share)
    spans = set_after(made.spans, SPAWN_NS + int(made.after_ms * 1e6) + until_us * 1000, 700_000_000)
    try:
        fit = fit_clock(made.recording, spans, made.sites)
    except NotEnoughDataError:
        return None
    if not fit.trusted:
        return None
    since_us, end_us = fit.holds_us
    inside, right = (times_us >= since_us) & (times_us < end_us), times_us < until_us
    return float((inside & ~right).mean()), float((~inside & right).mean())


def test_what_comes_after_the_clock_was_set_is_not_joined() -> None:
    found = [each for seed in (1, 5, 11, 13) if (each := clock_is_set(seed, 0.75)) is not None]
    assert len(found) >= 3
    assert max(wrong for wrong, _ in found) <= 0.05  # a quarter is of the wrong time
    assert max(lost for _, lost in found) <= 0.3


def test_samples_of_a_time_in_which_the_fit_does_not_hold_are_ambiguous() -> None:
    made = workload(0, (10.0,))
    fit = fit_clock(made.recording, made.spans, made.sites)
    assert fit.trusted, fit.why_not
    half_us = int(made.recording.times_us[-1] // 2)
    assert (fit.holds_us[0] <= 0, fit.holds_us[1] > 2 * half_us) == (True, True)
    samples = join(made.recording, replace(fit, holds_us=(0, half_us)), made.spans, {}, made.sites)
    limit_ns = int(fit.unix_ns(np.array([half_us]))[0])
    after = [sample for sample in samples if sample.time_ns > limit_ns]
    assert {sample.match for sample in after} == {Match.AMBIGUOUS}
    assert Match.EXACT in {sample.match for sample in samples if sample.time_ns < limit_ns}


APP = "app.py"
LOOP = (Frame("main", APP, 1), Frame("_run_once", "/usr/lib/python3.11/asyncio/base_events.py", 1922))
PLAIN = (Frame("main", APP, 1),)
SITE = Site(APP, "handle", "compute", 10, 20)


def two_seen(root: tuple[Frame, ...]) -> tuple[Recording, list[StageSpan]]:
    """One request is open for a second; 100 samples of that time are in `compute` of some request, 100 elsewhere."""
    spans = [
        StageSpan("a" * 32, "1" * 16, "", "", "request", 7, SPAWN_NS, SPAWN_NS + 10**9),
        StageSpan("a" * 32, "2" * 16, "1" * 16, "compute", "compute", 7, SPAWN_NS, SPAWN_NS + 10**9),
    ]
    stacks = ((*root, Frame("handle", APP, 12)), (*root, Frame("other", APP, 40)))
    times_us = np.arange(200) * 5_000
    columns = np.zeros(200, dtype=np.int64), np.arange(200) % 2, np.ones(200, dtype=bool)
    return Recording(SPAWN_NS, 200.0, 1, (Thread(7),), stacks, times_us, *columns), spans


@pytest.mark.parametrize(
    ("root", "complete", "expected"),
    [
        (LOOP, False, {Match.STAGE: 100, Match.AMBIGUOUS: 100}),
        (LOOP, True, {Match.EXACT: 200}),
        (PLAIN, False, {Match.EXACT: 200}),
    ],
    ids=["tasks, sampled", "tasks, all there", "a thread, sampled"],
)
def test_a_task_may_be_of_a_request_that_was_not_kept(
    root: tuple[Frame, ...], complete: bool, expected: dict[Match, int]
) -> None:
    """Without spans of others, all that the loop ran meanwhile would be of the one request that was kept: a slow one."""
    recording, spans = two_seen(root)
    samples = join(recording, exactly(complete), spans, {"a" * 32: "tail"}, (SITE,))
    found = Counter(sample.match for sample in samples)
    assert found == expected
    is_sure = Match.EXACT in expected
    assert {(sample.trace_id, sample.request_class) for sample in samples} == {
        ("a" * 32, "tail") if is_sure else ("", "")
    }


def exactly(complete: bool) -> ClockFit:
    """Return a fit by which the profiler's clock began at SPAWN_NS."""
    return ClockFit(
        SPAWN_NS, 0.0, 0.0, ((0.0, float(SPAWN_NS)),), 1.0, 0.5, 1.0, 200, "sites", True, "", complete=complete
    )


def test_a_batch_counts_for_one_of_its_requests_of_whatever_class_the_others_are() -> None:
    recording, spans = two_seen(PLAIN)
    copies = [replace(span, trace_id="b" * 32, span_id="9" + span.span_id[1:]) for span in spans if span.stage]
    samples = join(recording, exactly(True), [*spans, *copies], {"a" * 32: "tail", "b" * 32: "typical"}, (SITE,))
    batched = [sample for sample in samples if sample.also]
    assert len(batched) >= 100
    assert {(sample.trace_id, sample.request_class) for sample in batched} == {("a" * 32, "tail")}


RUNNER = Frame("Runner.run", "/usr/lib/python3.12/asyncio/runners.py", 118)
SELECT = Frame("select", "/usr/lib/python3.11/selectors.py", 468)
WORK = (
    Frame("_bootstrap", "threading.py", 1002),
    Frame("_worker", "/usr/lib/python3.11/concurrent/futures/thread.py", 83),
)


def seen_once(stacks: tuple[tuple[Frame, ...], ...], threads: tuple[int, ...]) -> Recording:
    """Each stack once on the thread beside it, 1 ms after each other from 100 ms on."""
    count = len(stacks)
    columns = np.arange(count), np.arange(count), np.ones(count, dtype=bool)
    times_us = 100_000 + np.arange(count) * 1000
    return Recording(SPAWN_NS, 100.0, 1, tuple(Thread(each) for each in threads), stacks, times_us, *columns)


def test_work_in_a_thread_pool_is_of_the_stage_that_is_opened_there() -> None:
    """The request waits on the loop's thread; what its worker does is of the worker's span, before which nothing is."""
    spans = [
        StageSpan("a" * 32, "1" * 16, "", "", "request", 7, SPAWN_NS, SPAWN_NS + 10**9),
        StageSpan("a" * 32, "2" * 16, "1" * 16, "compute", "compute", 8, SPAWN_NS + 50_000_000, SPAWN_NS + 10**9),
    ]
    recording = seen_once(
        ((*LOOP, SELECT), (*WORK, Frame("handle", APP, 12)), (*WORK, Frame("other", APP, 40))), (7, 8, 9)
    )
    loop, worker, idle = join(recording, exactly(True), spans, {}, (SITE,))
    assert (loop.match, loop.stage, loop.state) == (Match.EXACT, "", State.WAITING)
    assert (worker.match, worker.stage, worker.span_id) == (Match.EXACT, "compute", "2" * 16)
    assert idle.match is Match.NONE


@pytest.mark.parametrize("leaf", [SELECT, RUNNER], ids=["asyncio", "a loop in C"])
def test_a_loop_that_waits_for_several_tasks_works_for_none(leaf: Frame) -> None:
    spans = [
        StageSpan(trace * 32, f"{number:016x}", "", "", "request", 7, SPAWN_NS, SPAWN_NS + 10**9)
        for number, trace in enumerate("ab", start=1)
    ]
    [sample] = join(seen_once(((*PLAIN, leaf),), (7,)), exactly(True), spans, {}, (SITE,))
    assert sample.match is Match.NONE


def test_a_thread_whose_number_is_used_again_has_the_spans_of_both() -> None:
    spans = [
        StageSpan("a" * 32, "1" * 16, "", "compute", "compute", 7, SPAWN_NS, SPAWN_NS + 101_000_000),
        StageSpan("b" * 32, "2" * 16, "", "compute", "compute", 7, SPAWN_NS + 101_500_000, SPAWN_NS + 10**9),
    ]
    stack = (*PLAIN, Frame("handle", APP, 12))
    found = seen_once((stack, stack, stack), (7, 8, 9))
    recording = replace(found, threads=(Thread(7),), thread_index=np.zeros(3, dtype=np.int64))
    assert [sample.trace_id[0] for sample in join(recording, exactly(True), spans, {}, (SITE,))] == ["a", "a", "b"]


def main() -> None:
    for keep in (1.0, 0.1, 0.05):
        found = Counter(judged(seed, (5.0, 10.0, 30.0, 60.0), keep) for seed in range(200 if keep == 1.0 else 60))
        print(f"{keep:.0%} of the requests have spans:", dict(found), flush=True)
    for share in (0.75, 1.5):
        each = [some for seed in range(90) if (some := clock_is_set(seed, share))]
        wrong, lost = np.mean(each, axis=0)
        print(f"set after {share:.0%}: {len(each)} trusted, {wrong:.3f} of a wrong time, {lost:.3f} lost", flush=True)


if __name__ == "__main__":
    sys.exit(main())
