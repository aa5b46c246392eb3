"""A profile as it is sent and kept: joined samples, turned into the columns of docs/profiles.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tailsight_analysis.flames import text_of
from tailsight_analysis.profiled import Labels, RequestClasses
from tailsight_analysis.profiles import JoinedSample, Match
from tailsight_storage.profile_shape import MAX_DEPTH, MAX_FRAME_LENGTH, MAX_TEXT

_NO_LABELS = Labels("", "", "")


class DocumentWriter:
    """Collects samples; those of a thread that follow each other with the same stack and span become one row."""

    def __init__(self, service: str, host: str, process: int, labels: Mapping[str, Labels]) -> None:
        self._service, self._host, self._process = service, host, process
        self._labels = labels
        self._frames: dict[str, int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._places: dict[tuple[object, ...], int] = {}
        self._written_places: list[dict[str, object]] = []
        self._columns: dict[str, list[Any]] = {"time_ns": [], "place": [], "stack": [], "state": [], "count": []}
        self._latest: dict[int, tuple[tuple[int, int, str], int]] = {}  # by thread: what its last row is of, and where
        self.samples = self.joined = self.ambiguous = 0

    def add(self, sample: JoinedSample) -> None:
        """Take a sample; those of a thread in the order of time."""
        self.samples += 1
        self.joined += sample.match in (Match.EXACT, Match.STAGE)
        self.ambiguous += sample.match is Match.AMBIGUOUS
        key = (self._place(sample), self._stack(sample), sample.state.value)
        before = self._latest.get(sample.thread_id)
        if before and before[0] == key:
            self._columns["count"][before[1]] += 1
            return
        self._latest[sample.thread_id] = (key, len(self._columns["count"]))
        for name, value in zip(("time_ns", "place", "stack", "state", "count"), (sample.time_ns, *key, 1), strict=True):
            self._columns[name].append(value)

    def _stack(self, sample: JoinedSample) -> int:
        # of a stack that is too deep the innermost part: what runs
        texts = (text_of(frame)[:MAX_FRAME_LENGTH] for frame in sample.stack[-MAX_DEPTH:])
        stack = tuple(self._frames.setdefault(text, len(self._frames)) for text in texts)
        return self._stacks.setdefault(stack, len(self._stacks))

    def _place(self, sample: JoinedSample) -> int:
        key = (sample.trace_id, sample.span_id, sample.stage, sample.match, sample.thread_id, sample.also)
        if (known := self._places.get(key)) is not None:
            return known
        labels = self._labels.get(sample.span_id, _NO_LABELS)
        texts = {
            "stage": sample.stage,
            "service": labels.service or self._service,
            "host": self._host,
            "version": labels.version,
            "run": sample.run,
            "hardware": sample.hardware,
            "model": labels.model,
        }
        self._written_places.append(
            {
                **{name: text[:MAX_TEXT] for name, text in texts.items()},
                "trace_id": sample.trace_id,
                "span_id": sample.span_id,
                "process": self._process,
                "thread": sample.thread_id,
                "class": sample.request_class,
                "match": sample.match.value,
                "also": list(sample.also),
            }
        )
        self._places[key] = len(self._places)
        return self._places[key]

    def document(self, said: Mapping[str, object], requests: Mapping[str, Sequence[object]]) -> dict[str, Any]:
        """Return the document; `said` is of the whole recording, `requests` are columns."""
        counts = {"samples": self.samples, "joined": self.joined, "ambiguous": self.ambiguous}
        return {
            "profile": {"service": self._service, "host": self._host, "process": self._process, **counts, **said},
            "frames": list(self._frames),
            "stacks": [list(stack) for stack in self._stacks],
            "places": self._written_places,
            "samples": self._columns,
            "requests": dict(requests),
        }


def requests_of(served: Iterable[tuple[str, str]], classes: RequestClasses) -> dict[str, list[object]]:
    """Write the requests that a process served, given their trace ids and runs, as columns."""
    rows = [
        (trace_id, classes.classes.get(trace_id, ""), run, classes.durations_ns[trace_id])
        for trace_id, run in served
        if trace_id in classes.durations_ns
    ]
    names = ("trace_id", "class", "run", "duration_ns")
    return {name: [row[number] for row in rows] for number, name in enumerate(names)}
