"""Profiles of other tools, read and written: speedscope, collapsed stacks; and pyinstrument, read.

Speedscope's format: its src/lib/file-format-spec.ts. Collapsed stacks: `root;child;leaf 12`, a line a stack (Brendan
Gregg's flamegraph.pl; py-spy's `raw`, whose frames are `function (file:line)`). html.py writes the graph to look at.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from tailsight_analysis.profiles.errors import UnreadableProfileError
from tailsight_analysis.profiles.flame import Flame, FlameNode
from tailsight_analysis.profiles.model import Frame, Stack
from tailsight_analysis.profiles.other_formats import pyinstrument_stacks, pyinstrument_start_ns, speedscope_stacks

MAX_BYTES = 512 << 20
MAX_DEPTH = 5_000
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")
_COLLAPSED = re.compile(r".+ \d{1,15}\r?")
_SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_ACCEPTED = "speedscope JSON, collapsed stacks and pyinstrument JSON are read"


@dataclass(frozen=True, slots=True)
class WeighedStack:
    """A stack, and how much of the profile it is, in the profile's unit."""

    stack: Stack
    weight: float


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile that another tool wrote. `unit`: "samples", "ms" or "bytes". Each stack is there once."""

    format: str  # speedscope, collapsed or pyinstrument
    name: str
    unit: str
    stacks: tuple[WeighedStack, ...]
    started_ns: int | None = None  # Unix time; None where the file does not say it (only pyinstrument's do)


def read_profile(stream: BinaryIO, name: str = "") -> ProfileFile:
    """Read a profile, its format found by content. Raises UnreadableProfileError."""
    raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise UnreadableProfileError(f"{name or 'the profile'} is larger than {MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableProfileError(f"{name or 'the profile'} is not text in UTF-8: {_ACCEPTED}") from None
    # Also a function's name can begin with a brace: what ends in a count is a stack, and never JSON.
    if not text.lstrip().startswith(("{", "[")) or _COLLAPSED.fullmatch(text.strip().partition("\n")[0]):
        return _profile("collapsed", name, "samples", _collapsed(text, name))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers with thousands of digits
        raise UnreadableProfileError(f"{name or 'the profile'} is damaged JSON: {error}") from None
    try:
        if isinstance(document, dict) and "profiles" in document and "shared" in document:
            unit, stacks = speedscope_stacks(document)
            return _profile("speedscope", name or str(document.get("name") or ""), unit, stacks)
        if isinstance(document, dict) and ("frame_tree" in document or "root_frame" in document):
            found = _profile("pyinstrument", name, "ms", pyinstrument_stacks(document))
            return replace(found, started_ns=pyinstrument_start_ns(document))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UnreadableProfileError(f"{name or 'the profile'} is damaged: {error}") from error
    if isinstance(document, list) or "traceEvents" in document:
        raise UnreadableProfileError(f"{name or 'the profile'} is a Chrome trace, with times and not sums: {_ACCEPTED}")
    keys = ", ".join(sorted(map(str, document))[:5])
    raise UnreadableProfileError(f"{name or 'the profile'} is JSON of another kind, with the keys {keys}: {_ACCEPTED}")


def to_speedscope(flame: Flame, name: str = "tailsight") -> str:
    """Write a flame graph as speedscope's JSON, in ms. Raises nothing."""
    frames: dict[tuple[str, str], int] = {}
    samples: list[list[int]] = []
    weights: list[float] = []
    for path in _paths(flame.root):
        samples.append([frames.setdefault((node.function, node.file), len(frames)) for node in path])
        weights.append(path[-1].self_ms)
    document = {
        "$schema": _SPEEDSCOPE_SCHEMA,
        "exporter": "tailsight",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {
            "frames": [{"name": function} | ({"file": file} if file else {}) for function, file in frames],
        },
        "profiles": [
            {
                "type": "sampled",
                "name": name,
                "unit": "milliseconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        ],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def to_collapsed(flame: Flame) -> str:
    """Write a flame graph as collapsed stacks, in samples. What divides frames and lines is replaced in names."""
    return "".join(
        ";".join(_plain(f"{node.function} ({node.file})" if node.file else node.function) for node in path)
        + f" {path[-1].self_samples}\n"
        for path in _paths(flame.root)
    )


def _profile(kind: str, name: str, unit: str, stacks: Iterator[tuple[Stack, float]]) -> ProfileFile:
    sums: defaultdict[Stack, float] = defaultdict(float)
    for stack, weight in stacks:
        if len(stack) > MAX_DEPTH:
            raise UnreadableProfileError(f"{name or 'the profile'} has a stack deeper than {MAX_DEPTH:,} frames")
        if stack and weight > 0:
            sums[stack] += weight
    return ProfileFile(kind, name, unit, tuple(WeighedStack(stack, weight) for stack, weight in sums.items()))


def _collapsed(text: str, name: str) -> Iterator[tuple[Stack, float]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack or not re.fullmatch(r"\d{1,15}", count):
            raise UnreadableProfileError(
                f"{name or 'the profile'} line {number} is {line[:40]!r}: expected `root;child;leaf COUNT`. {_ACCEPTED}"
            )
        yield tuple(_frame(part) for part in stack.split(";")), float(count)


def _frame(text: str) -> Frame:
    found = _FRAME.fullmatch(text)
    return Frame(found["function"], found["file"], int(found["line"] or 0)) if found else Frame(text, "")


def _plain(text: str) -> str:
    return text.replace(";", ",").replace("\n", " ").replace("\r", " ")


def _paths(root: FlameNode) -> Iterator[tuple[FlameNode, ...]]:
    """Yield each path that has samples of its own, without the root."""
    waiting: list[tuple[FlameNode, ...]] = [(child,) for child in reversed(root.children)]
    while waiting:
        path = waiting.pop()
        if path[-1].self_samples:
            yield path
        waiting.extend((*path, child) for child in reversed(path[-1].children))
