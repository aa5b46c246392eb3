"""Stores with a history whose truth is known: versions one after another, each with some requests through four stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from analysis.brute_force import Span

MINUTE = 60_000_000  # ticks
HARDWARE = ("L4", "T4")


@dataclass(frozen=True)
class Version:
    """How one version differs. `slower` is a factor by (stage, hardware); `big` the share of requests to the big model."""

    slower: dict[tuple[str, str], float] | None = None
    big: float = 0.2
    tokens: float = 100.0


def history(
    versions: int, of: Callable[[int], Version], requests: int = 80, seed: int = 1, mood: float = 0.03
) -> list[Span]:
    """Spans of so many versions, ten minutes apart. `mood` is how much each stage differs from version to version."""
    random = np.random.default_rng(seed)
    spans, trace = [], 0
    for number in range(versions):
        version = of(number)
        moods = {
            (stage, hardware): np.exp(random.normal(0, mood))
            for stage in ("queue", "compute", "postprocess")
            for hardware in HARDWARE
        }
        common = {"version": f"1.{number}", "run": f"nightly-{number:02}"}
        for request in range(requests):
            trace += 1
            start = number * 10 * MINUTE + request * 500_000
            hardware = HARDWARE[random.random() < 0.4]
            model = "big" if random.random() < version.big else "small"
            tokens = version.tokens * np.exp(random.normal(0, 0.2))
            base = {"queue": 800, "compute": 80 * tokens * (2 if model == "big" else 1), "postprocess": 1500}
            at = start + 50
            children = []
            for place, (stage, ticks) in enumerate(base.items(), start=2):
                factor = (version.slower or {}).get((stage, hardware), 1.0) * moods[stage, hardware]
                duration = int(ticks * factor * np.exp(random.normal(0, 0.25)))
                children.append(
                    Span(trace, place, 1, at, duration, stage=stage, service="ranker", hardware=hardware, model=model, name=stage,
                         attributes=(("input_tokens", str(round(tokens))),), **common)
                )  # fmt: skip
                at += duration
            spans += [
                Span(trace, 1, 0, start, at - start + 50, service="ranker", hardware="", name="rank", **common),
                *children,
            ]
    return spans
