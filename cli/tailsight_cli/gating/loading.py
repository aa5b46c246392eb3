"""Files into a store of their own, one after the other, so that nothing of one can be taken for another's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tailsight_cli.gating.sources import FileSource
from tailsight_cli.recording.folders import private_folder
from tailsight_cli.recording.run_file import read_run_file
from tailsight_collector.importer import INSERT_BYTES, read_requests
from tailsight_collector.keep.records import encode_record
from tailsight_storage import ChdbDsn, Store, open_store


@contextmanager
def private_store() -> Iterator[Store]:
    """Open an embedded store in a temporary folder of this user's, and remove both at the end, whatever happens.

    Only SIGKILL leaves it behind: the next recording or gate removes it.
    """
    with private_folder() as folder, open_store(ChdbDsn(folder), create=True) as store:
        yield store


def load_only(store: Store, source: FileSource, number: int) -> None:
    """Make the spans of a file the only ones in the store. `number` tells files of equal content apart.

    Raises UnreadableFileError, and StorageError where the store refuses.
    """
    store.run("TRUNCATE TABLE spans")
    received_ns = time.time_ns()
    batch: list[bytes] = []
    size_bytes = parts = 0

    def insert() -> None:
        nonlocal batch, size_bytes, parts
        if batch:
            store.insert_otlp_traces(b"".join(batch), f"gate-{number}-{parts}")
            batch, size_bytes, parts = [], 0, parts + 1

    for message in _messages(source):
        batch.append(encode_record(message, received_ns))
        size_bytes += len(message)
        if size_bytes >= INSERT_BYTES:
            insert()
    insert()


def _messages(source: FileSource) -> Iterator[bytes]:
    """Yield encoded requests: as they lie in a run file, or decoded from any other kind that `import` takes."""
    if source.header is not None:
        yield from read_run_file(source.path).messages()
    else:
        yield from (request.SerializeToString() for request in read_requests(source.path))
