"""OTLP files into a collector or straight into a store.

A file is `.otlp` (length-delimited `ExportTraceServiceRequest` messages, what the SDK's file transport and the sample
traces are), one OTLP protobuf request, one OTLP/JSON request, or JSON lines of such requests (the OpenTelemetry file
exporter); each also packed as `.gz` or `.zst`. The kind is found by content, not by name.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import httpx
import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tailsight_collector.errors import BadRequestError, CollectorError, UnknownFormatError, UnreadableFileError
from tailsight_collector.keep.records import encode_record, split_messages
from tailsight_collector.receive import otlp_json
from tailsight_collector.receive.checks import DAY_NS, YEAR_2000_NS, check
from tailsight_collector.receive.signals import PROTOBUF
from tailsight_collector.zstd_frames import is_zstd, unpacked
from tailsight_storage import Store

INSERT_BYTES = 16 * 1024 * 1024
SEND_ATTEMPTS = 8
SEND_TIMEOUT_S = 60.0
MAX_RETRY_WAIT_S = 10.0
_RETRYABLE = frozenset({429, 502, 503, 504})
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(slots=True)
class Imported:
    """What an import read. The window is [first start, last end] of the accepted spans, in Unix nanoseconds.

    `skipped` says of each file that is no trace file what it is instead.
    """

    files: int = 0
    skipped: list[str] = field(default_factory=list)
    spans: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first_start_ns: int = 0
    last_end_ns: int = 0

    @property
    def accepted_spans(self) -> int:
        """How many spans were stored."""
        return self.spans - self.rejected.total()


class Target(Protocol):
    """Where requests go."""

    def send(self, requests: Iterator[ExportTraceServiceRequest]) -> None:
        """Take the requests of one file."""


class CollectorTarget:
    """A running collector, over OTLP/HTTP."""

    def __init__(
        self,
        endpoint: str,
        sleep: Callable[[float], None] = time.sleep,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` are further ones, with a token, say."""
        self._headers = {**(headers or {}), "Content-Type": PROTOBUF}
        self._url = endpoint.rstrip("/").removesuffix("/v1/traces") + "/v1/traces"
        self._endpoint = endpoint
        self._sleep = sleep

    def send(self, requests: Iterator[ExportTraceServiceRequest]) -> None:
        """Post each request, waiting out a collector that is busy; raises CollectorError where it cannot."""
        with httpx.Client(timeout=SEND_TIMEOUT_S) as client:
            for request in requests:
                self._post(client, request.SerializeToString())

    def _post(self, client: httpx.Client, body: bytes) -> None:
        for attempt in range(SEND_ATTEMPTS):
            try:
                answer = client.post(self._url, content=body, headers=self._headers)
            except httpx.HTTPError as error:
                raise CollectorError(
                    f"collector {self._endpoint} does not answer: {error}; start one with `tailsight up`, "
                    "name another with --endpoint, or load into a folder with --store chdb:///folder"
                ) from None
            if answer.status_code == 200:
                ExportTraceServiceResponse.FromString(answer.content)  # an answer of something else raises
                return
            if answer.status_code in (401, 403):
                raise CollectorError(
                    f"{self._endpoint} asks for a token that may send (status {answer.status_code}): set "
                    "OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'; `tailsight token create` makes one"
                )
            if answer.status_code not in _RETRYABLE or attempt == SEND_ATTEMPTS - 1:
                raise CollectorError(
                    f"{self._endpoint} refused a request with status {answer.status_code}; "
                    "is that a collector's OTLP port (4318 by default)?"
                )
            wanted = answer.headers.get("Retry-After", "")
            self._sleep(min(float(wanted) if wanted.isdigit() else 2.0**attempt / 4, MAX_RETRY_WAIT_S))


