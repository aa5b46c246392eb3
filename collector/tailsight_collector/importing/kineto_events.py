"""The events of a PyTorch profiler's (Kineto's) file: which of them matter, and what each says, exactly.

    { "schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", …}, …],
      "distributedInfo": {"rank": 0, "world_size": 8, "backend": "nccl"},
      "traceEvents": [ {"ph": "X", "cat": "kernel", "name": "…", "pid": 0, "tid": 7, "ts": µs, "dur": µs, "args": {…}},
                       … ],
      "baseTimeNanoseconds": 1727743122000000000 }

What stands around the events may come before or after them. `ts` counts microseconds from baseTimeNanoseconds, or Unix
time where there is none; a number has more digits than a double holds, so it is read as a decimal. Source of the
names: libkineto's ActivityType.h and output_json.cpp; older PyTorch (1.8) wrote "Kernel", "Memcpy", "Runtime", ….
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, BinaryIO

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.json_reader import JsonReader, RecordError
from tailsight_collector.importing.records import UnfitError, dict_of, objects, short, text_of
from tailsight_collector.importing.registry import Report
from tailsight_collector.importing.times import MOST_NS, TimeError, scaled_ns

US = 1_000
EVENTS = "traceEvents"
AROUND = frozenset({"baseTimeNanoseconds", "deviceProperties", "distributedInfo"})
STEP = re.compile(r"ProfilerStep\s*#\s*(\d{1,18})\s*")
Thread = tuple[int | str, int | str]
"""A process and a thread, as the file names them."""


class Kind(Enum):
    """What an event is."""

    ANNOTATION = "annotation"
    CALL = "call"
    GPU = "gpu"
    OPERATOR = "operator"


# Category → what it is, and of GPU work the `gpu.op`.
CATEGORIES: dict[str, tuple[Kind, str]] = {
    "user_annotation": (Kind.ANNOTATION, ""),
    "cpu_op": (Kind.OPERATOR, ""),
    "operator": (Kind.OPERATOR, ""),
    "kernel": (Kind.GPU, "kernel"),
    "gpu_memcpy": (Kind.GPU, "memcpy"),
    "memcpy": (Kind.GPU, "memcpy"),
    "gpu_memset": (Kind.GPU, "memset"),
    "memset": (Kind.GPU, "memset"),
    **dict.fromkeys(
        ("cuda_runtime", "cuda_driver", "runtime", "hip_runtime", "xpu_runtime", "xpu_driver"), (Kind.CALL, "")
    ),
    **dict.fromkeys(("mtia_runtime", "privateuse1_runtime", "privateuse1_driver"), (Kind.CALL, "")),
}
# Complete events that say something else.
_OTHERS = {
    "gpu_user_annotation": "gpu_user_annotation, left out: the annotation itself is kept",
    "python_function": "python_function (the Python stack), left out",
    "cuda_sync": "cuda_sync (waiting on the device), left out",
    "cuda_event": "cuda_event, left out",
    "overhead": "overhead of the profiler, left out",
    "trace": "the profiler's own span (Trace), left out",
}
_PHASES = {
    "M": "metadata events, left out",
    "C": "counter events, left out",
    **dict.fromkeys("iIRP", "instant events, left out"),
    **dict.fromkeys("stf", "flow events (arrows), left out: correlation says the same"),
}
# Of other keys that stand twice the last one counts: Kineto itself writes such.
_MATTER = frozenset(
    {"ph", "cat", "name", "pid", "tid", "ts", "dur", "args", "device", "stream", "correlation", "bytes"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event that matters. Times are nanoseconds from the file's own zero."""

    index: int
    kind: Kind
    op: str
    name: str
    thread: Thread
    start_ns: int
    end_ns: int
    correlation: int
    args: dict[str, Any]


@dataclass(slots=True)
class Around:
    """What stands around the events. `devices`: the names by id."""

    base_ns: int = 0
    devices: dict[int, str] = field(default_factory=dict)
    rank: int | None = None
    world_size: int | None = None
    backend: str | None = None


