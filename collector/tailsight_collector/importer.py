"""Trace files of any known format into a collector or straight into a store.

The format is found by content (importing/registry.py); gzip and zstd are unpacked on the way. A file is read to its end
and kept aside (importing/spool.py) before anything of it is sent: a broken file adds nothing, and the same file again
adds nothing either.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight.attributes import SENDER_ID
from tailsight_collector.errors import CollectorError, UnknownFormatError, UnreadableFileError
from tailsight_collector.importing.known import FORMATS, format_of
from tailsight_collector.importing.registry import Format, Options, Report
from tailsight_collector.importing.shape import in_words
from tailsight_collector.importing.source import FileSource, file_source, translated
from tailsight_collector.importing.spool import Spool, pieces
from tailsight_collector.importing.targets import CollectorTarget, StoreTarget, Target
from tailsight_collector.receive.checks import DAY_NS, YEAR_2000_NS, check

__all__ = [
    "CollectorTarget",
    "FileReport",
    "Imported",
    "StoreTarget",
    "Target",
    "import_files",
    "import_sources",
    "read_requests",
    "relabel",
    "requests_of",
]

Progress = Callable[[str, int, int], None]
"""Told what is being done ("reading", "storing"), how much of it is done, and of how much: bytes, or spans."""

Takes = Callable[[FileSource], bool]
"""Asked of each file before it is read as a trace: whether it is something else, which the caller has dealt with. It
may raise UnreadableFileError."""


@dataclass(slots=True)
class FileReport:
    """What came of one file. `format`: its name; `report`: of its records; `spans`: stored, or tried to.

    `already`: spans of these that the store is known to have had; `same_as`: a file before it with the same content.
    """

    name: str
    format: str
    title: str
    report: Report
    spans: int = 0
    already: int = 0
    same_as: str = ""


@dataclass(slots=True)
class Imported:
    """What an import read. The window is [first start, last end] of the accepted spans, in Unix nanoseconds.

    `skipped` says of each file that is no trace file what it is instead, `failed` of each that could not be read why.
    """

    files: int = 0
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reports: list[FileReport] = field(default_factory=list)
    spans: int = 0
    already: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first_start_ns: int = 0
    last_end_ns: int = 0

    @property
    def accepted_spans(self) -> int:
        """How many spans were stored, or were in the store already."""
        return self.spans - self.rejected.total()


def import_files(
    paths: Iterable[Path],
    target: Target,
    *,
    run: str | None = None,
    service: str | None = None,
    options: Options | None = None,
) -> Imported:
    """Import files by their paths; as `import_sources`."""
    return import_sources(
        (partial(file_source, path) for path in paths), target, run=run, service=service, options=options
    )


def import_sources(
    sources: Iterable[Callable[[], FileSource]],
    target: Target,
    *,
    run: str | None = None,
    service: str | None = None,
    options: Options | None = None,
    on_progress: Progress = lambda _what, _done, _total: None,
    takes: Takes = lambda _source: False,
    taken: str = "",
) -> Imported:
    """Send all spans of the sources; `run` and `service` replace those labels.

    What `takes` takes is left out; `taken` says in words what that is, for the message about a file of neither kind.

    Every file is read to its end before anything of it is sent, so that a broken file adds nothing; the others are read
    all the same, and `failed` names it. Files that are no trace files at all are in `skipped`, as `*` matches a README
    too. If no file is left, the first error is raised: UnreadableFileError, with the file and what is wrong.
    """
    imported = Imported()
    first_error: UnreadableFileError | None = None
    others = 0
    sent: dict[str, str] = {}  # what has gone out in this call, by its identity
    for open_source in sources:
        try:
            source = open_source()
            _tell_reading(source, on_progress)
            if takes(source):
                others += 1
                continue
            with Spool() as spool:
                of_file = _read_into(spool, source, imported, options or Options(), on_progress, run, service, taken)
                if spool.sender in sent:
                    of_file.same_as, of_file.already = sent[spool.sender], of_file.spans
                else:
                    _send(spool, of_file, target, on_progress)
                    sent[spool.sender] = source.name
                imported.files += 1
                imported.already += of_file.already
        except UnknownFormatError as error:
            first_error = first_error or error
            imported.skipped.append(str(error))
        except UnreadableFileError as error:
            first_error = error if first_error is None or isinstance(first_error, UnknownFormatError) else first_error
            imported.failed.append(str(error))
    if first_error and not imported.files and not others:
        raise first_error
    return imported


def read_requests(path: Path, options: Options | None = None) -> Iterator[ExportTraceServiceRequest]:
    """Read one file of any known format; raises UnreadableFileError."""
    yield from requests_of(file_source(path), options)


def requests_of(
    source: FileSource, options: Options | None = None, on_progress: Progress = lambda _what, _done, _total: None
) -> Iterator[ExportTraceServiceRequest]:
    """Read a source of any known format; raises UnreadableFileError."""
    report = Report()
    with translated(source.name):
        yield from _watched(source, on_progress).read(source, options or Options(), report)
        _refuse_if_nothing_is_kept(source, report)


def _watched(source: FileSource, on_progress: Progress, taken: str = "") -> Format:
    """Find a source's format, and let the progress be told from here on."""
    found = _format(source, taken)
    _tell_reading(source, on_progress)
    return found