class StoreTarget:
    """A store in this process, without a collector. The same file again on the same day (UTC) adds nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def send(self, requests: Iterator[ExportTraceServiceRequest]) -> None:
        """Insert the requests, many at a time; raises StorageError where the store refuses."""
        received_ns = time.time_ns()
        batch: list[bytes] = []
        size = 0
        for request in requests:
            batch.append(request.SerializeToString(deterministic=True))
            size += len(batch[-1])
            if size >= INSERT_BYTES:
                self._insert(batch, received_ns)
                batch, size = [], 0
        if batch:
            self._insert(batch, received_ns)

    def _insert(self, batch: list[bytes], received_ns: int) -> None:
        token = sha256(b"".join(batch)).hexdigest()  # of the content alone, so that a repetition is recognised
        segment = b"".join(encode_record(request, received_ns) for request in batch)
        self._store.insert_otlp_traces(segment, token)


def import_files(
    paths: Iterable[Path],
    target: Target,
    *,
    run: str | None = None,
    service: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Send all spans of the files; `run` and `service` replace those labels. `on_progress` gets the bytes read so far.

    Every file is read to its end and decoded before anything of it is sent, so that a broken file adds nothing. Files
    that are no trace files at all are skipped and named in the result, as `*` matches a README too; but if no other is
    left, that is an error. Raises UnreadableFileError with the file and what is wrong.
    """
    imported = Imported()
    bytes_done = 0
    unknown: UnknownFormatError | None = None
    for path in paths:
        try:
            requests = read_requests(path)
        except UnknownFormatError as error:
            unknown = error
            imported.skipped.append(str(error))
        else:
            for request in requests:
                relabel(request, run=run, service=service)
            target.send(_tallied(requests, imported))
            imported.files += 1
        bytes_done += path.stat().st_size
        on_progress(bytes_done)
    if unknown and not imported.files:
        raise unknown
    return imported


def read_requests(path: Path) -> list[ExportTraceServiceRequest]:
    """Read one file of any accepted kind; raises UnreadableFileError."""
    try:
        data = _unpacked(path.read_bytes())
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}") from None
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UnreadableFileError(f"{path}: the packed file is damaged: {error}") from None
    if not data:
        raise UnreadableFileError(f"{path}: the file is empty")
    try:
        if data.lstrip()[:1] in (b"{", b"["):
            return list(_from_json(data))
        return _from_protobuf(data)
    except _NoTraceError as error:
        raise UnknownFormatError(f"{path}: {error}") from None
    except BadRequestError as error:
        raise UnreadableFileError(f"{path}: {error}") from None


class _NoTraceError(Exception):
    """The content is of no kind that is known here."""


def _unpacked(data: bytes) -> bytes:
    if data.startswith(_GZIP_MAGIC):
        return gzip.decompress(data)
    if is_zstd(data[:4]):
        return b"".join(unpacked(io.BytesIO(data)))
    return data


def _from_json(data: bytes) -> Iterator[ExportTraceServiceRequest]:
    try:
        documents = [json.loads(data)]
    except ValueError:
        documents = []
        for number, line in enumerate(data.splitlines(), 1):
            if line.strip():
                try:
                    documents.append(json.loads(line))
                except ValueError as error:
                    raise BadRequestError(f"line {number} is not JSON: {error}") from None
    for document in documents:
        if not isinstance(document, dict) or not ({"resourceSpans"} & document.keys()):
            shown = ", ".join(sorted(map(str, document))[:5]) if isinstance(document, dict) else type(document).__name__
            raise _NoTraceError(
                f"this JSON is not OTLP: it holds {shown or 'nothing'}; wanted is an object with resourceSpans"
            )
        yield otlp_json.traces_from_document(document)


def _from_protobuf(data: bytes) -> list[ExportTraceServiceRequest]:
    """Try length-delimited messages first, then one bare message: the former is never valid as the latter."""
    try:
        requests = [ExportTraceServiceRequest.FromString(bytes(message)) for message in split_messages(data)]
        if any(request.resource_spans for request in requests):
            return requests
    except (ValueError, DecodeError):
        pass
    try:
        request = ExportTraceServiceRequest.FromString(data)
    except DecodeError:
        request = ExportTraceServiceRequest()
    if not request.resource_spans:
        raise _NoTraceError(
            f"the file begins with {_beginning(data)} and is neither OTLP protobuf (one request, or length-delimited "
            "requests as .otlp) nor OTLP/JSON; each may be packed as .gz or .zst"
        )
    return [request]


def _beginning(data: bytes) -> str:
    text = data[:12]
    return repr(text.decode()) if text.isascii() and text.decode().isprintable() else text.hex(" ")


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


def _tallied(requests: Iterable[ExportTraceServiceRequest], imported: Imported) -> Iterator[ExportTraceServiceRequest]:
    """Count what passes by."""
    for request in requests:
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
        yield request
