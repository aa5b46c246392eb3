"""Profiles of other tools as ours: stacks with weights, that belong to no span, become samples of a recording."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from tailsight_analysis.errors import AnalysisError
from tailsight_analysis.flames import text_of
from tailsight_analysis.profiles import ProfileFile, read_profile
from tailsight_cli._errors import CommandError
from tailsight_storage.profile_shape import MAX_DEPTH, MAX_FRAME_LENGTH

MS_RATE_HZ = 1000.0  # of a profile in milliseconds: a sample is one of them
_MOST = 1 << 32  # samples of one stack, or ms: 49 days
_NOT_TIMED_RATE_HZ = 100.0


def read_profile_file(raw: bytes) -> ProfileFile:
    """Read a file of any format that is known. Raises CommandError."""
    try:
        return read_profile(BytesIO(raw))
    except AnalysisError as error:
        raise CommandError(str(error)) from None


def profile_of_file(
    file: ProfileFile, *, service: str = "", run: str = "", stage: str = "", started_ns: int | None = None
) -> dict[str, Any]:
    """Make the document of a file's profile, for `ProfilePlace.keep` or `tailsight_storage.profiles.insert_profile`.

    `started_ns`: when it was taken, in Unix nanoseconds, where the file does not say it. Weights are rounded to
    samples, and those that round to none are left out and counted in a note. Raises CommandError where the unit is no
    time, and where nobody says when it was.
    """
    if file.unit not in ("samples", "ms"):
        raise CommandError(
            f"{file.name or 'the profile'} counts {file.unit}, and a flame graph here is of time or samples"
        )
    started_ns = started_ns if file.started_ns is None else file.started_ns
    if started_ns is None:
        raise CommandError(
            f"{file.name or 'the profile'} does not say when it was taken: give --start, as in --start "
            "2026-11-23T08:30:00Z"
        )
    rate_hz = MS_RATE_HZ if file.unit == "ms" else _NOT_TIMED_RATE_HZ
    frames: dict[str, int] = {}
    stacks: dict[tuple[int, ...], int] = {}
    counts: dict[int, int] = {}
    left_out = 0
    for each in file.stacks:
        if not each.weight < _MOST:
            raise CommandError(
                f"{file.name or 'the profile'} has a stack of {each.weight:g} {file.unit}: that is no profile"
            )
        count = round(each.weight)
        if count < 1:
            left_out += 1
            continue
        texts = (text_of(frame)[:MAX_FRAME_LENGTH] for frame in each.stack[-MAX_DEPTH:])
        stack = tuple(frames.setdefault(text, len(frames)) for text in texts)
        number = stacks.setdefault(stack, len(stacks))
        counts[number] = counts.get(number, 0) + count
    samples = sum(counts.values())
    notes = [f"read from {file.format}{f' ({file.name})' if file.name else ''}"]
    if file.unit == "samples":
        notes.append(f"it does not say how often samples were taken: times are those of {_NOT_TIMED_RATE_HZ:g} Hz")
    if left_out:
        unit = "sample" if file.unit == "samples" else file.unit
        notes.append(f"left out as less than half a {unit}: {left_out:,} stacks")
    place = {
        "trace_id": "", "span_id": "", "stage": stage, "service": service, "host": "", "version": "", "run": run,
        "hardware": "", "model": "", "process": 0, "thread": 0, "class": "", "match": "none", "also": [],
    }  # fmt: skip
    said = {
        "started_ns": started_ns, "duration_ms": samples / rate_hz * 1e3 if file.unit == "ms" else 0.0,
        "service": service, "host": "", "process": 0, "rate_hz": rate_hz, "trigger": "import", "source": file.format,
        "samples": samples, "joined": 0, "ambiguous": 0, "lost": 0, "offset_ms": None, "agreement": None,
        "by_chance": None, "margin": None, "trusted": False, "notes": [note[:1000] for note in notes],
    }  # fmt: skip
    rows = list(counts.items())
    return {
        "profile": said,
        "frames": list(frames),
        "stacks": [list(stack) for stack in stacks],
        "places": [place] if rows else [],
        "samples": {
            "time_ns": [started_ns] * len(rows),
            "place": [0] * len(rows),
            "stack": [number for number, _ in rows],
            "state": ["unknown"] * len(rows),
            "count": [count for _, count in rows],
        },
        "requests": {"trace_id": [], "class": [], "run": [], "duration_ns": []},
    }
