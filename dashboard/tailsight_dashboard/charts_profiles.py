"""What the flame graph in the browser draws: pure functions from flame graphs to columns of plain data.

Nodes are in the order of the tree, parents before what is below them; a node is its place in the columns. Texts go in
as they are, and are only ever texts there (flame.js).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.flames import StageDifference
from tailsight_analysis.profiles import DifferenceEntry, Flame, FlameNode, State
from tailsight_dashboard.format import p_value, signed_duration

MOST_NODES = 10_000  # the smallest branches beyond are left out
WHOLE = "all"
Name = tuple[str, str]
Sides = tuple[FlameNode | None, ...]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A node of one flame graph, or two that lie on each other; `parent` is the place of the one above, −1: none."""

    sides: Sides
    parent: int

    @property
    def name(self) -> Name:
        node = next(node for node in self.sides if node)
        return (node.function, node.file) if self.parent >= 0 else (WHOLE, "")

    @property
    def line(self) -> int:
        """Return the line of the side with more samples."""
        return max((node for node in self.sides if node), key=lambda node: node.total_samples).line


def of_states(flame: Flame) -> dict[str, Any]:
    """Return a flame graph whose widths are times, and whose colours are what the threads did in their samples."""
    states = _below(flame.root)
    drawn, left_out = _largest((flame.root,), lambda sides: _ms(sides[0]))
    nodes = [node for each in drawn if (node := each.sides[0])]
    return {
        "kind": "states",
        "left_out": left_out,
        **_tree(drawn),
        "ms": [_rounded(node.total_ms) for node in nodes],
        "own_ms": [_rounded(node.self_ms) for node in nodes],
        "own": [node.self_samples for node in nodes],
        **{state.value: [states[id(node)][at] for node in nodes] for at, state in enumerate(State)},
    }


def of_difference(found: StageDifference) -> dict[str, Any]:
    """Return two flame graphs laid on each other: widths are the time per request of both, colours who takes more."""
    result = found.difference
    requests = (max(1, result.requests_a), max(1, result.requests_b))

    def per_request(sides: Sides) -> list[float]:
        return [_ms(node) / of for node, of in zip(sides, requests, strict=True)]

    def size(sides: Sides) -> float:
        return sum(per_request(sides))

    drawn, left_out = _largest((result.flame_a.root, result.flame_b.root), size)
    tree = _tree(drawn)
    entries = {(each.function, each.file): each for each in result.functions}
    return {
        "kind": "difference",
        "left_out": left_out,
        "names_of": [result.name_a, result.name_b],
        **tree,
        "ms": [[_rounded(ms) for ms in per_request(each.sides)] for each in drawn],
        "samples": [[node.total_samples if node else 0 for node in each.sides] for each in drawn],
        "entries": [_said(entries.get((function, file))) for function, file in tree["names"]],
    }


def state_totals(flame: Flame) -> Mapping[State, int]:
    """Add up the samples of a flame graph by what their threads did."""
    return dict(zip(State, _below(flame.root)[id(flame.root)], strict=True))


def _said(entry: DifferenceEntry | None) -> tuple[str, bool] | None:
    if entry is None:
        return None
    p = p_value(entry.p_value)
    bounds = f"{signed_duration(entry.low_ms)} to {signed_duration(entry.high_ms)}"
    return f"{signed_duration(entry.difference_ms)} [{bounds}], p {p if p.startswith('<') else f'= {p}'}", entry.certain


def _ms(node: FlameNode | None) -> float:
    return node.total_ms if node else 0.0


def _rounded(ms: float) -> float:
    return round(ms, 6)


def _tree(drawn: list[_Drawn]) -> dict[str, Any]:
    names: dict[Name, int] = {}
    return {
        "parent": [each.parent for each in drawn],
        "name": [names.setdefault(each.name, len(names)) for each in drawn],
        "line": [each.line for each in drawn],
        "names": list(names),
    }


def _largest(roots: Sides, size: Callable[[Sides], float]) -> tuple[list[_Drawn], int]:
    """List the nodes that are drawn, parents first and the larger before the smaller, and count those left out."""
    sizes = sorted((size(sides) for sides in _all(roots)), reverse=True)
    least = sizes[MOST_NODES] if len(sizes) > MOST_NODES else -1.0
    drawn: list[_Drawn] = []
    waiting: list[tuple[Sides, int]] = [(roots, -1)]
    while waiting:
        sides, parent = waiting.pop()
        drawn.append(_Drawn(sides, parent))
        here = len(drawn) - 1
        below = sorted(_pairs(sides), key=size)  # the largest last: it is taken first
        waiting += [(each, here) for each in below if size(each) > least]
    return drawn, len(sizes) - len(drawn)


def _all(roots: Sides) -> Iterator[Sides]:
    waiting = [roots]
    while waiting:
        sides = waiting.pop()
        yield sides
        waiting += _pairs(sides)


def _pairs(sides: Sides) -> list[Sides]:
    """Return what is below, the same function of both sides together."""
    below: dict[Name, list[FlameNode | None]] = {}
    for at, node in enumerate(sides):
        for child in node.children if node else ():
            below.setdefault((child.function, child.file), [None] * len(sides))[at] = child
    return [tuple(each) for each in below.values()]


def _below(root: FlameNode) -> dict[int, list[int]]:
    """Count the samples of each node and of all below it by state, by the node's identity."""
    found: dict[int, list[int]] = {}
    order = [node for (node,) in _all((root,)) if node]
    for node in reversed(order):
        own = dict(node.by_state)
        counts = [own.get(state, 0) for state in State]
        for child in node.children:
            counts = [one + other for one, other in zip(counts, found[id(child)], strict=True)]
        found[id(node)] = counts
    return found
