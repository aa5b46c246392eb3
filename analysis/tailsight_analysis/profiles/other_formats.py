"""The insides of speedscope's and pyinstrument's JSON. Damaged ones raise ValueError, KeyError and the like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tailsight_analysis.profiles.model import Frame, Stack

_LATEST_S = 1 << 33  # the year 2242
_UNITS = {
    "none": ("samples", 1.0),
    "nanoseconds": ("ms", 1e-6),
    "microseconds": ("ms", 1e-3),
    "milliseconds": ("ms", 1.0),
    "seconds": ("ms", 1e3),
    "bytes": ("bytes", 1.0),
}


def speedscope_stacks(document: dict[str, Any]) -> tuple[str, Iterator[tuple[Stack, float]]]:
    """Return the unit, and the stacks of all profiles in the file, threads mostly."""
    frames = [
        Frame(str(frame["name"]), str(frame.get("file") or ""), int(frame.get("line") or 0))
        for frame in document["shared"]["frames"]
    ]
    units = {_UNITS[profile["unit"]][0] for profile in document["profiles"]}
    if len(units) != 1:
        raise ValueError(f"its profiles count {' and '.join(sorted(units)) or 'nothing'}")
    return units.pop(), _speedscope(document["profiles"], frames)


def _speedscope(profiles: list[dict[str, Any]], frames: list[Frame]) -> Iterator[tuple[Stack, float]]:
    for profile in profiles:
        scale = _UNITS[profile["unit"]][1]
        if profile["type"] == "sampled":
            for sample, weight in zip(profile["samples"], profile["weights"], strict=True):
                if any(at < 0 for at in sample):
                    raise ValueError("a sample names a frame below 0")
                if not weight < math.inf:
                    raise ValueError(f"a sample weighs {weight}")
                yield tuple(frames[at] for at in sample), weight * scale
        elif profile["type"] == "evented":
            for stack, weight in _evented(profile, frames):
                yield stack, weight * scale
        else:
            raise ValueError(f"a profile is of type {profile['type']!r}")


def _evented(profile: dict[str, Any], frames: list[Frame]) -> Iterator[tuple[Stack, float]]:
    stack: list[int] = []
    last = profile["startValue"]
    for event in profile["events"]:
        at, frame = event["at"], event["frame"]
        if frame < 0 or not at < math.inf:
            raise ValueError(f"an event has the frame {frame} and the time {at}")
        if at < last:
            raise ValueError(f"its events run backwards, from {last} to {at}")
        if stack and at > last:
            yield tuple(frames[each] for each in stack), at - last
        last = at
        if event["type"] == "O":
            stack.append(frame)
        elif not stack or stack.pop() != frame:
            raise ValueError(f"it closes frame {frame} at {at}, which is not the innermost open one")
    if stack:
        raise ValueError(f"{len(stack)} frames are never closed")


def pyinstrument_stacks(document: dict[str, Any]) -> Iterator[tuple[Stack, float]]:
    """Yield the stacks of a session (`frame_tree`), or of pyinstrument's JSON output (`root_frame`), in ms."""
    top = document.get("frame_tree") or document.get("root_frame")
    waiting: list[tuple[dict[str, Any], Stack]] = [(top, ())] if top else []
    while waiting:
        node, above = waiting.pop()
        frame = _pyinstrument_frame(node)
        stack = (*above, frame) if frame is not None else above
        children = node.get("children") or []
        own = float(node["time"]) - sum(float(child["time"]) for child in children)
        if not own < math.inf:
            raise ValueError(f"{node.get('identifier')!r} lasts {node['time']} s")
        if own > 1e-9:
            yield stack, own * 1e3
        waiting.extend((child, stack) for child in children)


def pyinstrument_start_ns(document: dict[str, Any]) -> int | None:
    """Return when a session began, or None where it does not say (JSON of old versions)."""
    session = document.get("session")
    start_s = (session if isinstance(session, dict) else document).get("start_time")
    if isinstance(start_s, bool) or not isinstance(start_s, int | float) or not 0 < start_s < _LATEST_S:
        return None
    return round(start_s * 1e9)


def _pyinstrument_frame(node: dict[str, Any]) -> Frame | None:
    """Return the function; None for the marks that stand for time of the function around, `[self]` for one."""
    if "identifier" in node:
        parts = str(node["identifier"]).split("\0")
        if len(parts) < 3:
            return None
        function, file, line = parts[:3]
    else:
        function, file, line = node["function"], node.get("file_path") or "", str(node.get("line_no") or 0)
    if function.startswith("[") and function.endswith("]"):
        return None
    return Frame(str(function), str(file), int(line) if line.isdigit() else 0)
