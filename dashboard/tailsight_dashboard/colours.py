"""Colours: one a stage, the same in every chart and view, told apart by colour-blind readers, on light and on dark.

The canonical stages and "no stage" have theirs by name; other names take one of OTHERS by a hash of the name, so that
it does not depend on what else is shown. tests/dashboard/test_colours.py measures how far apart they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

STAGES = {
    "preprocess": "#16c1f0",
    "serialize": "#9d6da7",
    "network": "#1668e0",
    "queue": "#de2b12",
    "compute": "#0a9f48",
    "gpu_kernel": "#a03655",
    "postprocess": "#e6ae08",
    "": "#b4b4b4",
}
OTHERS = ("#5c7cfa", "#c2792b", "#2a9d8f", "#c65b9b", "#7a8b1f", "#6b5bb5", "#4c93b8", "#b5523b")
NEUTRAL = "#808080"  # lines and outlines, readable on light and on dark
TYPICAL = "#8fa3ad"
VERDICTS = {"regression": "#d43d51", "inconclusive": "#c2792b", "pass": "#2a9d8f", "improvement": "#4c93b8"}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon2")


def colour(name: str) -> str:
    """Return a stage's colour (or another group's)."""
    return STAGES.get(name) or OTHERS[_number(name, len(OTHERS))]


def symbol(name: str) -> str:
    """Return a stage's marker, a second way to tell lines apart."""
    names = list(STAGES)
    return SYMBOLS[names.index(name) if name in STAGES else _number(name, len(SYMBOLS))]


def in_order(names: Iterable[str]) -> list[str]:
    """Sort stages as a request passes them: the canonical ones first, then the others by name, "no stage" last."""
    canonical = [name for name in STAGES if name]
    return sorted(names, key=lambda name: (not name, canonical.index(name) if name in canonical else 99, name))


def _number(name: str, of: int) -> int:
    return zlib.crc32(name.encode()) % of
