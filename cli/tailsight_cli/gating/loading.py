"""Files into a store of their own, one after the other, so that nothing of one can be taken for another's."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

from tailsight_cli.gating.sources import FileSource
from tailsight_cli.recording.folders import private_folder
from tailsight_cli.recording.run_file import read_run_file
from tailsight_cli.source_options import SOURCES_ENV, rules_of
from tailsight_collector.importer import read_requests
from tailsight_collector.keep.records import encode_varint
from tailsight_collector.sources import SourceStages
from tailsight_storage import Store, open_scratch

_MOST_WRITERS = 4  # segments that are decoded beside each other
_SEGMENT_BYTES = 8 * 1024 * 1024  # what is made of more takes new memory each time, which costs more than it saves


class PrivateStore:
    """A store in a temporary folder, for the spans of one file at a time."""

    def __init__(self, store: Store, writers: list[Store]) -> None:
        self.store = store
        self._writers: SimpleQueue[Store] = SimpleQueue()
        self._count = len(writers)
        for writer in writers:
            self._writers.put(writer)

    def load_only(self, source: FileSource, number: int) -> None:
        """Make the spans of a file the only ones in the store. `number` tells files of equal content apart.

        Raises UnreadableFileError, and StorageError where the store refuses.
        """
        self.store.run("TRUNCATE TABLE spans")
        running: deque[Future[None]] = deque()
        with ThreadPoolExecutor(self._count) as pool:
            for part, segment in enumerate(_segments(source)):
                if len(running) > self._count:  # so that no more than this lies in memory
                    running.popleft().result()
                running.append(pool.submit(self._insert, segment, f"gate-{number}-{part}"))
            for each in running:
                each.result()

    def _insert(self, segment: bytes, token: str) -> None:
        writer = self._writers.get()
        try:
            writer.insert_otlp_traces(segment, token)
        finally:
            self._writers.put(writer)


@contextmanager
def private_store() -> Iterator[PrivateStore]:
    """Open an embedded store in a temporary folder of this user's, and remove both at the end, whatever happens.

    Only SIGKILL leaves it behind: the next recording or gate removes it.
    """
    with private_folder() as folder, open_scratch(folder) as store, ExitStack() as stack:
        writers = min(_MOST_WRITERS, len(os.sched_getaffinity(0)))
        yield PrivateStore(store, [stack.enter_context(store.another()) for _ in range(writers)])


def _segments(source: FileSource) -> Iterator[bytes]:
    """Yield a file's spans as length-delimited requests, many at a time."""
    batch: list[bytes] = []
    size_bytes = 0
    for message in _messages(source):
        batch += (encode_varint(len(message)), message)
        size_bytes += len(message)
        if size_bytes >= _SEGMENT_BYTES:
            yield b"".join(batch)
            batch, size_bytes = [], 0
    if batch:
        yield b"".join(batch)


def _messages(source: FileSource) -> Iterator[bytes]:
    """Yield encoded requests, with the stages that the rules of sources see in them."""
    sources = os.environ.get(SOURCES_ENV)
    stages = SourceStages(rules_of(Path(sources) if sources else None))
    now_ns = time.time_ns()
    return (stages.applied(message, now_ns) for message in _messages_in(source))


def _messages_in(source: FileSource) -> Iterator[bytes]:
    """Yield encoded requests: as they lie in a run file, or decoded from any other kind that `import` takes."""
    if source.header is not None:
        yield from read_run_file(source.path).messages()
    else:
        yield from (request.SerializeToString() for request in read_requests(source.path))
