"""Samples of stacks, from the store: pooled over all requests of a stage, and two classes or runs beside each other."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles import (
    DifferenceEntry,
    Flame,
    FlameDifference,
    FlameNode,
    Frame,
    JoinedSample,
    Match,
    State,
    difference,
    flame_of,
    lines_of,
)
from tailsight_analysis.queries import query
from tailsight_analysis.scope import NS_PER_MS, Filters, Window, as_names, iso, scope_parameters
from tailsight_storage import QueryFailedError, Store

LEAST_SAMPLES = 50
MAX_ROWS = 1_000_000
MAX_SAMPLES = 5_000_000
_UNKNOWN_TABLE = 60
_FRAME = re.compile(r"(.* \(.*):(\d+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedProfile:
    """A recording that samples came from. `*_ms` of the fit are None where none was made."""

    id: str
    started: str
    duration_ms: float
    service: str
    host: str
    process: int
    rate_hz: float
    trigger: str
    source: str
    samples: int
    joined: int
    ambiguous: int
    lost: int
    offset_ms: float | None
    agreement: float | None
    by_chance: float | None
    margin: float | None
    trusted: bool
    notes: tuple[str, ...]

    @property
    def started_ns(self) -> int:
        """When it started, in Unix nanoseconds, to the millisecond."""
        return round(datetime.fromisoformat(self.started).timestamp() * 1e3) * NS_PER_MS

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/profiles.md."""
        return {name: getattr(self, name) for name in self.__slots__} | {"notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class StageFlame:
    """A flame graph of the samples in a window, and the recordings that they are of, the latest first."""

    flame: Flame
    profiles: tuple[RecordedProfile, ...]


@dataclass(frozen=True, slots=True)
class StageDifference:
    """Two classes of requests, or two runs, and the recordings that their samples are of."""

    difference: FlameDifference
    profiles: tuple[RecordedProfile, ...]

    @property
    def functions(self) -> tuple[DifferenceEntry, ...]:
        """Return those that set the sides apart: without what is on every stack of both, which is the stage itself."""
        return tuple(each for each in self.difference.functions if min(each.a.share, each.b.share) < 1)

    @property
    def everywhere(self) -> tuple[DifferenceEntry, ...]:
        """Return the functions on every stack of both sides, the outermost first: each differs as the stage does."""
        return tuple(each for each in self.difference.functions if min(each.a.share, each.b.share) >= 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/profiles.md."""
        return self.difference.to_json() | {
            "functions": [each.to_json() for each in self.functions],
            "everywhere": [each.to_json() for each in self.everywhere],
        }


@dataclass(frozen=True, slots=True)
class ProfiledStage:
    """A stage of a service of which there are samples; `stage` is "" for those that ran between stages.

    `samples` can be shown in flame graphs; `ambiguous` ones may be of several stages, and are in none.
    """

    stage: str
    service: str
    samples: int
    ambiguous: int
    requests: int  # that have a sample
    runs: tuple[str, ...]  # that the samples are of, by name, a thousand at most

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {name: getattr(self, name) for name in self.__slots__} | {"runs": list(self.runs)}


@dataclass(frozen=True, slots=True)
class FlameSideOf:
    """One side of a difference: a class of requests, or runs. `name` is what it is called."""

    name: str
    classes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionTotals:
    """A function, over all stacks: samples in which it ran itself, and in which it or what it called ran."""

    function: str
    file: str
    self_samples: int
    total_samples: int
    gil_samples: int  # of its own, those that waited for the GIL
    waiting_samples: int  # of its own, those that waited for something else
    self_ms: float
    total_ms: float
    line: int = 0  # that most of its samples were at, or in whose call; 0: not known

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/profiles.md."""
        return {name: getattr(self, name) for name in self.__slots__}


def top_functions(flame: Flame) -> list[FunctionTotals]:
    """Add up functions over all paths, those with most time of their own first; recursion counts once."""
    own: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    own_ms: defaultdict[tuple[str, str], float] = defaultdict(float)
    total_ms: defaultdict[tuple[str, str], float] = defaultdict(float)
    by_state: dict[State, Counter[tuple[str, str]]] = {State.GIL: Counter(), State.WAITING: Counter()}
    waiting: list[tuple[FlameNode, frozenset[tuple[str, str]]]] = [(node, frozenset()) for node in flame.root.children]
    while waiting:
        node, above = waiting.pop()
        name = (node.function, node.file)
        own[name] += node.self_samples
        own_ms[name] += node.self_ms
        if name not in above:
            total[name] += node.total_samples
            total_ms[name] += node.total_ms
        for state, samples in node.by_state:
            if state in by_state:
                by_state[state][name] += samples
        below = above | {name}
        waiting += [(child, below) for child in node.children]
    lines = lines_of((flame,))
    gil, waits = by_state[State.GIL], by_state[State.WAITING]
    found = [
        FunctionTotals(*name, own[name], total[name], gil[name], waits[name], own_ms[name], total_ms[name], lines[name])
        for name in total
    ]
    return sorted(found, key=lambda each: (-round(each.self_ms, 6), -round(each.total_ms, 6), each.function, each.file))


def stage_flame(
    store: Store, window: Window, filters: Filters, *, classes: Sequence[str] = (), outside: bool = False
) -> StageFlame:
    """Pool the samples of the window, with `outside` also those that ran for no request.

    Raises NotEnoughDataError below LEAST_SAMPLES, and StorageError.
    """
    profiles = recorded_profiles(store, window, filters)
    rows = _stacks(store, window, filters, classes, outside=outside)
    samples = sum(int(row["samples"]) for row in rows)
    _check_floor(samples, "of that")
    flame = flame_of(_joined(rows, profiles), _rate(profiles), title=filters.label or "all stages")
    return StageFlame(flame, profiles)


def stage_difference(store: Store, window: Window, filters: Filters, a: FlameSideOf, b: FlameSideOf) -> StageDifference:
    """Compare two sides. Raises NotEnoughDataError where either has too few samples, and StorageError."""
    profiles = recorded_profiles(store, window, filters)
    ids = [profile.id for profile in profiles]
    sides = []
    for side in (a, b):
        narrowed = replace(filters, run=side.runs) if side.runs else filters
        samples = list(_joined(_stacks(store, window, narrowed, side.classes), profiles))
        served = _rows(
            store,
            "profile_class",
            **scope_parameters(window, narrowed),
            profile=ids,
            **{"class": list(side.classes)},
            narrowed=int(bool(filters.model or filters.hardware or filters.version)),
            most=MAX_ROWS,
        )
        requests = {str(row["trace_id"]) for row in served} | {each.trace_id for each in samples if each.trace_id}
        sides.append((samples, requests))
    (samples_a, requests_a), (samples_b, requests_b) = sides
    if a.classes and b.classes:
        # of several recordings, whose tails begin elsewhere, a request may be in both: it is of the tail
        both = requests_a & requests_b
        if "tail" in b.classes:
            samples_a, requests_a = _without(samples_a, both), requests_a - both
        else:
            samples_b, requests_b = _without(samples_b, both), requests_b - both
    for samples, side in ((samples_a, a), (samples_b, b)):
        _check_floor(len(samples), f"of {side.name}")
    found = difference(
        samples_a,
        samples_b,
        _rate(profiles),
        name_a=a.name,
        name_b=b.name,
        requests_a=sorted(requests_a),
        requests_b=sorted(requests_b),
    )
    return StageDifference(found, profiles)


def recorded_profiles(store: Store, window: Window, filters: Filters) -> tuple[RecordedProfile, ...]:
    """List the recordings that have samples there, the latest first; none in a store that an older collector made."""
    rows = _rows(store, "profile_facts", **_scope(window, filters))
    return tuple(
        RecordedProfile(
            started=iso(int(row.pop("started_ms")) * NS_PER_MS),
            notes=tuple(row.pop("notes")),
            trusted=bool(row.pop("trusted")),
            **row,
        )
        for row in rows
    )


def profiled_stages(store: Store, window: Window, filters: Filters, trace_id: str = "") -> tuple[ProfiledStage, ...]:
    """List the stages that have samples there, of all requests or of one, those with most first. Raises StorageError.

    `trace_id`: 32 hexadecimal digits. A batch's samples are of each of its requests.
    """
    scope = _scope(window, filters)
    del scope["profile"], scope["outside"]
    rows = _rows(store, "profile_stages", **scope, trace=trace_id)
    return tuple(ProfiledStage(runs=tuple(row.pop("runs")), **row) for row in rows)


def profiled_time(store: Store, run: str | Sequence[str] | None = None) -> Window | None:
    """Window of all samples of stacks, or of one or several runs; None where there are none."""
    found = _rows(store, "profile_time", run=as_names(run))
    if not found or not found[0]["samples"]:
        return None
    return Window(int(found[0]["first_ns"]), int(found[0]["last_ns"]) + 1)


@lru_cache(maxsize=100_000)
def frame_of(text: str) -> Frame:
    """Read a frame as it is stored: `function (file:line)`."""
    match = _FRAME.fullmatch(text)
    if not match:
        return Frame(text, "", 0)
    whole = match[1]
    # the parenthesis that the last one closes: a folder may have a pair of its own, and so may a function
    depth = 1
    for at in range(len(whole) - 1, 0, -1):
        depth += (whole[at] == ")") - (whole[at] == "(")
        if not depth and whole[at - 1] == " ":
            return Frame(whole[: at - 1], whole[at + 1 :], int(match[2]))
    function, _, file = whole.rpartition(" (")
    return Frame(function, file, int(match[2]))


def text_of(frame: Frame) -> str:
    """Write a frame as it is stored."""
    return f"{frame.function} ({frame.file}:{frame.line})"


def _scope(window: Window, filters: Filters) -> dict[str, object]:
    limits = {name: values for name, values in filters.parameters().items() if name != "region"}
    return {"since_ns": window.since_ns, "until_ns": window.until_ns, "profile": [], "outside": 1, **limits}


def _stacks(
    store: Store, window: Window, filters: Filters, classes: Sequence[str], *, outside: bool = False
) -> list[dict[str, Any]]:
    scope = _scope(window, filters) | {"class": list(classes), "outside": int(outside)}
    rows = _rows(store, "profile_stacks", **scope, most=MAX_ROWS + 1)
    if len(rows) > MAX_ROWS or sum(int(row["samples"]) for row in rows) > MAX_SAMPLES:
        raise QuestionError("that are more samples than a flame graph is made of: choose a stage or a shorter window")
    return rows


def _joined(rows: Iterable[dict[str, Any]], profiles: Sequence[RecordedProfile]) -> Iterable[JoinedSample]:
    """Yield the samples, each with the time that it stands for.

    That is 1/rate of its recording; where several recordings saw the process at once, each tells a part of the time.
    """
    ms_of = {profile.id: 1e3 / profile.rate_hz for profile in profiles if profile.rate_hz > 0}
    beside = _beside(profiles)
    for row in rows:
        first_ns = int(row["first_ns"])
        at_once = 1 + sum(begun <= first_ns < ended for begun, ended in beside.get(row["profile"], ()))
        sample = JoinedSample(
            time_ns=first_ns,
            thread_id=int(row["thread"]),
            stack=tuple(frame_of(str(text)) for text in row["stack"]),
            state=State(row["state"]),
            match=Match(row["match"]),
            trace_id=str(row["trace_id"]),
            stage=str(row["stage"]),
            request_class=str(row["class"]),
            run=str(row["run"]),
            also=tuple(row["also"]),
            ms=ms_of.get(row["profile"], 0.0) / at_once,
        )
        for _ in range(int(row["samples"])):
            yield sample


def _beside(profiles: Sequence[RecordedProfile]) -> dict[str, list[tuple[int, int]]]:
    """Return of each recording when others of the same process went on, as (begin, end) in Unix nanoseconds."""
    of_process: defaultdict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    for each in profiles:
        if each.process and each.trigger != "import":
            ended_ns = each.started_ns + int(each.duration_ms * NS_PER_MS)
            of_process[each.host, each.process].append((each.started_ns, ended_ns, each.id))
    found: dict[str, list[tuple[int, int]]] = {}
    for spans in of_process.values():
        for begun, ended, own in spans:
            if others := [(b, e) for b, e, other in spans if other != own and b < ended and e > begun]:
                found[own] = others
    return found


def _without(samples: Sequence[JoinedSample], requests: set[str]) -> list[JoinedSample]:
    return [each for each in samples if each.trace_id not in requests]


def _check_floor(samples: int, what: str) -> None:
    if samples < LEAST_SAMPLES:
        missing = LEAST_SAMPLES - samples
        raise NotEnoughDataError(
            f"{samples} samples {what} are too few to say which code runs: {missing} more are needed", missing
        )


def _rate(profiles: Sequence[RecordedProfile]) -> float:
    """Return the rate that most samples were taken at: to be said. 100 Hz where no recording says."""
    rates = sorted((profile.samples, profile.rate_hz) for profile in profiles if profile.rate_hz > 0)
    return rates[-1][1] if rates else 100.0


def _rows(store: Store, name: str, **parameters: object) -> list[dict[str, Any]]:
    try:
        return store.ask(query(name), **parameters)
    except QueryFailedError as error:
        if error.code == _UNKNOWN_TABLE:
            return []
        raise
