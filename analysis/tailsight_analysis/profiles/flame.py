"""Samples of many requests as one flame graph: a stage of 2 ms has one, although a request is seen in it twice at most.

A function called along one path is one node, wherever in it the samples fell; its line is the one of most of them.
Time is counted in samples; in ms it is what each stands for, 1/rate of its recording. Take how long a stage lasts from
its spans, and from here what ran in it.
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
    """A function as called along one path. Counts are samples; `by_state` divides `self_samples`, without zeros.

    `line` is the one that most of its samples were at, or in whose call; 0: not known.
    """

    function: str
    file: str
    self_samples: int
    total_samples: int
    by_state: tuple[tuple[State, int], ...]
    children: tuple[FlameNode, ...]
    self_ms: float
    total_ms: float
    line: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the node and what is below it as JSON-ready values."""
        return {
            "function": self.function,
            "file": self.file,
            "line": self.line,
            "self_samples": self.self_samples,
            "total_samples": self.total_samples,
            "self_ms": self.self_ms,
            "total_ms": self.total_ms,
            "by_state": {state.value: samples for state, samples in self.by_state},
            "children": [child.to_json() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class Flame:
    """Samples pooled over requests, as a tree. `root` is no function: its children are the outermost ones."""

    root: FlameNode
    samples: int
    requests: int  # that have a sample
    rate_hz: float  # of samples that do not say what time they stand for

    @property
    def ms(self) -> float:
        """The time that the samples stand for."""
        return self.root.total_ms

    def to_json(self) -> dict[str, object]:
        """Return the flame graph as JSON-ready values; times in ms."""
        return {
            "samples": self.samples,
            "requests": self.requests,
            "rate_hz": self.rate_hz,
            "ms": self.ms,
            "root": self.root.to_json(),
        }


class _Building:
    __slots__ = ("below", "lines", "ms", "states")

    def __init__(self) -> None:
        self.states: Counter[State] = Counter()
        self.lines: Counter[int] = Counter()
        self.ms = 0.0
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
            at.lines[frame.line] += 1
        at.states[sample.state] += 1
        at.ms += sample.ms or 1e3 / rate_hz
        count += 1
        if sample.trace_id:
            requests.update((sample.trace_id, *sample.also))
    return Flame(_finished(top, title, ""), count, len(requests), rate_hz)


def lines_of(flames: Iterable[Flame]) -> dict[tuple[str, str], int]:
    """Return the line of each function and file: the one that most samples were at, over all paths."""
    found: dict[tuple[str, str], Counter[int]] = {}
    waiting = [node for flame in flames for node in flame.root.children]
    while waiting:
        node = waiting.pop()
        found.setdefault((node.function, node.file), Counter())[node.line] += node.total_samples
        waiting += node.children
    return {name: _most(lines) for name, lines in found.items()}


def shown(stack: Stack) -> Stack:
    """Leave out the middle of a very deep stack."""
    if len(stack) <= MAX_DEPTH:
        return stack
    half = MAX_DEPTH // 2
    return (*stack[: MAX_DEPTH - half - 1], Frame(ELLIPSIS, ""), *stack[-half:])


def _finished(building: _Building, function: str, file: str) -> FlameNode:
    children = sorted(
        (_finished(below, *name) for name, below in building.below.items()),
        key=lambda node: (-round(node.total_ms, 6), node.function, node.file),
    )
    own = sum(building.states.values())
    return FlameNode(
        function=function,
        file=file,
        self_samples=own,
        total_samples=own + sum(child.total_samples for child in children),
        by_state=tuple((state, building.states[state]) for state in State if building.states[state]),
        children=tuple(children),
        self_ms=building.ms,
        total_ms=building.ms + sum(child.total_ms for child in children),
        line=_most(building.lines),
    )


def _most(lines: Counter[int]) -> int:
    return min(lines, key=lambda line: (-lines[line], line), default=0)