def events(stream: BinaryIO, around: Around, report: Report) -> Iterator[Event]:
    """Yield what matters, in the order of the file, and fill `around`; the same each time that the file is read.

    What cannot be kept is refused with its reason, what has no place among spans is noted. Raises BadRequestError where
    the file as a whole cannot be read.
    """
    reader = JsonReader(stream, parse_float=Decimal)
    has_events = False
    for number in reader.documents():
        if number:
            raise BadRequestError("a second document follows the profile: give each a file of its own")
        if reader.peek() == "[":
            has_events = True
            yield from _list(reader, "", report)
            continue
        for key in reader.members():
            if key == EVENTS:
                has_events = True
                if reader.peek() != "[":
                    raise BadRequestError(f"its {EVENTS} is no list")
                yield from _list(reader, EVENTS, report)
            elif key in AROUND:
                try:
                    _note_around(around, key, reader.value(), report)
                except (RecordError, TimeError, UnfitError) as error:
                    raise BadRequestError(f"its {key} cannot be read: {error}") from None
    if not has_events:
        raise BadRequestError(f"it has no {EVENTS}")


def _list(reader: JsonReader, place: str, report: Report) -> Iterator[Event]:
    for at, record in objects(reader, place, report, once=_MATTER):
        try:
            event = _event(report.read - 1, record, report)
        except (UnfitError, TimeError) as error:
            reason = error.reason if isinstance(error, UnfitError) else str(error)
            detail = f": {error.detail}" if isinstance(error, UnfitError) and error.detail else ""
            report.refuse(reason, f"{at}{detail}")
            continue
        if event is not None:
            yield event


def _event(index: int, record: dict[str, Any], report: Report) -> Event | None:
    phase, category = record.get("ph"), record.get("cat")
    if phase != "X":
        report.note(_PHASES.get(phase if isinstance(phase, str) else "", "events of other phases than X, left out"))
        return None
    known = CATEGORIES.get(category.lower()) if isinstance(category, str) else None
    if known is None:
        other = _OTHERS.get(category.lower()) if isinstance(category, str) else None
        report.note(other or "events of categories that are no stage, left out")
        return None
    start_ns = scaled_ns(record.get("ts"), US, "ts")
    end_ns = start_ns + scaled_ns(record.get("dur"), US, "dur")
    if end_ns > MOST_NS:
        raise TimeError("it ends beyond 64 bits of nanoseconds")
    name = text_of(record.get("name"), "name")
    if known[0] is Kind.OPERATOR and STEP.fullmatch(name):  # as PyTorch 1.8 wrote them
        known = Kind.ANNOTATION, ""
    args = dict_of(record.get("args"), "args")
    correlation = args.get("correlation")
    return Event(
        index=index,
        kind=known[0],
        op=known[1],
        name=name,
        thread=(_number_or_text(record.get("pid"), "pid"), _number_or_text(record.get("tid"), "tid")),
        start_ns=start_ns,
        end_ns=end_ns,
        correlation=correlation if isinstance(correlation, int) and 0 < correlation <= MOST_NS else 0,
        args=args,
    )


def _number_or_text(value: object, what: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnfitError(f"its {what} is neither a number nor a text", short(value))
    return value if isinstance(value, int) else value[:200]


def _note_around(around: Around, key: str, value: object, report: Report) -> None:
    if key == "baseTimeNanoseconds":
        around.base_ns = scaled_ns(value, 1, key)
    elif key == "distributedInfo":
        about = dict_of(value, key)
        around.rank, around.world_size = (_count(about.get(name)) for name in ("rank", "world_size"))
        backend = about.get("backend")
        around.backend = backend[:200] if isinstance(backend, str) else None
    else:
        for each in value if isinstance(value, list) else ():
            device = _count(each.get("id")) if isinstance(each, dict) else None
            name = each.get("name") if isinstance(each, dict) else None
            if device is None or not isinstance(name, str) or not name:
                report.note("devices without an id or a name in deviceProperties, left out")
            else:
                around.devices[device] = name[:200]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_NS else None
