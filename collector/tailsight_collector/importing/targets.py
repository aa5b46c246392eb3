"""Where batches go: a running collector, or a store in this process. Both store a batch once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Protocol

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tailsight_collector.errors import CollectorError
from tailsight_collector.importing.spool import Batch
from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.checks import batch_in
from tailsight_collector.receive.signals import PROTOBUF
from tailsight_collector.sources import SourceStages
from tailsight_storage import Store, load_query
from tailsight_storage.source_rules import Rules

INSERT_BYTES = 16 * 1024 * 1024
SEND_ATTEMPTS = 8
SEND_TIMEOUT_S = 60.0
MAX_RETRY_WAIT_S = 10.0
_RETRYABLE = frozenset({429, 502, 503, 504})

Sent = Callable[[int, bool], None]
"""Told of each batch: its spans, and whether the target says that it had them already."""


class Target(Protocol):
    """Where batches go."""

    def send(self, batches: Iterator[Batch], on_sent: Sent) -> None:
        """Take the batches of one file; those that `on_sent` was told of are safe."""


class CollectorTarget:
    """A running collector, over OTLP/HTTP. It remembers the batches' numbers; whether it had one it does not say."""

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

    def send(self, batches: Iterator[Batch], on_sent: Sent) -> None:
        """Post each batch, waiting out a collector that is busy; raises CollectorError where it cannot."""
        with httpx.Client(timeout=SEND_TIMEOUT_S) as client:
            for batch in batches:
                self._post(client, batch.body + batch.numbering)
                on_sent(batch.spans, False)

    def _post(self, client: httpx.Client, body: bytes) -> None:
        for attempt in range(SEND_ATTEMPTS):
            try:
                answer = client.post(self._url, content=body, headers=self._headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise CollectorError(
                    f"collector {self._endpoint} does not answer: {error}; start one with `tailsight up`, "
                    "name another with --endpoint, or load into a folder with --store chdb:///folder"
                ) from None
            if answer.status_code == 200:
                self._check_answer(answer.content)
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

    def _check_answer(self, content: bytes) -> None:
        try:
            ExportTraceServiceResponse.FromString(content)
        except DecodeError:
            raise CollectorError(
                f"{self._endpoint} answers with something else than OTLP; is that a collector's OTLP port "
                "(4318 by default)?"
            ) from None


class StoreTarget:
    """A store in this process, without a collector. It has a list of the batches whose spans it holds."""

    def __init__(self, store: Store, rules: Rules | None = None) -> None:
        """`rules` of sources: the built-in ones, unless others are given."""
        self._store = store
        self._sources = SourceStages(rules)
        self._known: dict[str, frozenset[tuple[int, int, int, int]]] = {}

    def send(self, batches: Iterator[Batch], on_sent: Sent) -> None:
        """Insert the batches, many at a time; raises StorageError where the store refuses."""
        received_ns = time.time_ns()
        waiting: list[Batch] = []
        size = 0
        for batch in batches:
            if self._has(batch):
                on_sent(batch.spans, True)
                continue
            waiting.append(batch)
            size += len(batch.body)
            if size >= INSERT_BYTES:
                self._insert(waiting, received_ns, on_sent)
                waiting, size = [], 0
        if waiting:
            self._insert(waiting, received_ns, on_sent)

    def _has(self, batch: Batch) -> bool:
        # A batch with its sender's own number is inserted together with that number, spans first if decoded here.
        if not batch.numbering and not self._store.decodes_here:
            return False
        named = batch_in(batch.body + batch.numbering)
        if named is None:
            return False
        sender, *of_batch = named
        if sender not in self._known:
            rows = self._store.ask(load_query("tailsight_collector", "batches_of_sender"), sender=sender)
            self._known[sender] = frozenset(
                (row["number"], row["spans"], row["recorded"], row["sent_total"]) for row in rows
            )
        return tuple(of_batch) in self._known[sender]

    def _insert(self, batches: list[Batch], received_ns: int, on_sent: Sent) -> None:
        # of what was read alone, so that a repetition is recognised, also with other rules
        token = sha256(b"".join(batch.body for batch in batches)).hexdigest()
        changed = (self._sources.applied(batch.body, received_ns) for batch in batches)
        self._store.insert_otlp_traces(b"".join(encode_record(body, received_ns) for body in changed), token)
        # the numbers afterwards: whoever finds one may rely on it that the spans are there
        numbers = b"".join(encode_record(batch.numbering, received_ns) for batch in batches if batch.numbering)
        if numbers:
            self._store.insert_otlp_traces(numbers, f"{token}-numbers")
        for batch in batches:
            on_sent(batch.spans, False)
