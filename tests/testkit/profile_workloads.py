"""Services that are made up, seen by a profiler whose clock's beginning is known: what a fit can be held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailsight_analysis.profiles import Frame, Recording, Site, Stack, StageSpan, Thread

SPAWN_NS = 1_700_000_000_000_000_000
KINDS = ("random", "regular", "nearly regular", "gaps", "one stage", "some slow", "bursts")
PERIODS_MS = (0.0, 5.0, 10.0, 20.0, 33.3, 100.0)


@dataclass(frozen=True, slots=True)
class Workload:
    """What a profiler saw, the spans of that time, and when its clock began, in ms after its start.

    `late_ms`: so late it stamps a sample at most, mostly; the fit may be off by that.
    """

    kind: str
    recording: Recording
    spans: tuple[StageSpan, ...]
    sites: tuple[Site, ...]
    after_ms: float
    late_ms: float


def workload(seed: int, seconds: tuple[float, ...] = (5.0, 10.0, 30.0, 60.0)) -> Workload:
    """Draw a service: of one to five stages on one to three threads, requests of all kinds of regularity."""
    random = np.random.default_rng(seed)
    kind = str(random.choice(KINDS))
    stages = 1 if kind == "one stage" else int(random.integers(1, 6))
    length_s, rate_hz = float(random.choice(seconds)), float(random.choice([50, 100, 250]))
    threads, after_ms = int(random.integers(1, 4)), float(random.uniform(1, 40))
    late_ms, period_ms = float(random.choice([0, 0.1, 0.3, 1.0])), float(random.choice(PERIODS_MS))
    usual_ms = random.uniform(0.3, 8.0, stages)
    with_source, same_code = random.random() < 0.6, random.random() < 0.3
    sites = tuple(Site("app.py", "handle", f"s{at}", 10 * (at + 1), 10 * (at + 1) + 5) for at in range(stages))
    spans: list[StageSpan] = []
    times, stacks, thread_index = [], [], []
    for thread in range(threads):
        first = at = SPAWN_NS - 50_000_000 + int(random.integers(0, 10_000_000))
        edges: list[tuple[int, int]] = []
        while at < SPAWN_NS + int((length_s + 0.5) * 1e9):
            begun, number = at, len(spans)
            for stage in range(stages):
                end = at + max(1000, int(_length_ms(random, kind, usual_ms[stage]) * 1e6))
                name = f"s{stage}"
                ids = f"{number:032x}", f"{stage + 1:x}{number:015x}", f"{number:016x}"
                spans.append(StageSpan(*ids, name, name, 7 + thread, at, end))
                edges.append((at, stage))
                at = end
            spans.append(StageSpan(f"{number:032x}", f"{number:016x}", "", "", "request", 7 + thread, begun, at))
            edges.append((at, -1))
            at = _next(random, kind, at, first, period_ms)
        times_us = np.cumsum(random.exponential(1e6 / rate_hz, int(length_s * rate_hz))).astype(np.int64)
        taken_ns = SPAWN_NS + int(after_ms * 1e6) + times_us * 1000
        taken_ns -= random.exponential(late_ms * 1e6 / 2, len(times_us)).astype(np.int64)
        held = np.searchsorted(np.array([edge for edge, _ in edges]), taken_ns, side="right") - 1
        times.append(times_us)
        stacks.append(np.array([edges[each][1] if each >= 0 else -1 for each in held]) + 1)
        thread_index.append(np.full(len(times_us), thread))
    order = np.argsort(np.concatenate(times), kind="stable")
    recording = Recording(
        SPAWN_NS,
        rate_hz,
        1,
        tuple(Thread(7 + thread) for thread in range(threads)),
        tuple(_stack(stage, same_code) for stage in range(-1, stages)),
        np.concatenate(times)[order],
        np.concatenate(thread_index)[order],
        np.concatenate(stacks)[order],
        np.ones(len(order), dtype=bool),
    )
    return Workload(kind, recording, tuple(spans), sites if with_source else (), after_ms, late_ms)


def _length_ms(random: np.random.Generator, kind: str, usual_ms: float) -> float:
    if kind == "regular":
        return usual_ms
    if kind == "nearly regular":
        return usual_ms * float(random.normal(1, 0.02))
    if kind == "some slow":
        return usual_ms * (30 if random.random() < 0.02 else 1)
    return usual_ms * float(random.lognormal(0, 0.7))


def _next(random: np.random.Generator, kind: str, at: int, first: int, period_ms: float) -> int:
    """When the next request begins."""
    if kind in ("regular", "nearly regular"):
        period = int(period_ms * 1e6)
        at = first + -(-(at - first) // period) * period if period else at + 1_000_000
        return at + (int(abs(random.normal(0, 20_000))) if kind == "nearly regular" else 0)
    if kind == "gaps":
        return at + int(random.exponential(200e6))
    if kind == "bursts":
        return at + int(random.exponential(2e6 if random.random() < 0.95 else 500e6))
    return at + int(random.exponential(3e6))


def _stack(stage: int, same_code: bool) -> Stack:
    inner = () if same_code else (Frame(f"work{stage}", "app.py", 200),)
    return (Frame("main", "app.py", 1), Frame("handle", "app.py", 10 * (stage + 1) + 2 if stage >= 0 else 99), *inner)
