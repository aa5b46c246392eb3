"""A flame graph as one HTML file: no network, zoom and search, for the keyboard and for screen readers as well.

The page is flame.html beside this module. Names go in as JSON whose `<` are escaped, and come out as text nodes only,
so a function's name is never markup. A Content-Security-Policy forbids everything but the page's own script and style.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

from tailsight_analysis.profiles.difference import DifferenceEntry, FlameDifference
from tailsight_analysis.profiles.flame import Flame, FlameNode
from tailsight_analysis.profiles.model import State

MAX_NODES = 50_000
"""The smallest branches beyond are left out: a browser draws no more, and nobody sees them."""
_SIZE, _DETAIL, _BELOW = 2, 3, 4  # where a node has its time, its counts, and what is below it
_STATES = (State.RUNNING, State.GIL, State.WAITING, State.UNKNOWN)


def flame_html(flame: Flame, title: str = "Flame graph") -> str:
    """Write a flame graph. Colours: running, waiting for the GIL, waiting for something else; by their shares."""
    data = {
        "kind": "flame",
        "facts": f"{flame.samples:,} samples of {flame.requests:,} requests: {flame.ms:,.0f} ms",
        "root": _largest(_node(flame.root)),
        "entries": [],
    }
    return _page(title, data)


def difference_html(difference: FlameDifference, title: str = "Difference") -> str:
    """Write both classes as one graph: widths are times per request of both, colours which of them spends more."""
    sizes = (max(1, difference.requests_a), max(1, difference.requests_b))
    data = {
        "kind": "difference",
        "facts": (
            f"{difference.samples_a:,} samples of {difference.requests_a:,} {difference.name_a} requests against "
            f"{difference.samples_b:,} of {difference.requests_b:,} {difference.name_b}"
        ),
        "names": [difference.name_a, difference.name_b],
        "root": ["", *_largest(_both(difference.flame_a.root, difference.flame_b.root, sizes))[1:]],
        "entries": [_entry(entry) for entry in difference.functions if entry.certain][:20],
    }
    return _page(title, data)


def _entry(entry: DifferenceEntry) -> list[object]:
    return [entry.function, entry.file, entry.difference_ms, entry.low_ms, entry.high_ms, entry.p_value]


def _largest(root: list[Any]) -> list[Any]:
    """Leave out the smallest branches, so that there are MAX_NODES at most."""
    sizes: list[float] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        sizes.append(node[_SIZE])
        waiting.extend(node[_BELOW])
    if len(sizes) > MAX_NODES:
        least = sorted(sizes, reverse=True)[MAX_NODES]
        waiting = [root]
        while waiting:
            node = waiting.pop()
            node[_BELOW] = [child for child in node[_BELOW] if child[_SIZE] > least]
            waiting.extend(node[_BELOW])
    return root


def _node(node: FlameNode) -> list[Any]:
    below = [_node(child) for child in node.children]
    states = dict(node.by_state)
    counts = [states.get(state, 0) + sum(child[_DETAIL][at + 2] for child in below) for at, state in enumerate(_STATES)]
    return [node.function, node.file, node.total_ms, [node.total_samples, node.self_samples, *counts], below]


def _both(a: FlameNode | None, b: FlameNode | None, sizes: tuple[int, int]) -> list[Any]:
    """Lay two trees on each other, in ms per request."""
    some = a or b
    times = [(node.total_ms if node else 0.0) / size for node, size in zip((a, b), sizes, strict=True)]
    counts = [node.total_samples if node else 0 for node in (a, b)]
    below: dict[tuple[str, str], list[FlameNode | None]] = {}
    for at, node in enumerate((a, b)):
        for child in node.children if node else ():
            below.setdefault((child.function, child.file), [None, None])[at] = child
    return [
        some.function if some else "",
        some.file if some else "",
        times[0] + times[1],
        [*times, *counts],
        [_both(pair[0], pair[1], sizes) for pair in below.values()],
    ]


def _page(title: str, data: dict[str, Any]) -> str:
    page = files("tailsight_analysis.profiles").joinpath("flame.html").read_text(encoding="utf-8")
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    before, _, rest = page.partition("{{title}}")
    middle, _, after = rest.partition("{{data}}")
    return before + html.escape(title) + middle + packed + after