def _tell_reading(source: FileSource, on_progress: Progress) -> None:
    furthest = 0

    def on_read(done: int) -> None:
        nonlocal furthest
        furthest = max(furthest, done)  # some formats go through a file twice
        on_progress(f"reading {source.name}", furthest, source.size_bytes)

    source.on_read = on_read


def _format(source: FileSource, taken: str) -> Format:
    if not source.head:
        raise UnreadableFileError(f"{source.name}: the file is empty")
    found = format_of(source.head)
    if found is None:
        titles = "; ".join([*(each.title for each in FORMATS), *([taken] if taken else [])])
        raise UnknownFormatError(
            f"{source.name}: it begins with {in_words(source.head)}, and that is none of the formats that can be read: "
            f"{titles}; each may be packed as .gz or .zst"
        )
    return found


def _refuse_if_nothing_is_kept(source: FileSource, report: Report) -> None:
    if report.kept or not report.refused:
        return
    reason, refusal = max(report.refused.items(), key=lambda item: item[1].count)
    raise UnreadableFileError(
        f"{source.name}: none of its {report.read:,} {report.unit} can be kept: {reason} ({refusal.count:,} times, "
        f"first at {refusal.first})"
    )


def _read_into(
    spool: Spool,
    source: FileSource,
    imported: Imported,
    options: Options,
    on_progress: Progress,
    run: str | None,
    service: str | None,
    taken: str,
) -> FileReport:
    """Put all of a file's spans aside, and count them."""
    report = Report()
    found = Imported()
    with translated(source.name):
        format_ = _watched(source, on_progress, taken)
        for request in format_.read(source, options, report):
            if run is not None or service is not None:
                relabel(request, run=run, service=service)
                _rename_senders(request, run, service)
            for piece in pieces(request):
                _count(piece, found)
                spool.add(piece)
        _refuse_if_nothing_is_kept(source, report)
    imported.spans += found.spans
    imported.rejected.update(found.rejected)
    if found.first_start_ns:
        first = imported.first_start_ns or found.first_start_ns
        imported.first_start_ns = min(first, found.first_start_ns)
        imported.last_end_ns = max(imported.last_end_ns, found.last_end_ns)
    of_file = FileReport(source.name, format_.name, format_.title, report, found.spans)
    imported.reports.append(of_file)
    return of_file


def _send(spool: Spool, of_file: FileReport, target: Target, on_progress: Progress) -> None:
    done = 0

    def on_sent(spans: int, already: bool) -> None:
        nonlocal done
        done += spans
        of_file.already += spans if already else 0
        on_progress(f"storing {of_file.name}", done, spool.spans)

    try:
        target.send(spool.batches(), on_sent)
    except CollectorError as error:
        raise _SendError(f"{error} ({done:,} of the {spool.spans:,} spans of {of_file.name} are stored)") from None


class _SendError(CollectorError):
    """The collector takes no more: no other file is worth trying."""


def relabel(request: ExportTraceServiceRequest, *, run: str | None = None, service: str | None = None) -> None:
    """Put other labels on all spans of a request; None leaves them as they are."""
    for key, value in (("tailsight.run", run), ("service.name", service)):
        if value is None:
            continue
        for resource_spans in request.resource_spans:
            attributes = resource_spans.resource.attributes
            kept = [attribute for attribute in attributes if attribute.key != key]
            del attributes[:]
            attributes.extend(kept)
            attributes.add(key=key).value.string_value = value


def _rename_senders(request: ExportTraceServiceRequest, run: str | None, service: str | None) -> None:
    """Give numbered batches another sender: with other labels they are others, and no repetition of what was sent."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for attribute in scope_spans.scope.attributes:
                if attribute.key == SENDER_ID:
                    renamed = repr((attribute.value.string_value, run, service))
                    attribute.value.string_value = sha256(renamed.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _count(request: ExportTraceServiceRequest, imported: Imported) -> None:
    """Count what will be stored and rejected, and find the window."""
    now_ns = time.time_ns()
    checked = check(request, now_ns)
    imported.spans += checked.spans
    imported.rejected.update(checked.rejected)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if YEAR_2000_NS <= span.start_time_unix_nano <= span.end_time_unix_nano <= now_ns + DAY_NS:
                    first = imported.first_start_ns or span.start_time_unix_nano
                    imported.first_start_ns = min(first, span.start_time_unix_nano)
                    imported.last_end_ns = max(imported.last_end_ns, span.end_time_unix_nano)
