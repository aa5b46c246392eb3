"""The profiler's clock, on recordings that are made up: drift, silence, and stages that follow each other like a clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tailsight_analysis import NotEnoughDataError
from tailsight_analysis.profiles import ClockFit, Frame, Recording, Site, Stack, StageSpan, Thread, fit_clock

SPAWN_NS = 1_700_000_000_000_000_000
STAGES = ("preprocess", "compute", "postprocess")
SITES = tuple(Site("app.py", "handle", stage, 10 * at, 10 * at + 5) for at, stage in enumerate(STAGES, start=1))


def stack_in(stage: int) -> Stack:
    return (
        Frame("main", "app.py", 1),
        Frame("handle", "app.py", 10 * (stage + 1) + 2 if stage >= 0 else 99),
        Frame("spin", "app.py", 200),
    )


def made_up(
    seconds: float, *, after_ms: float, drift_ppm: float, seed: int = 0, regular: bool = False
) -> tuple[Recording, list[StageSpan]]:
    """Requests of three stages on one thread, seen at random by a profiler whose clock runs differently."""
    random = np.random.default_rng(seed)
    spans: list[StageSpan] = []
    edges: list[tuple[int, int]] = []
    at, number = SPAWN_NS - 50_000_000, 0
    while at < SPAWN_NS + int((seconds + 0.2) * 1e9):
        root = f"{number:016x}"
        begun = at
        for stage, name in enumerate(STAGES):
            end = at + (4_000_000 if regular else int(random.uniform(0.5, 6.0) * 1e6))
            spans.append(StageSpan(f"{number:032x}", f"{stage + 1:x}{number:015x}", root, name, name, 7, at, end))
            edges.append((at, stage))
            at = end
        spans.append(StageSpan(f"{number:032x}", root, "", "", "request", 7, begun, at))
        edges.append((at, -1))
        at += 4_000_000 if regular else int(random.exponential(3.0) * 1e6)
        number += 1
    times_us = np.cumsum(random.exponential(10_000, int(seconds * 100))).astype(np.int64)
    truth_ns = SPAWN_NS + int(after_ms * 1e6) + (times_us * 1000 * (1 + drift_ppm * 1e-6)).astype(np.int64)
    held = np.searchsorted(np.array([edge for edge, _ in edges]), truth_ns, side="right") - 1
    stack_index = np.array([edges[each][1] for each in held]) + 1
    recording = Recording(
        SPAWN_NS,
        100.0,
        1,
        (Thread(7),),
        tuple(stack_in(stage) for stage in range(-1, 3)),
        times_us,
        np.zeros(len(times_us), dtype=np.int64),
        stack_index,
        np.ones(len(times_us), dtype=bool),
    )
    return recording, spans


def fitted(recording: Recording, spans: list[StageSpan], sites: tuple[Site, ...] = SITES) -> ClockFit:
    fit = fit_clock(recording, spans, sites)
    assert fit.trusted, fit.why_not
    return fit


@pytest.mark.parametrize("sites", [SITES, ()], ids=["source", "information"])
def test_the_start_is_found_to_a_fraction_of_a_millisecond(sites: tuple[Site, ...]) -> None:
    recording, spans = made_up(20, after_ms=7.3, drift_ppm=0)
    fit = fitted(recording, spans, sites)
    assert abs(fit.after_spawn_ms - 7.3) < 0.3
    assert fit.agreement > 0.97


def test_a_late_start_is_found_as_well() -> None:
    recording, spans = made_up(20, after_ms=1_803.4, drift_ppm=0)
    assert abs(fitted(recording, spans).after_spawn_ms - 1_803.4) < 0.3


@pytest.mark.parametrize("drift_ppm", [-40, 40])
def test_drift_over_minutes_is_followed(drift_ppm: int) -> None:
    recording, spans = made_up(180, after_ms=5, drift_ppm=drift_ppm)
    fit = fitted(recording, spans)
    truth_ns = SPAWN_NS + 5_000_000 + recording.times_us * 1000 * (1 + drift_ppm * 1e-6)
    assert fit.drift_ppm == pytest.approx(drift_ppm, abs=8)
    assert np.abs(fit.unix_ns(recording.times_us) - truth_ns).max() < 1_000_000


def test_a_service_that_ticks_like_a_clock_is_not_trusted() -> None:
    """Every 16 ms the same: any multiple of that agrees as well, and none is the right one."""
    recording, spans = made_up(20, after_ms=7.3, drift_ppm=0, regular=True)
    fit = fit_clock(recording, spans, SITES)
    assert not fit.trusted
    assert "another offset agrees nearly as well" in fit.why_not


def test_spans_that_name_no_thread_are_said_to_and_not_called_too_few() -> None:
    recording, spans = made_up(5, after_ms=5, drift_ppm=0)
    with pytest.raises(NotEnoughDataError, match=r"none of the [\d,]+ spans of the process says on which thread"):
        fit_clock(recording, [replace(span, thread_id=0) for span in spans], SITES)
