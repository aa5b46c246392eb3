"""What a format is: how a file is recognised by its content, and how its records become OTLP requests.

To add a format, write a module beside this one that ends with

    FORMAT = Format(name="zipkin", title="Zipkin v2 JSON", recognises=recognises, read=read)

and name it in known.py. `recognises` sees the unpacked beginning of a file (HEAD_BYTES at most, often cut off in the
middle) and must be quick and never raise; shape.py tells what a JSON document's beginning holds. `read` is a generator:
it opens the source as often as it needs (`source.open()`, unpacked bytes from the start), yields requests of bounded
size (bundle.py groups spans), and holds no more than a bounded part of the file; json_reader.py reads JSON piecewise.
What it does with each record goes into the report: `report.read` counts records (spans, events, rows, …),
`report.kept` spans that it yields, `report.refuse` what it leaves out, why, and where that was first.
A file that is broken as a whole raises BadRequestError with the place; nothing of it is stored then.

The rules for all: the same file gives the same requests, byte for byte (no clock, no randomness, no set order), so
ids that a file lacks come from ids.py; ids that it has are kept or refused, never shortened; a time that it does not
say is never invented: refuse the record, or ask for an option (`options.start_ns`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HEAD_BYTES = 64 * 1024
# So many reasons are told apart; a hostile file must not make one for each record.
MAX_REASONS = 100


class Source(Protocol):
    """A file's content, unpacked. It can be read several times; also what came by stdin."""

    name: str
    head: bytes

    def open(self) -> BinaryIO:
        """Return a stream of the unpacked bytes from the start; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says about files.

    `start_ns`: when a trace without wall-clock times began, in Unix nanoseconds. `mapping`: the texts of `--map`.
    """

    start_ns: int | None = None
    mapping: tuple[str, ...] = ()


@dataclass(slots=True)
class Refusal:
    """How many records were left out for one reason, and where the first one was."""

    count: int
    first: str


@dataclass(slots=True)
class Report:
    """What came of one file's records.

    `unit`: what a record is, in the plural. `read`: records seen. `kept`: spans made of them (one record may make
    several, or none). `refused`: reason → how often and where first. `notes`: what was kept, but the reader of the
    result should know (times that were set by an option, halves with new ids, …) → how often.
    """

    unit: str = "spans"
    read: int = 0
    kept: int = 0
    refused: dict[str, Refusal] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, place: str, count: int = 1) -> None:
        """Count records that are left out. `reason` is one of few texts; values belong into `place`."""
        if reason not in self.refused and len(self.refused) >= MAX_REASONS:
            reason = "other reasons"
        known = self.refused.setdefault(reason, Refusal(0, place))
        known.count += count

    def note(self, text: str, count: int = 1) -> None:
        """Count what is kept and worth knowing. `text` is one of few."""
        if text in self.notes or len(self.notes) < MAX_REASONS:
            self.notes[text] = self.notes.get(text, 0) + count

    @property
    def refused_records(self) -> int:
        """How many records were left out."""
        return sum(refusal.count for refusal in self.refused.values())


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file. `name`: a word for --json; `title`: in words, for messages ("Jaeger JSON")."""

    name: str
    title: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Source, Options, Report], Iterator[ExportTraceServiceRequest]]
