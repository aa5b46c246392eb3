"""Samples of many requests as one flame graph: a stage of 2 ms has one, although a request is seen in it twice at most.

Lines are left out: a function called along one path is one node, wherever in it the samples fell. Time is counted in
samples; in ms it is samples ÷ rate. Take how long a stage lasts from its spans, and from here what ran in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tailsight_analysis.profiles.model import Frame, JoinedSample, Stack, State

MAX_DEPTH = 250
"""Of a deeper stack the middle is left out: its place is kept by a node called ELLIPSIS."""
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class FlameNode:
    """A function as called along one path. Counts are samples; `by_state` divides `self_samples`, without zeros."""

    function: str
    file: str
    self_samples: int
    total_samples: int
    by_state: tuple[tuple[State, int], ...]
    children: tuple[FlameNode, ...]

    def to_json(self, rate_hz: float) -> dict[str, object]:
        """Return the node and what is below it as JSON-ready values."""
        return {
            "function": self.function,
            "file": self.file,
            "self_samples": self.self_samples,
            "total_samples": self.total_samples,
            "self_ms": self.self_samples / rate_hz * 1e3,
            "total_ms": self.total_samples / rate_hz * 1e3,
            "by_state": {state.value: samples for state, samples in self.by_state},
            "children": [child.to_json(rate_hz) for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class Flame:
    """Samples pooled over requests, as a tree. `root` is no function: its children are the outermost ones."""

    root: FlameNode
    samples: int
    requests: int  # that have a sample
    rate_hz: float

    @property
    def ms(self) -> float:
        """Samples ÷ rate."""
        return self.samples / self.rate_hz * 1e3

    def to_json(self) -> dict[str, object]:
        """Return the flame graph as JSON-ready values; times in ms."""
        return {
            "samples": self.samples,
            "requests": self.requests,
            "rate_hz": self.rate_hz,
            "ms": self.ms,
            "root": self.root.to_json(self.rate_hz),
        }


class _Building:
    __slots__ = ("below", "states")

    def __init__(self) -> None:
        self.states: Counter[State] = Counter()
        self.below: dict[tuple[str, str], _Building] = {}


def flame_of(samples: Iterable[JoinedSample], rate_hz: float, *, title: str = "") -> Flame:
    """Pool samples into a tree. The largest branches come first. `title` names the root; `rate_hz` is in samples/s."""
    top = _Building()
    requests: set[str] = set()
    count = 0
    for sample in samples:
        at = top
        for frame in shown(sample.stack):
            at = at.below.setdefault((frame.function, frame.file), _Building())
        at.states[sample.state] += 1
        count += 1
        if sample.trace_id:
            requests.update((sample.trace_id, *sample.also))
    return Flame(_finished(top, title, ""), count, len(requests), rate_hz)


def shown(stack: Stack) -> Stack:
    """Leave out the middle of a very deep stack."""
    if len(stack) <= MAX_DEPTH:
        return stack
    half = MAX_DEPTH // 2
    return (*stack[: MAX_DEPTH - half - 1], Frame(ELLIPSIS, ""), *stack[-half:])


def _finished(building: _Building, function: str, file: str) -> FlameNode:
    children = sorted(
        (_finished(below, *name) for name, below in building.below.items()),
        key=lambda node: (-node.total_samples, node.function, node.file),
    )
    own = sum(building.states.values())
    return FlameNode(
        function=function,
        file=file,
        self_samples=own,
        total_samples=own + sum(child.total_samples for child in children),
        by_state=tuple((state, building.states[state]) for state in State if building.states[state]),
        children=tuple(children),
    )
