"""Profiles whose content is known."""

from __future__ import annotations

from typing import Any

PATH = "/tailsight/profiles"
NS_PER_S = 1_000_000_000
BASE_NS = 1_780_000_000 * NS_PER_S  # 2026-05-28 20:26:40 UTC
FRAMES = ["main (app.py:1)", "handle (app.py:10)", "fast (app.py:20)", "slow (app.py:30)", "spin (app.py:40)"]
FAST, SLOW = [0, 1, 2, 4], [0, 1, 3, 4]


def place(trace: int, *, stage: str = "compute", kind: str = "typical", **said: object) -> dict[str, Any]:
    """Where samples were taken: span `trace` of trace `trace`."""
    base = {
        "trace_id": f"{trace:032x}", "span_id": f"{trace:016x}", "stage": stage, "service": "ranker", "host": "box",
        "version": "1", "run": "", "hardware": "NVIDIA L4", "model": "", "process": 77, "thread": 140_615_117_436_608,
        "class": kind, "match": "exact", "also": [],
    }  # fmt: skip
    return base | said


def profile(places: list[dict[str, Any]], samples: list[tuple[int, int, int]], **said: object) -> dict[str, Any]:
    """Make a profile; `samples` are place, stack (0: fast, 1: slow) and count, 10 ms after each other."""
    count = sum(count for *_, count in samples)
    base = {
        "started_ns": BASE_NS, "duration_ms": 2000.0, "service": "ranker", "host": "box", "process": 77,
        "rate_hz": 100.0, "trigger": "hand", "source": "py-spy 0.4.3", "samples": count, "joined": count,
        "ambiguous": 0, "lost": 0, "offset_ms": 3.5, "agreement": 0.98, "by_chance": 0.4, "margin": 0.2,
        "trusted": True, "notes": [],
    }  # fmt: skip
    return {
        "profile": base | said,
        "frames": list(FRAMES),
        "stacks": [list(FAST), list(SLOW)],
        "places": places,
        "samples": {
            "time_ns": [BASE_NS + number * 10_000_000 for number in range(len(samples))],
            "place": [place for place, *_ in samples],
            "stack": [stack for _, stack, _ in samples],
            "state": ["running"] * len(samples),
            "count": [count for *_, count in samples],
        },
        "requests": {
            "trace_id": [place["trace_id"] for place in places],
            "class": [place["class"] for place in places],
            "run": [place["run"] for place in places],
            "duration_ns": [5_000_000] * len(places),
        },
    }


def small() -> dict[str, Any]:
    """Two requests, one of the tail; three rows of six samples."""
    return profile([place(1), place(2, kind="tail")], [(0, 0, 2), (1, 1, 3), (1, 0, 1)])
